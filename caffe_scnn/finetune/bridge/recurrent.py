"""LSTM, RNN, and the single step of an LSTM."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.model.net import Layer


class Recurrent(LayerModule):
    """Steps over time; without ``expose_hidden`` the last state is the next run's first one.

    Gradients do not reach back into an earlier run.
    """

    states: ClassVar[int]

    def __init__(self, layer: Layer, blobs: Sequence[nn.Parameter]) -> None:
        super().__init__(layer, blobs)
        self.state: list[Tensor] = []

    def reset_state(self) -> None:
        """Begin with zeros again."""
        self.state = []

    @abstractmethod
    def step(self, blobs: Sequence[Tensor], drive: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Return the result of a step, and the new state."""

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Run over time."""
        shapes = self.infer(bottoms)
        x, cont = bottoms[:2]
        exposed = bool(self.layer.proto.recurrent_param.expose_hidden)
        blobs = [self.blob(i) for i in range(len(self.blobs))]
        drive = x.reshape(*x.shape[:2], -1) @ blobs[0].T + blobs[1]
        if len(bottoms) - 2 - self.states * exposed == 1:
            drive = drive + bottoms[2].reshape(x.shape[1], -1) @ blobs[2].T
            del blobs[2]
        state = [bottom[0] for bottom in bottoms[-self.states :]] if exposed else self.state
        if not state or state[0].shape != shapes[0][1:]:
            state = [x.new_zeros(shapes[0][1:]) for _ in range(self.states)]
        results = []
        for inputs, mark in zip(drive, cont, strict=True):
            result, *state = self.step(blobs[2:], inputs, [mark[:, None] * s for s in state])
            results.append(result)
        if not exposed:
            self.state = [s.detach() for s in state]
        return [torch.stack(results), *([s[None] for s in state] if exposed else [])]


class LSTM(Recurrent):
    """Long short-term memory; gates in the order i, f, o, g."""

    types: ClassVar[tuple[str, ...]] = ("LSTM",)
    states: ClassVar[int] = 2

    def step(self, blobs: Sequence[Tensor], drive: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Open and close the gates."""
        h, c = state
        c, h = lstm_unit(c, drive + h @ blobs[0].T)
        return [h, h, c]


class RNN(Recurrent):
    """``h = tanh(W_hh h + W_xh x + b_h)``, ``o = tanh(W_ho h + b_o)``."""

    types: ClassVar[tuple[str, ...]] = ("RNN",)
    states: ClassVar[int] = 1

    def step(self, blobs: Sequence[Tensor], drive: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Advance the hidden state, then look at it."""
        to_hidden, to_output, bias = blobs
        h = torch.tanh(drive + state[0] @ to_hidden.T)
        return [torch.tanh(h @ to_output.T + bias), h]


class LSTMUnit(LayerModule):
    """One step of an LSTM: c, gates, cont to the new c and h."""

    types: ClassVar[tuple[str, ...]] = ("LSTMUnit",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Open and close the gates."""
        self.infer(bottoms)
        c, gates, cont = bottoms
        return lstm_unit(cont[..., None] * c, gates)


def lstm_unit(c: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the cell: c (…, D) and gates (…, 4D) to the new c and h."""
    i, f, o, g = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return c, torch.sigmoid(o) * torch.tanh(c)
