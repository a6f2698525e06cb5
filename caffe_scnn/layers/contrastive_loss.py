"""ContrastiveLoss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.loss import Loss
from caffe_scnn.model.net import Layer


class ContrastiveLoss(Loss):
    """``Σ y d² + (1 − y) max(margin − d, 0)²`` over 2N (``contrastive_loss_layer.cpp``)."""

    type: ClassVar[str] = "ContrastiveLoss"
    bottoms: ClassVar[tuple[int, int | None]] = (3, 3)

    def loss(self, layer: Layer, *bottoms: Array) -> float:
        """Take the distance of pairs; the legacy form subtracts its square from the margin."""
        param = layer.proto.contrastive_loss_param
        a, b, same = bottoms
        square = ((a - b).reshape(len(a), -1) ** 2).sum(axis=1)
        apart = param.margin - (square if param.legacy_version else np.sqrt(square))
        far = np.maximum(apart, 0) if param.legacy_version else np.maximum(apart, 0) ** 2
        return float(np.where(same.reshape(-1) != 0, square, far).sum() / len(a) / 2)
