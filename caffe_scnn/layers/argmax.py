"""ArgMax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    ArgMaxSpec,
    Array,
    Example,
    LayerType,
    OpSpec,
    ReferenceSpec,
    Shape,
    canonical_axis,
    count,
    refuse,
)
from caffe_scnn.model.net import Layer


class ArgMax(LayerType):
    """Indices of the largest values, over an axis or over the whole item (``argmax_layer.cpp``)."""

    type: ClassVar[str] = "ArgMax"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Put top_k in the axis' place, or (N, 1 or 2, top_k, 1 …) without an axis."""
        param, shape = layer.proto.argmax_param, bottoms[0]
        extent = count(shape[1:])
        if param.HasField("axis"):
            axis = canonical_axis(layer, param.axis, len(shape))
            extent = shape[axis]
        if not 1 <= param.top_k <= extent:
            raise refuse(layer, f"top_k is {param.top_k}; it must lie between 1 and {extent}")
        if param.HasField("axis"):
            return [(*shape[:axis], int(param.top_k), *shape[axis + 1 :])]
        values = 2 if param.out_max_val else 1
        return [(shape[0], values, int(param.top_k), *[1] * (len(shape) - 3))]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Sort by value, then by index, both descending: of equal values the later one wins."""
        param, x = layer.proto.argmax_param, bottoms[0]
        shape = self.infer(layer, [x.shape])[0]
        k = int(param.top_k)
        if param.HasField("axis"):
            order = np.flip(np.argsort(x, axis=param.axis, kind="stable"), param.axis)
            order = np.take(order, range(k), param.axis)
            return [
                np.take_along_axis(x, order, param.axis)
                if param.out_max_val
                else order.astype(x.dtype)
            ]
        flat = x.reshape(len(x), -1)
        order = np.argsort(flat, axis=1, kind="stable")[:, ::-1][:, :k]
        parts = [order * 1.0]
        if param.out_max_val:
            parts.append(np.take_along_axis(flat, order, 1))
        return [np.stack(parts, 1).reshape(shape)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Have an op for the best one along an axis."""
        param = layer.proto.argmax_param
        if not param.HasField("axis") or param.top_k != 1:
            return ReferenceSpec()
        return ArgMaxSpec(param.axis % len(bottoms[0]), param.out_max_val)

    def examples(self) -> list[Example]:
        """Whole items, with values, and an axis."""
        return [
            Example("argmax_param { top_k: 2 out_max_val: true }", ((2, 3, 4),)),
            Example("argmax_param { axis: 1 }", ((2, 3, 4, 5),)),
            Example("argmax_param { axis: -1 out_max_val: true }", ((2, 3, 4),)),
        ]
