"""InfogainLoss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.loss import LOG_FLOOR, Loss, labels_of, normalizer
from caffe_scnn.model.net import Layer


class InfogainLoss(Loss):
    """``−mean Σ H(label, k) log p(k)`` (``infogain_loss_layer.cpp``); H is the third bottom."""

    type: ClassVar[str] = "InfogainLoss"
    bottoms: ClassVar[tuple[int, int | None]] = (3, 3)

    def loss(self, layer: Layer, *bottoms: Array) -> float:
        """Take the probabilities from a softmax of the scores."""
        axis = layer.proto.infogain_loss_param.axis
        scores = np.moveaxis(bottoms[0], axis, -1)
        scores = scores.reshape(-1, scores.shape[-1])
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        labels = labels_of(bottoms[1])
        gain = bottoms[2].reshape(p.shape[1], p.shape[1])[labels]
        items = len(bottoms[0])
        size = normalizer(layer, items, len(labels) // items, len(labels))
        return float(-(gain * np.log(np.maximum(p, LOG_FLOOR))).sum() / size)
