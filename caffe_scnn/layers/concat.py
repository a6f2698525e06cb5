"""Concat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    ConcatSpec,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    Shape,
    canonical_axis,
    refuse,
)
from caffe_scnn.model.net import Layer


class Concat(LayerType):
    """Blobs side by side along an axis (``concat_layer.cpp``)."""

    type: ClassVar[str] = "Concat"
    bottoms: ClassVar[tuple[int, int | None]] = (1, None)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Sum of the extents along the axis; the others agree."""
        axis = self._axis(layer, len(bottoms[0]))
        rest = [(*shape[:axis], *shape[axis + 1 :]) for shape in bottoms]
        if any(shape != rest[0] for shape in rest) or len({len(s) for s in bottoms}) > 1:
            raise refuse(layer, f"its bottoms differ outside axis {axis}: {list(bottoms)}")
        total = sum(shape[axis] for shape in bottoms)
        return [(*bottoms[0][:axis], total, *bottoms[0][axis + 1 :])]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Concatenate."""
        return [np.concatenate(list(bottoms), self._axis(layer, bottoms[0].ndim))]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return the axis."""
        return ConcatSpec(self._axis(layer, len(bottoms[0])))

    def coupling(self, layer: Layer) -> Coupling:
        """Channels side by side, if that is the axis."""
        return Coupling.CONCATENATES if self._axis(layer, 4) == 1 else Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """Both ways to name the axis."""
        return [
            Example("", ((2, 3, 4, 5), (2, 1, 4, 5))),
            Example("concat_param { axis: -1 }", ((2, 3), (2, 4), (2, 1))),
            Example("concat_param { concat_dim: 0 }", ((2, 3, 2, 2), (1, 3, 2, 2))),
        ]

    def _axis(self, layer: Layer, ndim: int) -> int:
        param = layer.proto.concat_param
        if param.HasField("concat_dim"):
            if param.HasField("axis"):
                raise refuse(layer, "give either axis or concat_dim, not both")
            return canonical_axis(layer, int(param.concat_dim), ndim)
        return canonical_axis(layer, param.axis, ndim)
