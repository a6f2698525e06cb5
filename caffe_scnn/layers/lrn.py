"""LRN: local response normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    LRNSpec,
    LRNWithinSpec,
    OpSpec,
    Shape,
    refuse,
)
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb


class LRN(LayerType):
    """``x · (k + alpha/n · Σ x²)^-beta`` across channels or in a window (``lrn_layer.cpp``).

    Within a channel Caffe averages over the padded window and always takes 1 for k.
    """

    type: ClassVar[str] = "LRN"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        if layer.proto.lrn_param.local_size % 2 == 0:
            raise refuse(layer, f"local_size {layer.proto.lrn_param.local_size} must be odd")
        if len(bottoms[0]) != 4:
            raise refuse(layer, f"needs a blob of four axes, got shape {bottoms[0]}")
        return [bottoms[0]]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Sum the squares of shifted copies."""
        param, x = layer.proto.lrn_param, bottoms[0]
        n = int(param.local_size)
        half = n // 2
        if param.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
            square = np.pad(x**2, ((0, 0), (half, half), (0, 0), (0, 0)))
            total = sum(square[:, i : i + x.shape[1]] for i in range(n))
            return [x * (param.k + param.alpha / n * total) ** -param.beta]
        height, width = x.shape[2:]
        square = np.pad(x**2, ((0, 0), (0, 0), (half, half), (half, half)))
        total = sum(square[:, :, i : i + height, j : j + width] for i, j in np.ndindex(n, n))
        # every window lies inside the padded image, so the divisor is its full area
        return [x * (1 + param.alpha * total / n**2) ** -param.beta]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Within a channel ``k`` has no say."""
        param = layer.proto.lrn_param
        if param.norm_region != pb.LRNParameter.ACROSS_CHANNELS:
            return LRNWithinSpec(int(param.local_size), param.alpha, param.beta)
        return LRNSpec(int(param.local_size), param.alpha, param.beta, param.k)

    def coupling(self, layer: Layer) -> Coupling:
        """Neighbouring channels enter the norm, but channel i stays channel i."""
        across = layer.proto.lrn_param.norm_region == pb.LRNParameter.ACROSS_CHANNELS
        return Coupling.MIXES if across else Coupling.PASSES

    def examples(self) -> list[Example]:
        """Both regions."""
        return [
            Example("lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 k: 2 }", ((2, 5, 4, 3),)),
            Example("lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }", ((1, 2, 5, 4),)),
            Example(
                "lrn_param { norm_region: WITHIN_CHANNEL local_size: 9 alpha: 2 beta: 1.5 k: 3 }",
                ((2, 2, 3, 2),),
            ),
        ]
