"""Clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import ActivationSpec, Array, Example, OpSpec, Shape, refuse
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer


class Clip(Neuron):
    """``min(max(x, min), max)``, both bounds required (``clip_layer.cpp``)."""

    type: ClassVar[str] = "Clip"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        param = layer.proto.clip_param
        if not (param.HasField("min") and param.HasField("max")):
            raise refuse(layer, "clip_param needs both min and max")
        return super().infer(layer, bottoms)

    def function(self, layer: Layer, x: Array) -> Array:
        """Clamp."""
        return np.clip(x, layer.proto.clip_param.min, layer.proto.clip_param.max)

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Kind ``clip``."""
        return ActivationSpec("clip", (layer.proto.clip_param.min, layer.proto.clip_param.max))

    def examples(self) -> list[Example]:
        """Bounds of both signs."""
        return [Example("clip_param { min: -0.5 max: 0.75 }", ((2, 3, 4, 5),))]
