"""MVN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Example,
    LayerType,
    Shape,
)
from caffe_scnn.model.net import Layer


class MVN(LayerType):
    """Mean removed and, if asked, variance divided out (``mvn_layer.cpp``)."""

    type: ClassVar[str] = "MVN"
    in_place: ClassVar[bool] = True

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        return [bottoms[0]]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Normalise per channel, or with across_channels per item; eps joins the deviation."""
        param, x = layer.proto.mvn_param, bottoms[0]
        axes = tuple(range(1 if param.across_channels else 2, x.ndim))
        y = x - x.mean(axis=axes, keepdims=True)
        if param.normalize_variance:
            y = y / (np.sqrt((y**2).mean(axis=axes, keepdims=True)) + param.eps)
        return [y]

    def examples(self) -> list[Example]:
        """All three modes."""
        return [
            Example(f"mvn_param {{ {mode} }}", ((2, 3, 4, 5),))
            for mode in ("", "across_channels: true", "normalize_variance: false")
        ]
