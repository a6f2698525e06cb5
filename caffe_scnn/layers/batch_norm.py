"""BatchNorm."""

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


class BatchNorm(LayerType):
    """``(x − mean) / √(var + eps)`` per channel, without scale (``batch_norm_layer.cpp``).

    Mean and variance are stored as sums; the third blob is the factor to divide them by. A factor
    of 0 stands for statistics of 0.
    """

    type: ClassVar[str] = "BatchNorm"
    in_place: ClassVar[bool] = True

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        if len(bottoms[0]) < 2:
            raise refuse(layer, f"needs a channel axis, got shape {bottoms[0]}")
        specs = layer.proto.param
        # Exactly three entries are repaired by Caffe when it reads the net.
        if len(specs) != 3 and any(spec.lr_mult != 0 for spec in specs):
            raise refuse(layer, "its statistics are not learnt; set lr_mult: 0 in every param")
        return [bottoms[0]]

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """Mean (channels), variance (channels), factor (1)."""
        return [Param((bottoms[0][1],)), Param((bottoms[0][1],)), Param((1,))]

    def statistics(self, layer: Layer) -> tuple[Array, Array]:
        """Mean and √(variance + eps) of every channel, in float64."""
        mean, variance, factor = (blob.astype(np.float64) for blob in layer.blobs)
        scale = 0.0 if factor[0] == 0 else 1 / factor[0]
        return mean * scale, np.sqrt(variance * scale + layer.proto.batch_norm_param.eps)

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Normalise with the stored statistics, or with the batch's own."""
        x = bottoms[0]
        if self._stored(layer):
            mean, deviation = self.statistics(layer)
        else:
            axes = (0, *range(2, x.ndim))
            mean = x.mean(axis=axes)
            deviation = np.sqrt(x.var(axis=axes) + layer.proto.batch_norm_param.eps)
        shape = (-1, *[1] * (x.ndim - 2))
        return [(x - mean.reshape(shape)) / deviation.reshape(shape)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Give stored statistics as a scale and a shift."""
        if not self._stored(layer):
            return ReferenceSpec()
        mean, deviation = self.statistics(layer)
        return AffineSpec(
            (1 / deviation).astype(np.float32), (-mean / deviation).astype(np.float32)
        )

    def coupling(self, layer: Layer) -> Coupling:
        """Channel by channel."""
        return Coupling.PASSES

    def examples(self) -> list[Example]:
        """Four and two axes."""
        return [
            Example("", ((2, 3, 4, 5),)),
            Example("batch_norm_param { eps: 0.01 use_global_stats: false }", ((4, 3),)),
        ]

    def _stored(self, layer: Layer) -> bool:
        param = layer.proto.batch_norm_param
        return bool(param.use_global_stats) if param.HasField("use_global_stats") else True
