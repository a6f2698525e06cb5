"""Eltwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    EltwiseSpec,
    Example,
    LayerType,
    OpSpec,
    Shape,
    refuse,
)
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb

OPERATIONS = {
    pb.EltwiseParameter.PROD: "prod",
    pb.EltwiseParameter.SUM: "sum",
    pb.EltwiseParameter.MAX: "max",
}


class Eltwise(LayerType):
    """Sum (with coefficients), product or maximum of blobs of one shape (``eltwise_layer.cpp``)."""

    type: ClassVar[str] = "Eltwise"
    bottoms: ClassVar[tuple[int, int | None]] = (2, None)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """All bottoms have the same shape."""
        if any(shape != bottoms[0] for shape in bottoms):
            raise refuse(layer, f"its bottoms differ in shape: {list(bottoms)}")
        coefficients = layer.proto.eltwise_param.coeff
        if coefficients and len(coefficients) != len(bottoms):
            raise refuse(layer, f"has {len(coefficients)} coeff for {len(bottoms)} bottoms")
        if coefficients and self._operation(layer) != "sum":
            raise refuse(layer, "coeff is only for SUM")
        return [bottoms[0]]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Fold over the bottoms."""
        operation = self._operation(layer)
        if operation == "sum":
            coefficients = layer.proto.eltwise_param.coeff or [1.0] * len(bottoms)
            return [sum(c * x for c, x in zip(coefficients, bottoms, strict=True))]  # type: ignore[list-item]
        return [reduce(np.multiply if operation == "prod" else np.maximum, bottoms)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return the operation and one coefficient a bottom."""
        coefficients = tuple(layer.proto.eltwise_param.coeff) or (1.0,) * len(bottoms)
        return EltwiseSpec(self._operation(layer), coefficients)

    def coupling(self, layer: Layer) -> Coupling:
        """All bottoms share their channels."""
        return Coupling.JOINS

    def examples(self) -> list[Example]:
        """Every operation."""
        two, three = ((2, 3, 4, 5),) * 2, ((2, 3),) * 3
        return [
            Example("", two),
            Example("eltwise_param { coeff: 1 coeff: -0.5 coeff: 2 }", three),
            Example("eltwise_param { operation: PROD }", three),
            Example("eltwise_param { operation: MAX }", two),
        ]

    def _operation(self, layer: Layer) -> str:
        return OPERATIONS[layer.proto.eltwise_param.operation]
