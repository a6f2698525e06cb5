"""BN: batch normalisation of two forks that share a name."""

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
    ReferenceSpec,
    Shape,
    refuse,
)
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb

SEGNET_EPS = 1e-9
SEGNET_FIELDS = ("bn_mode", "scale_filler", "shift_filler")


class BN(LayerType):
    """``slope·(x − mean)/√(var + eps) + bias`` per channel.

    yjxiong's (also PSPNet's): four blobs, slope, bias, mean and variance. SegNet's: two blobs,
    scale and shift; in mode INFERENCE they are all there is, in mode LEARN the batch's own
    statistics come before them, at TEST too. A field that only SegNet has tells them apart.
    """

    type: ClassVar[str] = "BN"
    stock: ClassVar[bool] = False
    in_place: ClassVar[bool] = True

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        if len(bottoms[0]) < 2:
            raise refuse(layer, f"needs a channel axis, got shape {bottoms[0]}")
        return [bottoms[0]]

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """Blobs of (1, channels, 1, 1)."""
        shape, param = (1, bottoms[0][1], 1, 1), layer.proto.bn_param
        if self._segnet(layer):
            fillers = param.scale_filler, param.shift_filler
            return [Param(shape, f.value) for f in fillers]
        slope = param.slope_filler.value if param.HasField("slope_filler") else 1.0
        return [Param(shape, f) for f in (slope, param.bias_filler.value, 0.0, 1.0)]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Normalise."""
        x = bottoms[0]
        shape = (-1, *[1] * (x.ndim - 2))
        if self._batch_statistics(layer):
            axes = (0, *range(2, x.ndim))
            mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
            x = (x - mean) / np.sqrt(var + SEGNET_EPS)
            scale, shift = (blob.astype(np.float64).ravel() for blob in layer.blobs)
        else:
            scale, shift = self._affine(layer)
        return [x * scale.reshape(shape) + shift.reshape(shape)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Give stored statistics as a scale and a shift."""
        if self._batch_statistics(layer):
            return ReferenceSpec()
        scale, shift = self._affine(layer)
        return AffineSpec(scale.astype(np.float32), shift.astype(np.float32))

    def coupling(self, layer: Layer) -> Coupling:
        """Channel by channel."""
        return Coupling.PASSES

    def examples(self) -> list[Example]:
        """Both forks, SegNet's in both modes."""
        return [
            Example("bn_param { bn_mode: INFERENCE }", ((2, 3, 4, 5),)),
            Example("bn_param { bn_mode: LEARN }", ((2, 3, 4, 5),)),
            Example("bn_param { frozen: true }", ((2, 3, 4, 5),)),
        ]

    def _segnet(self, layer: Layer) -> bool:
        return any(layer.proto.bn_param.HasField(name) for name in SEGNET_FIELDS)

    def _batch_statistics(self, layer: Layer) -> bool:
        learn = layer.proto.bn_param.bn_mode == pb.BNParameter.LEARN
        return learn and self._segnet(layer)

    def _affine(self, layer: Layer) -> tuple[Array, Array]:
        blobs = [blob.astype(np.float64).ravel() for blob in layer.blobs]
        if self._segnet(layer):
            return blobs[0], blobs[1]
        slope, bias, mean, variance = blobs
        scale = slope / np.sqrt(variance + layer.proto.bn_param.eps)
        return scale, bias - mean * scale
