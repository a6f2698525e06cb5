"""Swish."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer

FOUR = ((2, 3, 4, 5),)


class Swish(Neuron):
    """``x · sigmoid(beta · x)`` (``swish_layer.cpp``)."""

    type: ClassVar[str] = "Swish"

    def function(self, layer: Layer, x: Array) -> Array:
        """Gate x by itself."""
        return x * (0.5 * np.tanh(0.5 * layer.proto.swish_param.beta * x) + 0.5)
