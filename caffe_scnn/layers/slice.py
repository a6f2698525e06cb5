"""Slice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    CutSpec,
    Example,
    LayerType,
    OpSpec,
    Shape,
    canonical_axis,
    refuse,
)
from caffe_scnn.model.net import Layer


class Slice(LayerType):
    """A blob cut along an axis, into equal parts or at given points (``slice_layer.cpp``)."""

    type: ClassVar[str] = "Slice"
    tops: ClassVar[tuple[int, int | None]] = (1, None)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """One part a top."""
        shape, axis = bottoms[0], self._axis(layer, len(bottoms[0]))
        points = list(layer.proto.slice_param.slice_point)
        parts = len(layer.tops)
        if points:
            if len(points) != parts - 1:
                raise refuse(layer, f"has {len(points)} slice_point for {parts} tops")
            bounds = [0, *points, shape[axis]]
            if any(b <= a for a, b in pairwise(bounds)):
                raise refuse(
                    layer, f"slice points {points} must increase and stay below {shape[axis]}"
                )
            sizes = [b - a for a, b in pairwise(bounds)]
        elif shape[axis] % parts:
            raise refuse(
                layer, f"{shape[axis]} values of axis {axis} do not give {parts} equal parts"
            )
        else:
            sizes = [shape[axis] // parts] * parts
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Cut."""
        axis = self._axis(layer, bottoms[0].ndim)
        sizes = [shape[axis] for shape in self.infer(layer, [bottoms[0].shape])]
        return [part.copy() for part in np.split(bottoms[0], np.cumsum(sizes)[:-1], axis)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Cut; each part begins where the one before ends."""
        axis, begins, at = self._axis(layer, len(bottoms[0])), list[tuple[int, ...]](), 0
        for shape in self.infer(layer, bottoms):
            begins.append((*[0] * axis, at, *[0] * (len(shape) - axis - 1)))
            at += shape[axis]
        return CutSpec(tuple(begins))

    def coupling(self, layer: Layer) -> Coupling:
        """Channels dealt out, if that is the axis."""
        return Coupling.SPLITS if self._axis(layer, 4) == 1 else Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """Equal parts and points."""
        return [
            Example("", ((2, 6, 2, 2),), tops=3),
            Example("slice_param { axis: 1 slice_point: 1 slice_point: 4 }", ((2, 6),), tops=3),
        ]

    def _axis(self, layer: Layer, ndim: int) -> int:
        param = layer.proto.slice_param
        if param.HasField("slice_dim"):
            if param.HasField("axis"):
                raise refuse(layer, "give either axis or slice_dim, not both")
            return canonical_axis(layer, int(param.slice_dim), ndim)
        return canonical_axis(layer, param.axis, ndim)
