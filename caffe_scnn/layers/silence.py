"""Silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    LayerType,
    Shape,
)
from caffe_scnn.model.net import Layer


class Silence(LayerType):
    """Eats blobs that nobody wants (``silence_layer.cpp``)."""

    type: ClassVar[str] = "Silence"
    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops: ClassVar[tuple[int, int | None]] = (0, 0)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Nothing comes out."""
        return []

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Compute nothing."""
        return []

    def coupling(self, layer: Layer) -> Coupling:
        """Nothing depends on its channels."""
        return Coupling.PASSES
