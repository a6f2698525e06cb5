"""LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array, Example, Param, Shape, constant_fill
from caffe_scnn.layers.recurrent import Recurrent, sigmoid
from caffe_scnn.model.net import Layer


class LSTM(Recurrent):
    """Long short-term memory; gates in the order i, f, o, g (``lstm_layer.cpp``)."""

    type: ClassVar[str] = "LSTM"
    states: ClassVar[int] = 2

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """W_xc (4D, I), b_c (4D), optional W_xc_static (4D, S), W_hc (4D, D)."""
        outputs = self._outputs(layer)
        weight = constant_fill(layer.proto.recurrent_param.weight_filler)
        return [
            *self.input_params(layer, bottoms, 4 * outputs),
            Param((4 * outputs, outputs), weight),
        ]

    def step(self, blobs: Sequence[Array], drive: Array, state: list[Array]) -> list[Array]:
        """Open and close the gates."""
        h, c = state
        return [(new := lstm_unit(c, drive + h @ blobs[0].T))[1], new[1], new[0]]

    def examples(self) -> list[Example]:
        """Without and with a static input, and with the state shown."""
        body = "recurrent_param { num_output: 3 %s }"
        x = ((4, 2, 3), (4, 2))
        return [
            Example(body % "", x),
            Example(body % "", (*x, (2, 5))),
            Example(body % "expose_hidden: true", (*x, (1, 2, 3), (1, 2, 3)), tops=3),
        ]


def lstm_unit(c: Array, gates: Array) -> tuple[Array, Array]:
    """One step of the cell: c (…, D) and gates (…, 4D) to the new c and h.

    The mark of a sequence's begin is already multiplied into c.
    """
    i, f, o, g = np.split(gates, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)
