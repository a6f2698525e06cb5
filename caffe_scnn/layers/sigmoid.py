"""Sigmoid and TanH."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import ActivationSpec, Array, OpSpec, Shape
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer


class Sigmoid(Neuron):
    """``0.5 · tanh(0.5 · x) + 0.5`` (``sigmoid_layer.cpp``)."""

    type: ClassVar[str] = "Sigmoid"

    def function(self, layer: Layer, x: Array) -> Array:
        """Return the logistic function."""
        return 0.5 * np.tanh(0.5 * x) + 0.5

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Kind ``sigmoid``."""
        return ActivationSpec("sigmoid")


class TanH(Neuron):
    """``tanh(x)`` (``tanh_layer.cpp``)."""

    type: ClassVar[str] = "TanH"

    def function(self, layer: Layer, x: Array) -> Array:
        """Return the hyperbolic tangent."""
        return np.tanh(x)

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Kind ``tanh``."""
        return ActivationSpec("tanh")
