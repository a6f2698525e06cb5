"""Crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import (
    Array,
    CutSpec,
    Example,
    LayerType,
    OpSpec,
    Shape,
    Step,
    StepsSpec,
    canonical_axis,
    refuse,
)
from caffe_scnn.model.net import Layer


class Crop(LayerType):
    """The first bottom cut to the size of the second, from an axis on (``crop_layer.cpp``)."""

    type: ClassVar[str] = "Crop"
    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Take extents from the second bottom."""
        axis, offsets = self.offsets(layer, bottoms[0])
        if len(bottoms[0]) != len(bottoms[1]):
            raise refuse(layer, f"its bottoms have {len(bottoms[0])} and {len(bottoms[1])} axes")
        shape = (*bottoms[0][:axis], *bottoms[1][axis:])
        for i, offset in enumerate(offsets, axis):
            if offset + shape[i] > bottoms[0][i]:
                raise refuse(
                    layer,
                    f"offset {offset} plus size {shape[i]} exceeds {bottoms[0][i]} on axis {i}",
                )
        return [shape]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Cut."""
        axis, offsets = self.offsets(layer, bottoms[0].shape)
        shape = self.infer(layer, [b.shape for b in bottoms])[0]
        index = tuple(slice(o, o + n) for o, n in zip(offsets, shape[axis:], strict=True))
        return [bottoms[0][(slice(None),) * axis + index].copy()]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Cut the first bottom; of the second only the shape counts."""
        axis, offsets = self.offsets(layer, bottoms[0])
        cut = CutSpec(((*[0] * axis, *offsets),))
        return StepsSpec((Step(cut, (0,), tuple(self.infer(layer, bottoms))),))

    def examples(self) -> list[Example]:
        """One offset for all axes."""
        return [Example("crop_param { axis: 2 offset: 1 }", ((2, 3, 6, 7), (2, 3, 4, 5)))]

    def offsets(self, layer: Layer, shape: Shape) -> tuple[int, list[int]]:
        """Return the first axis that is cut, and where each cut begins."""
        axis = canonical_axis(layer, layer.proto.crop_param.axis, len(shape))
        given, axes = list(layer.proto.crop_param.offset), len(shape) - axis
        if len(given) not in (0, 1, axes):
            raise refuse(layer, f"has {len(given)} offsets for {axes} cropped axes")
        return axis, [int(o) for o in given] if len(given) == axes else [
            int(o) for o in given or [0]
        ] * axes
