"""Flatten and Reshape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    Shape,
    ViewSpec,
    canonical_axis,
    count,
    refuse,
)
from caffe_scnn.model.net import Layer


class Reshape(LayerType):
    """Another shape for the same values (``reshape_layer.cpp``)."""

    type: ClassVar[str] = "Reshape"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """0 copies an extent, -1 takes what is left; only ``num_axes`` axes from ``axis`` on."""
        param, shape = layer.proto.reshape_param, bottoms[0]
        start = param.axis if param.axis >= 0 else len(shape) + param.axis + 1
        if not 0 <= start <= len(shape):
            raise refuse(layer, f"axis {param.axis} is out of range for shape {shape}")
        end = len(shape) if param.num_axes == -1 else start + param.num_axes
        if param.num_axes < -1 or end > len(shape):
            raise refuse(layer, f"num_axes {param.num_axes} is too many for shape {shape}")
        wanted = list(param.shape.dim)
        if wanted.count(-1) > 1:
            raise refuse(layer, "only one dim may be -1")
        for i, dim in enumerate(wanted):
            if dim == 0:
                if start + i >= len(shape):
                    raise refuse(layer, f"dim {i} is 0, but shape {shape} has no axis {start + i}")
                wanted[i] = shape[start + i]
        if -1 in wanted:
            known = count(
                tuple(dim for dim in (*shape[:start], *wanted, *shape[end:]) if dim != -1)
            )
            if known <= 0 or count(shape) % known:
                raise refuse(layer, f"{count(shape)} values cannot be cut into {wanted}")
            wanted[wanted.index(-1)] = count(shape) // known
        result = (*shape[:start], *wanted, *shape[end:])
        if count(result) != count(shape):
            raise refuse(layer, f"shape {shape} has not as many values as {result}")
        return [result]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Reshape."""
        return [bottoms[0].reshape(self.infer(layer, [bottoms[0].shape])[0]).copy()]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return a view."""
        return ViewSpec()

    def coupling(self, layer: Layer) -> Coupling:
        """Give runs of channels where items stay and the channels' extent follows."""
        param = layer.proto.reshape_param
        dims = list(param.shape.dim)
        whole = param.axis == 0 and param.num_axes == -1
        follows = len(dims) > 1 and dims[0] == 0 and dims[1] in (0, -1)
        return Coupling.FLATTENS if whole and follows else Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """Show copied, inferred and inserted extents."""
        return [
            Example("reshape_param { shape { dim: 0 dim: -1 } }", ((2, 3, 4, 5),)),
            Example("reshape_param { shape { dim: 1 } axis: 1 num_axes: 0 }", ((2, 3, 4),)),
        ]


class Flatten(LayerType):
    """Axes ``axis`` to ``end_axis`` as one (``flatten_layer.cpp``)."""

    type: ClassVar[str] = "Flatten"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the product of the axes' extents in their place."""
        param, shape = layer.proto.flatten_param, bottoms[0]
        begin = canonical_axis(layer, param.axis, len(shape))
        end = canonical_axis(layer, param.end_axis, len(shape)) + 1
        if end <= begin:
            raise refuse(layer, f"end_axis {param.end_axis} lies before axis {param.axis}")
        return [(*shape[:begin], count(shape[begin:end]), *shape[end:])]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Reshape."""
        return [bottoms[0].reshape(self.infer(layer, [bottoms[0].shape])[0]).copy()]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return a view."""
        return ViewSpec()

    def coupling(self, layer: Layer) -> Coupling:
        """Give runs of channels where the flattening starts with them; or later: runs of one."""
        begin = canonical_axis(layer, layer.proto.flatten_param.axis, 4)
        return Coupling.FLATTENS if begin >= 1 else Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """All, and the last two axes."""
        return [Example("", ((2, 3, 4, 5),)), Example("flatten_param { axis: -2 }", ((2, 3, 4),))]
