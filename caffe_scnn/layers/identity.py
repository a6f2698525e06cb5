"""Layers that pass their bottom on at TEST: Dropout and Split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    ReferenceSpec,
    Shape,
    ViewSpec,
)
from caffe_scnn.model.net import Layer


class Dropout(LayerType):
    """The identity at TEST: Caffe scales while it trains (``dropout_layer.cpp``).

    With ``scale_train: false`` (forks SPP_net and faster-rcnn) training did not scale, so TEST
    multiplies by ``1 - dropout_ratio``.
    """

    type: ClassVar[str] = "Dropout"
    in_place: ClassVar[bool] = True

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape, for every top."""
        return [bottoms[0]] * len(layer.tops)

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Copy, or scale."""
        return [bottoms[0] * self._scale(layer) for _ in layer.tops]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Return a view unless there is something to scale."""
        return ViewSpec() if self._scale(layer) == 1 else ReferenceSpec()

    def coupling(self, layer: Layer) -> Coupling:
        """Channel by channel."""
        return Coupling.PASSES

    def examples(self) -> list[Example]:
        """Nothing to do, and a fork's scale."""
        scaled = "dropout_param { dropout_ratio: 0.25 scale_train: false }"
        return [Example("", ((2, 3, 4, 5),)), Example(scaled, ((2, 3, 4, 5),))]

    def _scale(self, layer: Layer) -> float:
        param = layer.proto.dropout_param
        return 1.0 if param.scale_train else 1 - param.dropout_ratio


class Split(Dropout):
    """Its bottom under several names (``split_layer.cpp``)."""

    type: ClassVar[str] = "Split"
    tops: ClassVar[tuple[int, int | None]] = (1, None)
    in_place: ClassVar[bool] = False

    def examples(self) -> list[Example]:
        """Two tops."""
        return [Example("", ((2, 3),), tops=2)]
