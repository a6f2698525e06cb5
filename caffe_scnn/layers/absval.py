"""AbsVal."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer

FOUR = ((2, 3, 4, 5),)


class AbsVal(Neuron):
    """``|x|`` (``absval_layer.cpp``); Caffe refuses it in place."""

    type: ClassVar[str] = "AbsVal"
    in_place: ClassVar[bool] = False

    def function(self, layer: Layer, x: Array) -> Array:
        """Return the absolute value."""
        return np.abs(x)
