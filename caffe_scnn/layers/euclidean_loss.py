"""EuclideanLoss."""

from __future__ import annotations

from typing import ClassVar

from caffe_scnn.layers.base import Array, refuse
from caffe_scnn.layers.loss import Loss
from caffe_scnn.model.net import Layer


class EuclideanLoss(Loss):
    """``Σ (a − b)² / 2N`` (``euclidean_loss_layer.cpp``)."""

    type: ClassVar[str] = "EuclideanLoss"

    def loss(self, layer: Layer, *bottoms: Array) -> float:
        """Sum over everything."""
        a, b = bottoms
        if a[0].size != b[0].size:
            raise refuse(layer, f"its bottoms differ in size: {a.shape} and {b.shape}")
        return float(((a.reshape(-1) - b.reshape(-1)) ** 2).sum() / len(a) / 2)
