"""BNLL."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer

FOUR = ((2, 3, 4, 5),)


class BNLL(Neuron):
    """``log(1 + eˣ)`` (``bnll_layer.cpp``)."""

    type: ClassVar[str] = "BNLL"

    def function(self, layer: Layer, x: Array) -> Array:
        """Keep the exponential's argument negative."""
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
