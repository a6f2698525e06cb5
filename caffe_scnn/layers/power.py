"""Power."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array, Example
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer

FOUR = ((2, 3, 4, 5),)


class Power(Neuron):
    """``(shift + scale · x) ^ power`` (``power_layer.cpp``)."""

    type: ClassVar[str] = "Power"

    def function(self, layer: Layer, x: Array) -> Array:
        """Raise; a power or scale of 0 gives a constant."""
        param = layer.proto.power_param
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((param.shift + param.scale * x) ** param.power)

    def examples(self) -> list[Example]:
        """Show a square and a constant."""
        return [
            Example("power_param { power: 2 scale: 0.5 shift: 1 }", FOUR),
            Example("power_param { power: 0 }", FOUR),
        ]
