"""LSTMUnit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffe_scnn.layers.base import Array, Example, LayerType, Shape, refuse
from caffe_scnn.layers.lstm import lstm_unit
from caffe_scnn.model.net import Layer


class LSTMUnit(LayerType):
    """One step of an LSTM: c (1, N, D), gates (1, N, 4D), cont (1, N) to the new c and h.

    It is what Caffe builds its LSTM of (``lstm_unit_layer.cpp``).
    """

    type: ClassVar[str] = "LSTMUnit"
    bottoms: ClassVar[tuple[int, int | None]] = (3, 3)
    tops: ClassVar[tuple[int, int | None]] = (2, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Both tops have the shape of c."""
        c, gates, cont = bottoms
        if len(c) != 3 or c[0] != 1 or gates != (1, c[1], 4 * c[2]) or cont != (1, c[1]):
            raise refuse(
                layer,
                f"its bottoms have the shapes {c}, {gates} and {cont}, "
                "not (1, N, D), (1, N, 4D) and (1, N)",
            )
        return [c, c]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Open and close the gates."""
        c, gates, cont = bottoms
        return list(lstm_unit(cont[..., None] * c, gates))

    def examples(self) -> list[Example]:
        """Three sequences."""
        return [Example("", ((1, 3, 4), (1, 3, 16), (1, 3)), tops=2)]
