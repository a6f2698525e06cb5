"""PReLU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import ActivationSpec, Array, Example, OpSpec, Param, Shape, refuse
from caffe_scnn.layers.neuron import Neuron
from caffe_scnn.model.net import Layer


class PReLU(Neuron):
    """ReLU with a learnt slope for each channel, or one for all (``prelu_layer.cpp``)."""

    type: ClassVar[str] = "PReLU"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        if len(bottoms[0]) < 2:
            raise refuse(layer, f"needs a channel axis, got shape {bottoms[0]}")
        return super().infer(layer, bottoms)

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """Slopes (channels), or a scalar if ``channel_shared``."""
        param = layer.proto.prelu_param
        constant = param.filler.type == "constant"
        fill = float(param.filler.value) if param.HasField("filler") and constant else 0.25
        return [Param(() if param.channel_shared else (bottoms[0][1],), fill)]

    def function(self, layer: Layer, x: Array) -> Array:
        """Scale negative values by their channel's slope."""
        slope = layer.blobs[0].astype(np.float64).reshape(-1, *[1] * (x.ndim - 2))
        return np.where(x < 0, slope * x, x)

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Kind ``prelu``."""
        slopes = np.broadcast_to(layer.blobs[0], (bottoms[0][1],))
        return ActivationSpec("prelu", (), slopes)

    def examples(self) -> list[Example]:
        """Per channel and shared."""
        shared = Example("prelu_param { channel_shared: true }", ((2, 3),))
        return [Example("", ((2, 3, 4, 5),)), shared]
