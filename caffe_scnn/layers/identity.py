"""Layers that pass their bottom on at TEST: Dropout and Split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import Array, Coupling, Example, LayerType, OpSpec, Shape, ViewSpec
from caffe_scnn.model.net import Layer


class Dropout(LayerType):
    """The identity at TEST: Caffe scales while it trains (``dropout_layer.cpp``)."""

    type: ClassVar[str] = "Dropout"
    in_place: ClassVar[bool] = True

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape, for every top."""
        return [bottoms[0]] * len(layer.tops)

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Copy."""
        return [bottoms[0].copy() for _ in layer.tops]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return a view."""
        return ViewSpec()

    def coupling(self, layer: Layer) -> Coupling:
        """Channel by channel."""
        return Coupling.PASSES

    def examples(self) -> list[Example]:
        """Default ratio."""
        return [Example("", ((2, 3, 4, 5),))]


class Split(Dropout):
    """Its bottom under several names (``split_layer.cpp``)."""

    type: ClassVar[str] = "Split"
    tops: ClassVar[tuple[int, int | None]] = (1, None)
    in_place: ClassVar[bool] = False

    def examples(self) -> list[Example]:
        """Two tops."""
        return [Example("", ((2, 3),), tops=2)]
