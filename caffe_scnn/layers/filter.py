"""Filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    FilterSpec,
    LayerType,
    OpSpec,
    Shape,
    count,
    refuse,
)
from caffe_scnn.model.net import Layer


class Filter(LayerType):
    """The items of each bottom where the last bottom is not zero (``filter_layer.cpp``).

    How many there are is known only when the net runs; shapes are those with all items, as Caffe
    has them before the first run.
    """

    type: ClassVar[str] = "Filter"
    bottoms: ClassVar[tuple[int, int | None]] = (2, None)
    tops: ClassVar[tuple[int, int | None]] = (1, None)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Keep all items."""
        *blobs, selector = bottoms
        if len(layer.tops) != len(blobs):
            raise refuse(layer, f"has {len(layer.tops)} tops for {len(blobs)} bottoms to filter")
        if len(selector) < 1 or count(selector[1:]) != 1:
            raise refuse(layer, f"its selector has shape {selector}, not one value an item")
        for shape in blobs:
            if len(shape) < 1 or shape[0] != selector[0]:
                raise refuse(layer, f"a bottom of shape {shape} has not {selector[0]} items")
        return list(blobs)

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Select."""
        *blobs, selector = bottoms
        return [blob[selector.ravel() != 0] for blob in blobs]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Have an op of its own: the number of items is not fixed."""
        return FilterSpec()

    def coupling(self, layer: Layer) -> Coupling:
        """Leave channels alone."""
        return Coupling.PASSES

    def examples(self) -> list[Example]:
        """Two blobs by one selector."""
        return [Example("", ((4, 3, 2), (4, 2), (4,)), tops=2)]
