"""Threshold."""

from __future__ import annotations

from typing import ClassVar

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer

FOUR = ((2, 3, 4, 5),)


class Threshold(Neuron):
    """``x > threshold ? 1 : 0`` (``threshold_layer.cpp``)."""

    type: ClassVar[str] = "Threshold"

    def function(self, layer: Layer, x: Array) -> Array:
        """Compare strictly."""
        return (x > layer.proto.threshold_param.threshold).astype(x.dtype)
