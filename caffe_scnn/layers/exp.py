"""Exp."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array, Example
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer

FOUR = ((2, 3, 4, 5),)


class Exp(Neuron):
    """``base ^ (shift + scale · x)``; base −1 stands for e (``exp_layer.cpp``)."""

    type: ClassVar[str] = "Exp"

    def function(self, layer: Layer, x: Array) -> Array:
        """Raise the base."""
        param = layer.proto.exp_param
        log_base = 1.0 if param.base == -1 else math.log(param.base)
        return np.exp(log_base * (param.shift + param.scale * x))

    def examples(self) -> list[Example]:
        """Natural and another base."""
        return [Example("", FOUR), Example("exp_param { base: 2 shift: 1 scale: 0.5 }", FOUR)]
