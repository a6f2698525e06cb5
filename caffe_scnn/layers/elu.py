"""ELU."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer

FOUR = ((2, 3, 4, 5),)


class ELU(Neuron):
    """``max(x, 0) + alpha · (exp(min(x, 0)) − 1)`` (``elu_layer.cpp``)."""

    type: ClassVar[str] = "ELU"

    def function(self, layer: Layer, x: Array) -> Array:
        """Bend negative values."""
        return np.maximum(x, 0) + layer.proto.elu_param.alpha * np.expm1(np.minimum(x, 0))
