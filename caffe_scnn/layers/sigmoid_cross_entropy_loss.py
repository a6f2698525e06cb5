"""SigmoidCrossEntropyLoss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.loss import Loss, normalizer
from caffe_scnn.model.net import Layer


class SigmoidCrossEntropyLoss(Loss):
    """Cross entropy of sigmoid(x) and targets in [0, 1]."""

    type: ClassVar[str] = "SigmoidCrossEntropyLoss"

    def loss(self, layer: Layer, *bottoms: Array) -> float:
        """Use the form that does not overflow (``sigmoid_cross_entropy_loss_layer.cpp``)."""
        x, target = bottoms[0].reshape(-1), bottoms[1].reshape(-1)
        kept = np.ones(len(x), bool)
        if layer.proto.loss_param.HasField("ignore_label"):
            kept = target.astype(np.int64) != layer.proto.loss_param.ignore_label
        value = x * (target - (x >= 0)) - np.log1p(np.exp(x - 2 * x * (x >= 0)))
        items = len(bottoms[0])
        param = layer.proto.loss_param
        given = param.HasField("normalization") or param.HasField("normalize")
        # its own default is the batch size (sigmoid_cross_entropy_loss_layer.cpp)
        size = normalizer(layer, items, len(x) // items, int(kept.sum())) if given else items
        return float(-value[kept].sum() / size)
