"""Im2col."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Example,
    LayerType,
    Shape,
)
from caffe_scnn.layers.geometry import convolution_window
from caffe_scnn.model.net import Layer


class Im2col(LayerType):
    """The patches of a convolution as channels (``im2col_layer.cpp``)."""

    type: ClassVar[str] = "Im2col"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """One channel for each input channel and tap."""
        window = convolution_window(layer, len(bottoms[0]) - 2)
        channels = bottoms[0][1] * int(np.prod(window.kernel))
        return [(bottoms[0][0], channels, *window.floor_output(bottoms[0][2:]))]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Stack the taps behind each channel."""
        window = convolution_window(layer, bottoms[0].ndim - 2)
        shape = self.infer(layer, [bottoms[0].shape])[0]
        return [np.stack(window.taps(bottoms[0], shape[2:]), axis=2).reshape(shape)]

    def examples(self) -> list[Example]:
        """Show a strided window."""
        return [Example("convolution_param { kernel_size: 3 stride: 2 pad: 1 }", ((2, 3, 6, 5),))]
