"""Log."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array, Example
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer

FOUR = ((2, 3, 4, 5),)


class Log(Neuron):
    """``log_base(shift + scale · x)``; base −1 stands for e (``log_layer.cpp``)."""

    type: ClassVar[str] = "Log"

    def function(self, layer: Layer, x: Array) -> Array:
        """Take the logarithm; negative arguments give NaN, as in Caffe."""
        param = layer.proto.log_param
        log_base = 1.0 if param.base == -1 else math.log(param.base)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.log(param.shift + param.scale * x) / log_base)

    def examples(self) -> list[Example]:
        """Arguments that are positive."""
        return [
            Example("log_param { shift: 20 }", FOUR),
            Example("log_param { base: 2 shift: 9 }", FOUR),
        ]
