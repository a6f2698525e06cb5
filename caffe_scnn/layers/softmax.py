"""Softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    Shape,
    SoftmaxSpec,
    canonical_axis,
)
from caffe_scnn.model.net import Layer


class Softmax(LayerType):
    """``exp(x − max) / Σ`` along an axis (``softmax_layer.cpp``)."""

    type: ClassVar[str] = "Softmax"
    in_place: ClassVar[bool] = True

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        canonical_axis(layer, layer.proto.softmax_param.axis, len(bottoms[0]))
        return [bottoms[0]]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Subtract the maximum first, as Caffe does."""
        axis = layer.proto.softmax_param.axis
        e = np.exp(bottoms[0] - bottoms[0].max(axis=axis, keepdims=True))
        return [e / e.sum(axis=axis, keepdims=True)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return the axis."""
        return SoftmaxSpec(canonical_axis(layer, layer.proto.softmax_param.axis, len(bottoms[0])))

    def coupling(self, layer: Layer) -> Coupling:
        """Block: a class removed changes all others."""
        return Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """Channels and another axis."""
        return [
            Example("", ((2, 3),)),
            Example("softmax_param { axis: -1 }", ((2, 3, 4, 5),)),
        ]
