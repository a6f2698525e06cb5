"""Reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Example,
    LayerType,
    Shape,
    canonical_axis,
)
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb


class Reduction(LayerType):
    """Sum, absolute sum, sum of squares or mean over the last axes (``reduction_layer.cpp``)."""

    type: ClassVar[str] = "Reduction"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Keep the axes before."""
        axis = canonical_axis(layer, layer.proto.reduction_param.axis, len(bottoms[0]))
        return [bottoms[0][:axis]]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Reduce, then multiply by coeff."""
        param = layer.proto.reduction_param
        shape = self.infer(layer, [bottoms[0].shape])[0]
        x = bottoms[0].reshape(*shape, -1)
        kind = pb.ReductionParameter.ReductionOp.Name(param.operation)
        values = {"ASUM": np.abs(x), "SUMSQ": x**2}.get(kind, x)
        total = values.mean(axis=-1) if kind == "MEAN" else values.sum(axis=-1)
        return [np.asarray(param.coeff * total)]

    def examples(self) -> list[Example]:
        """To a scalar, and per channel."""
        return [
            Example("reduction_param { operation: SUMSQ coeff: 0.5 }", ((2, 3, 4),)),
            Example("reduction_param { operation: MEAN axis: 2 }", ((2, 3, 4, 5),)),
        ]
