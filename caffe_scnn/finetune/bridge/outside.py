"""Layers without a gradient of their own: computed by the library's reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from caffe_scnn.errors import UnsupportedLayer
from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.layers.base import refuse


class Outside(LayerModule):
    """Any other type: its values are right, and asking for its gradient is an error.

    Among them are layers that no gradient passes in Caffe either (ArgMax, Accuracy, PriorBox,
    DetectionOutput, Threshold, Python …), and types that a user registered.
    """

    types: ClassVar[tuple[str, ...]] = ()

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Leave PyTorch for the reference, and come back."""
        for own, blob in zip(self.layer.blobs, self.blobs, strict=True):
            own[...] = blob.detach().cpu().numpy().reshape(own.shape)
        tops: Sequence[Tensor] = _Reference.apply(self, *bottoms)  # type: ignore[no-untyped-call]
        return tops


class _Reference(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, module: Outside, *bottoms: Tensor) -> tuple[Tensor, ...]:
        context.module = module
        arrays = [b.detach().cpu().numpy().astype(np.float64) for b in bottoms]
        like = bottoms[0] if bottoms else torch.zeros(())
        tops = module.kind.reference(module.layer, arrays)
        return tuple(torch.from_numpy(np.array(top, order="C")).to(like) for top in tops)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        raise UnsupportedLayer(
            str(refuse(context.module.layer, "has no gradient; train on blobs before it"))
        )
