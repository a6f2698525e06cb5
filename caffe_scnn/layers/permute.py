"""Permute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Example,
    LayerType,
    OpSpec,
    RearrangeSpec,
    Shape,
    ViewSpec,
    refuse,
)
from caffe_scnn.model.net import Layer


class Permute(LayerType):
    """Axes in another order (fork weiliu89/caffe, branch ssd)."""

    type: ClassVar[str] = "Permute"
    stock: ClassVar[bool] = False

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Sizes in the new order."""
        return [tuple(bottoms[0][axis] for axis in self.order(layer, len(bottoms[0])))]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Transpose."""
        return [np.ascontiguousarray(bottoms[0].transpose(self.order(layer, bottoms[0].ndim)))]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Move values, unless only axes of one value change places."""
        shape, order = bottoms[0], self.order(layer, len(bottoms[0]))
        long = [axis for axis in order if shape[axis] > 1]
        return ViewSpec() if long == sorted(long) else RearrangeSpec(shape, tuple(order))

    def examples(self) -> list[Example]:
        """To channels last; the axes that are not named follow."""
        return [
            Example(
                "permute_param { order: 0 order: 2 order: 3 order: 1 }",
                ((2, 3, 4, 5),),
            ),
            Example("permute_param { order: 1 }", ((2, 3, 4),)),
            Example("permute_param { order: 0 order: 2 order: 3 order: 1 }", ((2, 3, 1, 1),)),
        ]

    def order(self, layer: Layer, ndim: int) -> list[int]:
        """Return the axes of the bottom in their new order."""
        order = list(layer.proto.permute_param.order)
        if len(set(order)) < len(order) or any(axis >= ndim for axis in order):
            raise refuse(layer, f"order {order} does not fit a blob of {ndim} axes")
        return order + [axis for axis in range(ndim) if axis not in order]
