"""Tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Example,
    LayerType,
    Shape,
    canonical_axis,
    refuse,
)
from caffe_scnn.model.net import Layer


class Tile(LayerType):
    """Repeats a blob along an axis (``tile_layer.cpp``)."""

    type: ClassVar[str] = "Tile"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Multiply the axis' extent."""
        tiles = layer.proto.tile_param.tiles
        axis = canonical_axis(layer, layer.proto.tile_param.axis, len(bottoms[0]))
        if tiles < 1:
            raise refuse(layer, f"tiles is {tiles}; it must be positive")
        shape = bottoms[0]
        return [(*shape[:axis], shape[axis] * tiles, *shape[axis + 1 :])]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Repeat whole blocks."""
        param = layer.proto.tile_param
        return [np.concatenate([bottoms[0]] * param.tiles, param.axis)]

    def examples(self) -> list[Example]:
        """Twice along an inner axis."""
        return [Example("tile_param { axis: 2 tiles: 2 }", ((2, 3, 4, 5),))]
