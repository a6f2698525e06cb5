"""Element-wise layers: one function of one value, top and bottom of one shape."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    NeuronSpec,
    OpSpec,
    Shape,
)
from caffe_scnn.model.net import Layer


class Neuron(LayerType):
    """Base of the element-wise layer types."""

    in_place: ClassVar[bool] = True

    @abstractmethod
    def function(self, layer: Layer, x: Array) -> Array:
        """Return the function's values, in the precision of ``x``."""

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        return [bottoms[0]]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Apply the function."""
        return [self.function(layer, bottoms[0])]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Give the function as it is."""
        return NeuronSpec(lambda x: self.function(layer, x))

    def coupling(self, layer: Layer) -> Coupling:
        """Channel by channel."""
        return Coupling.PASSES

    def examples(self) -> list[Example]:
        """Default parameters."""
        return [Example("", ((2, 3, 4, 5),)), Example("", ((2, 3),))]
