"""Embed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    LayerType,
    Param,
    Shape,
    constant_fill,
    refuse,
)
from caffe_scnn.model.net import Layer


class Embed(LayerType):
    """Rows of a learnt table, by index (``embed_layer.cpp``)."""

    type: ClassVar[str] = "Embed"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Append the row."""
        param = layer.proto.embed_param
        if param.num_output < 1 or param.input_dim < 1:
            raise refuse(layer, "num_output and input_dim must be positive")
        return [(*bottoms[0], int(param.num_output))]

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """Table (input_dim, num_output) and a bias (num_output)."""
        param = layer.proto.embed_param
        shape = (int(param.input_dim), int(param.num_output))
        blobs = [Param(shape, constant_fill(param.weight_filler))]
        return (
            [*blobs, Param(shape[1:], constant_fill(param.bias_filler))]
            if param.bias_term
            else blobs
        )

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Look up."""
        index = bottoms[0].astype(np.int64)
        if ((index < 0) | (index >= len(layer.blobs[0]))).any():
            raise refuse(layer, f"an index lies outside 0 … {len(layer.blobs[0]) - 1}")
        rows = layer.blobs[0].astype(np.float64)[index]
        return [rows + layer.blobs[1] if layer.proto.embed_param.bias_term else rows]

    def coupling(self, layer: Layer) -> Coupling:
        """Make new channels."""
        return Coupling.PRODUCES
