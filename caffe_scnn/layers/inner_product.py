"""InnerProduct: the fully connected layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    InnerProductSpec,
    LayerType,
    OpSpec,
    Param,
    Shape,
    canonical_axis,
    constant_fill,
    count,
    refuse,
)
from caffe_scnn.model.net import Layer


class InnerProduct(LayerType):
    """``y = x Wᵀ + b`` with x flattened from ``axis`` on (``inner_product_layer.cpp``)."""

    type: ClassVar[str] = "InnerProduct"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Leading axes, then num_output."""
        param = layer.proto.inner_product_param
        if param.num_output < 1:
            raise refuse(layer, "num_output must be given")
        axis = canonical_axis(layer, param.axis, len(bottoms[0]))
        return [(*bottoms[0][:axis], int(param.num_output))]

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """Weights (num_output, K), or (K, num_output) with ``transpose``, and a bias."""
        param = layer.proto.inner_product_param
        axis = canonical_axis(layer, param.axis, len(bottoms[0]))
        size = count(bottoms[0][axis:])
        shape = (size, param.num_output) if param.transpose else (param.num_output, size)
        blobs = [Param(shape, constant_fill(param.weight_filler))]
        if param.bias_term:
            blobs.append(Param((param.num_output,), constant_fill(param.bias_filler)))
        return blobs

    def macs(self, layer: Layer, bottoms: Sequence[Shape]) -> int:
        """One a weight and row."""
        return count(self.params(layer, bottoms)[0].shape) * self._rows(layer, bottoms[0])

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Compute the product in float64."""
        x = bottoms[0].reshape(self._rows(layer, bottoms[0].shape), -1)
        y = x @ self._weights(layer).astype(np.float64).T
        if layer.proto.inner_product_param.bias_term:
            y = y + layer.blobs[1]
        return [y.reshape(self.infer(layer, [bottoms[0].shape])[0])]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return the weights as (num_output, K)."""
        bias = layer.blobs[1] if layer.proto.inner_product_param.bias_term else None
        return InnerProductSpec(self._weights(layer), bias, self._rows(layer, bottoms[0]))

    def coupling(self, layer: Layer) -> Coupling:
        """Make new channels."""
        return Coupling.PRODUCES

    def examples(self) -> list[Example]:
        """From axis 1, from the last axis, transposed."""
        return [
            Example("inner_product_param { num_output: 5 }", ((3, 2, 3, 4),)),
            Example(
                "inner_product_param { num_output: 5 axis: -1 bias_term: false }", ((3, 2, 4),)
            ),
            Example("inner_product_param { num_output: 5 transpose: true }", ((1, 7),)),
        ]

    def _rows(self, layer: Layer, shape: Shape) -> int:
        return count(
            shape[: canonical_axis(layer, layer.proto.inner_product_param.axis, len(shape))]
        )

    def _weights(self, layer: Layer) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        transposed = layer.proto.inner_product_param.transpose
        return np.ascontiguousarray(layer.blobs[0].T) if transposed else layer.blobs[0]
