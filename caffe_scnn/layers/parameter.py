"""Parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    ConstantSpec,
    Example,
    LayerType,
    OpSpec,
    Param,
    Shape,
)
from caffe_scnn.model.net import Layer


class Parameter(LayerType):
    """A learnt blob as a top (``parameter_layer.hpp``)."""

    type: ClassVar[str] = "Parameter"
    bottoms: ClassVar[tuple[int, int | None]] = (0, 0)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape that is given."""
        return [tuple(layer.proto.parameter_param.shape.dim)]

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """List the blob itself."""
        return [Param(self.infer(layer, bottoms)[0])]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Return the blob."""
        return [layer.blobs[0].astype(np.float64)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return a constant."""
        return ConstantSpec((layer.blobs[0],))

    def examples(self) -> list[Example]:
        """Show a matrix."""
        return [Example("parameter_param { shape { dim: 2 dim: 3 } }", ())]
