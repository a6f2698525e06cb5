"""Losses: they train a net, and tell at TEST how good it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array, LayerType, Shape, refuse
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb

LOG_FLOOR = 1e-20  # Caffe's kLOG_THRESHOLD
TINY = float(np.finfo(np.float32).tiny)


class Loss(LayerType):
    """Base of the losses: two bottoms, one number."""

    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return a scalar."""
        if bottoms[0][:1] != bottoms[1][:1]:
            raise refuse(layer, f"its bottoms differ in the number of items: {list(bottoms)}")
        return [()] * len(layer.tops)

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Compute the loss."""
        return [np.asarray(self.loss(layer, *bottoms))]

    @abstractmethod
    def loss(self, layer: Layer, *bottoms: Array) -> float:
        """Return the loss of a batch."""


def labels_of(values: Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return class indices as integers."""
    return values.reshape(-1).astype(np.int64)


def normalizer(layer: Layer, items: int, positions: int, valid: int) -> float:
    """Return what a loss is divided by (``LossParameter.normalization``)."""
    param = layer.proto.loss_param
    mode = param.normalization
    if param.HasField("normalize") and not param.HasField("normalization"):
        mode = pb.LossParameter.VALID if param.normalize else pb.LossParameter.BATCH_SIZE
    sizes = {
        pb.LossParameter.FULL: items * positions,
        pb.LossParameter.VALID: valid,
        pb.LossParameter.BATCH_SIZE: items,
        pb.LossParameter.NONE: 1,
    }
    return float(max(1, sizes[mode]))
