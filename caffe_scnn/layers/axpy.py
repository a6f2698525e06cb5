"""Axpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    ProductSpec,
    Shape,
    Step,
    StepsSpec,
    count,
    refuse,
)
from caffe_scnn.model.net import Layer


class Axpy(LayerType):
    """``a·x + y`` with one a for each channel: a, x, y (fork hujie-frank/SENet)."""

    type: ClassVar[str] = "Axpy"
    stock: ClassVar[bool] = False
    bottoms: ClassVar[tuple[int, int | None]] = (3, 3)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape of x and y."""
        a, x, y = bottoms
        if x != y or len(x) < 2 or a[:2] != x[:2] or count(a[2:]) != 1:
            raise refuse(
                layer, f"takes a of (N, C[, 1, 1]), x and y of one shape; got {a}, {x}, {y}"
            )
        return [x]

    def macs(self, layer: Layer, bottoms: Sequence[Shape]) -> int:
        """One a value."""
        return count(bottoms[1])

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Scale and add."""
        a, x, y = bottoms
        return [a.reshape(*x.shape[:2], *[1] * (x.ndim - 2)) * x + y]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Multiply and add: a is spread over the planes of x."""
        shape = bottoms[1]
        spread = (*shape[:2], *[1] * (len(shape) - 2))
        return StepsSpec((Step(ProductSpec(spread), (1, 0, 2), (shape,)),))

    def coupling(self, layer: Layer) -> Coupling:
        """All share one set of channels."""
        return Coupling.JOINS

    def examples(self) -> list[Example]:
        """Squeeze and excitation."""
        return [Example("", ((2, 3, 1, 1), (2, 3, 4, 5), (2, 3, 4, 5)))]
