"""ShuffleChannel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Example,
    LayerType,
    OpSpec,
    RearrangeSpec,
    Shape,
    refuse,
)
from caffe_scnn.model.net import Layer


class ShuffleChannel(LayerType):
    """Channels of all groups in turn: the first of each, the second … (fork farmingyard)."""

    type: ClassVar[str] = "ShuffleChannel"
    stock: ClassVar[bool] = False

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        group = layer.proto.shuffle_channel_param.group
        if len(bottoms[0]) < 2 or group < 1 or bottoms[0][1] % group:
            raise refuse(layer, f"{group} groups do not divide the channels of {bottoms[0]}")
        return [bottoms[0]]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Swap group and place in the group."""
        x, group = bottoms[0], int(layer.proto.shuffle_channel_param.group)
        parts = x.reshape(len(x), group, x.shape[1] // group, -1)
        return [np.ascontiguousarray(parts.swapaxes(1, 2)).reshape(x.shape)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Swap two halves of the channel axis."""
        (items, channels, *rest), group = bottoms[0], int(layer.proto.shuffle_channel_param.group)
        split = (items, group, channels // group, *rest)
        return RearrangeSpec(split, (0, 2, 1, *range(3, len(split))))

    def examples(self) -> list[Example]:
        """Three groups of two."""
        return [Example("shuffle_channel_param { group: 3 }", ((2, 6, 4, 5),))]
