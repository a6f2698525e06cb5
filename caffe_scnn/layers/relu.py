"""ReLU and ReLU6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import ActivationSpec, Array, Example, OpSpec, Shape
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer


class ReLU(Neuron):
    """``max(x, 0) + negative_slope · min(x, 0)`` (``relu_layer.cpp``)."""

    type: ClassVar[str] = "ReLU"

    def function(self, layer: Layer, x: Array) -> Array:
        """Keep positive values, scale negative ones."""
        return np.where(x < 0, layer.proto.relu_param.negative_slope * x, x)

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Kind ``relu``."""
        return ActivationSpec("relu", (layer.proto.relu_param.negative_slope,))

    def examples(self) -> list[Example]:
        """Plain and leaky."""
        return [*super().examples(), Example("relu_param { negative_slope: 0.1 }", ((2, 3, 4, 5),))]


class ReLU6(Neuron):
    """``min(max(x, 0), 6)`` (fork chuanqi305/ssd and others); ``Clip`` says it in stock Caffe."""

    type: ClassVar[str] = "ReLU6"
    stock: ClassVar[bool] = False

    def function(self, layer: Layer, x: Array) -> Array:
        """Clamp to [0, 6]."""
        return np.clip(x, 0, 6)

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Kind ``clip``."""
        return ActivationSpec("clip", (0.0, 6.0))
