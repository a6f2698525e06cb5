"""Normalize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    NormalizeSpec,
    OpSpec,
    Param,
    Shape,
    constant_fill,
    refuse,
)
from caffe_scnn.model.net import Layer


class Normalize(LayerType):
    """``scale · x / √(Σx² + eps)`` over channels, or over the whole image (branch ssd).

    happynear's layer of the same name has no scale and no eps; its ``normalize_type`` tells it.
    """

    type: ClassVar[str] = "Normalize"
    stock: ClassVar[bool] = False

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        if len(bottoms[0]) < 2:
            raise refuse(layer, f"needs a channel axis, got shape {bottoms[0]}")
        kind = layer.proto.softmax_param.normalize_type
        if kind not in ("", "L2"):
            raise refuse(layer, f'normalize_type "{kind}" is not known; L2 is')
        return [bottoms[0]]

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """One scale, or one for each channel."""
        param = layer.proto.norm_param
        if self._plain(layer):
            return []
        fill = constant_fill(param.scale_filler) if param.HasField("scale_filler") else 1.0
        return [Param(() if param.channel_shared else (bottoms[0][1],), fill)]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Normalise, then scale."""
        x, param = bottoms[0], layer.proto.norm_param
        if self._plain(layer):
            return [x / np.sqrt((x**2).sum(tuple(range(1, x.ndim)), keepdims=True))]
        axes = tuple(range(1, x.ndim)) if param.across_spatial else (1,)
        scale = layer.blobs[0].reshape(-1, *[1] * (x.ndim - 2))
        return [scale * x / np.sqrt((x**2).sum(axes, keepdims=True) + param.eps)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Say over what the norm is taken."""
        param = layer.proto.norm_param
        if self._plain(layer):
            return NormalizeSpec(True, None, 0.0)
        return NormalizeSpec(param.across_spatial, layer.blobs[0], param.eps)

    def coupling(self, layer: Layer) -> Coupling:
        """Channels share a norm: none can go unseen."""
        return Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """Pixel by pixel with a scale for each channel, and the whole image."""
        return [
            Example("norm_param { across_spatial: false channel_shared: false }", ((2, 3, 4, 5),)),
            Example("", ((2, 3, 4, 5),)),
            Example('softmax_param { normalize_type: "L2" }', ((2, 3, 2, 2),)),
        ]

    def _plain(self, layer: Layer) -> bool:
        return layer.proto.softmax_param.HasField("normalize_type")
