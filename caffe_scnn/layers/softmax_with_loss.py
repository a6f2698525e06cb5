"""SoftmaxWithLoss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array, Shape, count, refuse
from caffe_scnn.layers.loss import TINY, Loss, labels_of, normalizer
from caffe_scnn.model.net import Layer


class SoftmaxWithLoss(Loss):
    """``−mean log p(label)`` (``softmax_loss_layer.cpp``)."""

    type: ClassVar[str] = "SoftmaxWithLoss"
    tops: ClassVar[tuple[int, int | None]] = (0, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return a scalar, and the probabilities for a second top."""
        axis = layer.proto.softmax_param.axis
        if count(bottoms[1]) * bottoms[0][axis] != count(bottoms[0]):
            raise refuse(layer, f"{count(bottoms[1])} labels do not fit scores {bottoms[0]}")
        return [(), bottoms[0]][: len(layer.tops)]

    def loss(self, layer: Layer, *bottoms: Array) -> float:
        """Ignore the items of ignore_label."""
        scores = np.moveaxis(bottoms[0], layer.proto.softmax_param.axis, -1)
        scores = scores.reshape(-1, scores.shape[-1])
        labels = labels_of(bottoms[1])
        kept = np.ones(len(labels), bool)
        if layer.proto.loss_param.HasField("ignore_label"):
            kept = labels != layer.proto.loss_param.ignore_label
        shifted = scores - scores.max(axis=1, keepdims=True)
        p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        chosen = np.take_along_axis(p, np.where(kept, labels, 0)[:, None], 1)[kept]
        items = len(bottoms[0])
        size = normalizer(layer, items, len(labels) // items, int(kept.sum()))
        return float(-np.log(np.maximum(chosen, TINY)).sum() / size)

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Compute the loss and, for a second top, the probabilities."""
        axis = layer.proto.softmax_param.axis
        e = np.exp(bottoms[0] - bottoms[0].max(axis=axis, keepdims=True))
        tops = [np.asarray(self.loss(layer, *bottoms)), e / e.sum(axis=axis, keepdims=True)]
        return tops[: len(layer.tops)]
