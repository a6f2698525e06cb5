"""Accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    LayerType,
    Shape,
    canonical_axis,
    count,
    refuse,
)
from caffe_scnn.model.net import Layer


class Accuracy(LayerType):
    """Share of items whose class is among the top_k scores (``accuracy_layer.cpp``)."""

    type: ClassVar[str] = "Accuracy"
    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)
    tops: ClassVar[tuple[int, int | None]] = (1, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return a scalar, and one value a class for a second top."""
        axis = canonical_axis(layer, layer.proto.accuracy_param.axis, len(bottoms[0]))
        labels = count(bottoms[0]) // bottoms[0][axis]
        if count(bottoms[1]) != labels:
            raise refuse(layer, f"has {count(bottoms[1])} labels for {labels} predictions")
        return [(), (bottoms[0][axis],)][: len(layer.tops)]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Count a prediction when fewer than top_k other classes score as high."""
        param = layer.proto.accuracy_param
        scores = np.moveaxis(bottoms[0], param.axis, -1)
        scores = scores.reshape(-1, scores.shape[-1])
        labels = bottoms[1].reshape(-1).astype(np.int64)
        if param.HasField("ignore_label"):
            kept = labels != param.ignore_label
            scores, labels = scores[kept], labels[kept]
        true = np.take_along_axis(scores, labels[:, None], 1)
        right = (scores >= true).sum(axis=1) - 1 < param.top_k
        each = [
            right[labels == c].mean() if (labels == c).any() else 0 for c in range(scores.shape[1])
        ]
        overall = right.mean() if len(right) else 0.0
        return [np.array(overall), np.array(each)][: len(layer.tops)]
