"""DummyData."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    ConstantSpec,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    Shape,
    refuse,
)
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb


class DummyData(LayerType):
    """Tops of constant values (``dummy_data_layer.cpp``); random fillers cannot be reproduced."""

    type: ClassVar[str] = "DummyData"
    bottoms: ClassVar[tuple[int, int | None]] = (0, 0)
    tops: ClassVar[tuple[int, int | None]] = (1, None)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """One shape for all tops or one each, in either form."""
        param, tops = layer.proto.dummy_data_param, len(layer.tops)
        shapes: list[Shape] = [tuple(shape.dim) for shape in param.shape]
        if not shapes:
            old = (param.num, param.channels, param.height, param.width)
            shapes = [(int(n), int(c), int(h), int(w)) for n, c, h, w in zip(*old, strict=True)]
        if len(shapes) not in (1, tops) or len(param.data_filler) not in (0, 1, tops):
            raise refuse(
                layer,
                f"has {len(shapes)} shapes and {len(param.data_filler)} fillers for {tops} tops",
            )
        return shapes if len(shapes) == tops else shapes * tops

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Fill."""
        fillers = list(layer.proto.dummy_data_param.data_filler) or [pb.FillerParameter()]
        fillers = fillers * len(layer.tops) if len(fillers) == 1 else fillers
        random = [filler.type for filler in fillers if filler.type != "constant"]
        if random:
            raise refuse(
                layer, f'filler "{random[0]}" is random: feed the values through an Input layer'
            )
        shapes = self.infer(layer, [])
        return [np.full(s, f.value) for s, f in zip(shapes, fillers, strict=True)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return constants."""
        return ConstantSpec(tuple(top.astype(np.float32) for top in self.reference(layer, [])))

    def coupling(self, layer: Layer) -> Coupling:
        """Make new channels."""
        return Coupling.PRODUCES

    def examples(self) -> list[Example]:
        """Two tops of one shape."""
        body = "dummy_data_param { shape { dim: 2 dim: 3 } data_filler { value: 1.5 } }"
        return [Example(body, (), tops=2)]
