"""RNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array, Example, Param, Shape, constant_fill
from caffe_scnn.layers.recurrent import Recurrent
from caffe_scnn.model.net import Layer


class RNN(Recurrent):
    """``h = tanh(W_hh h + W_xh x + b_h)``, ``o = tanh(W_ho h + b_o)`` (``rnn_layer.cpp``)."""

    type: ClassVar[str] = "RNN"
    states: ClassVar[int] = 1

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """W_xh (D, I), b_h (D), optional W_xh_static (D, S), W_hh (D, D), W_ho (D, D), b_o (D)."""
        outputs, param = self._outputs(layer), layer.proto.recurrent_param
        square = Param((outputs, outputs), constant_fill(param.weight_filler))
        bias = Param((outputs,), constant_fill(param.bias_filler))
        return [*self.input_params(layer, bottoms, outputs), square, square, bias]

    def step(self, blobs: Sequence[Array], drive: Array, state: list[Array]) -> list[Array]:
        """Advance the hidden state, then look at it."""
        to_hidden, to_output, bias = blobs
        h = np.tanh(drive + state[0] @ to_hidden.T)
        return [np.tanh(h @ to_output.T + bias), h]

    def examples(self) -> list[Example]:
        """Without and with the state shown."""
        body = "recurrent_param { num_output: 3 %s }"
        x = ((4, 2, 3), (4, 2))
        return [
            Example(body % "", x),
            Example(body % "expose_hidden: true", (*x, (1, 2, 3)), tops=2),
        ]
