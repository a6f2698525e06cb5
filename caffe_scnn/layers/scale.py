"""Scale and Bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    AffineSpec,
    Array,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    Param,
    ProductSpec,
    ReferenceSpec,
    Shape,
    canonical_axis,
    constant_fill,
    refuse,
)
from caffe_scnn.model.net import Layer


def factor_shape(layer: Layer, bottoms: Sequence[Shape], axis: int, axes: int) -> Shape:
    """Shape of the factor: the second bottom's, or the axes of the first that are learnt for."""
    shape = bottoms[0]
    if len(bottoms) == 2:
        factor = bottoms[1]
        axis = 0 if not factor else canonical_axis(layer, axis, len(shape))
        if tuple(shape[axis : axis + len(factor)]) != tuple(factor):
            raise refuse(layer, f"factor {factor} does not match {shape} from axis {axis}")
        return tuple(factor)
    axis = canonical_axis(layer, axis, len(shape))
    if axes < -1 or axis + axes > len(shape):
        raise refuse(layer, f"num_axes {axes} from axis {axis} is too many for {shape}")
    return tuple(shape[axis:] if axes == -1 else shape[axis : axis + axes])


def spread(factor: Array, axis: int, ndim: int) -> Array:
    """Reshape a factor so that it broadcasts from ``axis`` on."""
    if factor.ndim == 0:
        return factor
    axis %= ndim
    return factor.reshape((1,) * axis + factor.shape + (1,) * (ndim - axis - factor.ndim))


class Scale(LayerType):
    """Product with a learnt factor or a second bottom, plus a bias (``scale_layer.cpp``)."""

    type: ClassVar[str] = "Scale"
    bottoms: ClassVar[tuple[int, int | None]] = (1, 2)
    in_place: ClassVar[bool] = True

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the first bottom's shape."""
        self._factor(layer, bottoms)
        return [bottoms[0]]

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """Factor (unless it is a bottom) and bias, of one shape."""
        param = layer.proto.scale_param
        shape = self._factor(layer, bottoms)
        fill = constant_fill(param.filler) if param.HasField("filler") else 1.0
        blobs = [Param(shape, fill)] if len(bottoms) == 1 else []
        return (
            [*blobs, Param(shape, constant_fill(param.bias_filler))] if param.bias_term else blobs
        )

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Broadcast from the axis on."""
        param, x = layer.proto.scale_param, bottoms[0]
        factor = bottoms[1] if len(bottoms) == 2 else layer.blobs[0].astype(np.float64)
        y = x * spread(factor, param.axis, x.ndim)
        if param.bias_term:
            y = y + spread(layer.blobs[-1].astype(np.float64), param.axis, x.ndim)
        return [y]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """One learnt factor a channel is a scale and a shift; a second bottom is spread."""
        param = layer.proto.scale_param
        if len(bottoms) == 2 and bottoms[1] and len(bottoms[0]) > 1 and not param.bias_term:
            axis, axes = param.axis % len(bottoms[0]), len(bottoms[0])
            rest = axes - axis - len(bottoms[1])
            return ProductSpec((*[1] * axis, *bottoms[1], *[1] * rest))
        if len(bottoms) > 1 or self._factor(layer, bottoms) != bottoms[0][1:2] or param.axis != 1:
            return ReferenceSpec()
        shift = layer.blobs[1] if param.bias_term else np.zeros_like(layer.blobs[0])
        return AffineSpec(layer.blobs[0], shift)

    def coupling(self, layer: Layer) -> Coupling:
        """Channel by channel with one bottom."""
        return Coupling.PASSES if len(layer.bottoms) == 1 else Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """Per channel, other axes, scalar, two bottoms."""
        return [
            Example("scale_param { bias_term: true }", ((2, 3, 4, 5),)),
            Example("scale_param { axis: 2 num_axes: -1 }", ((2, 3, 4, 5),)),
            Example("scale_param { num_axes: 0 }", ((2, 3),)),
            Example("scale_param { axis: 0 }", ((2, 3, 4, 5), (2, 3))),
        ]

    def _factor(self, layer: Layer, bottoms: Sequence[Shape]) -> Shape:
        return factor_shape(
            layer, bottoms, layer.proto.scale_param.axis, layer.proto.scale_param.num_axes
        )


class Bias(LayerType):
    """Sum with a learnt blob or a second bottom (``bias_layer.cpp``)."""

    type: ClassVar[str] = "Bias"
    bottoms: ClassVar[tuple[int, int | None]] = (1, 2)
    in_place: ClassVar[bool] = True

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the first bottom's shape."""
        self._factor(layer, bottoms)
        return [bottoms[0]]

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """Bias, unless it is a bottom."""
        if len(bottoms) == 2:
            return []
        return [Param(self._factor(layer, bottoms), constant_fill(layer.proto.bias_param.filler))]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Broadcast from the axis on."""
        x = bottoms[0]
        bias = bottoms[1] if len(bottoms) == 2 else layer.blobs[0].astype(np.float64)
        return [x + spread(bias, layer.proto.bias_param.axis, x.ndim)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """One learnt bias a channel is a shift."""
        if len(bottoms) > 1 or layer.blobs[0].shape != bottoms[0][1:2]:
            return ReferenceSpec()
        if layer.proto.bias_param.axis != 1:
            return ReferenceSpec()
        return AffineSpec(np.ones_like(layer.blobs[0]), layer.blobs[0])

    def coupling(self, layer: Layer) -> Coupling:
        """Channel by channel with one bottom."""
        return Coupling.PASSES if len(layer.bottoms) == 1 else Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """Per channel, other axes, two bottoms."""
        return [
            Example("", ((2, 3, 4, 5),)),
            Example("bias_param { axis: 2 num_axes: 2 }", ((2, 3, 4, 5),)),
            Example("", ((2, 3, 4, 5), (3, 4))),
        ]

    def _factor(self, layer: Layer, bottoms: Sequence[Shape]) -> Shape:
        return factor_shape(
            layer, bottoms, layer.proto.bias_param.axis, layer.proto.bias_param.num_axes
        )
