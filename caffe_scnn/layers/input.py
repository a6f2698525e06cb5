"""Input: the blobs that the caller provides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import Array, Coupling, LayerType, Shape, refuse
from caffe_scnn.model.net import Layer


class Input(LayerType):
    """Holds the shapes of the net's inputs (``input_layer.cpp``)."""

    type: ClassVar[str] = "Input"
    bottoms: ClassVar[tuple[int, int | None]] = (0, 0)
    tops: ClassVar[tuple[int, int | None]] = (1, None)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """One shape for all tops, or one each."""
        shapes = [tuple(shape.dim) for shape in layer.proto.input_param.shape]
        if len(shapes) not in (1, len(layer.tops)):
            raise refuse(
                layer, f"has {len(shapes)} shapes for {len(layer.tops)} tops; give one, or one each"
            )
        return shapes if len(shapes) == len(layer.tops) else shapes * len(layer.tops)

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Refuse: inputs are given, not computed."""
        raise refuse(layer, "its values must be given")

    def coupling(self, layer: Layer) -> Coupling:
        """Make new channels."""
        return Coupling.PRODUCES
