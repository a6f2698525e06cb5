"""What LSTM and RNN share: steps over time, and a state that lives on from run to run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    LayerType,
    Param,
    Shape,
    constant_fill,
    count,
    refuse,
)
from caffe_scnn.model.net import Layer


class Recurrent(LayerType):
    """A layer over x (T, N, …) and the marks cont (T, N), 0 where a sequence begins.

    An optional third bottom (N, …) is the same for all steps. With ``expose_hidden`` the first
    state comes in as further bottoms (1, N, D), and the last one goes out as further tops; without,
    the last state of a run is the first one of the next, beginning with zeros
    (``recurrent_layer.cpp``).
    """

    bottoms: ClassVar[tuple[int, int | None]] = (2, 5)
    tops: ClassVar[tuple[int, int | None]] = (1, 3)
    states: ClassVar[int]  # arrays of the state: h, and c for an LSTM

    @abstractmethod
    def step(self, blobs: Sequence[Array], drive: Array, state: list[Array]) -> list[Array]:
        """One step: the drive (N, …) from the inputs, a state (N, D) each; returns the new state.

        The result of the step comes first if it is not the state's first array.
        """

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return (T, N, D), and (1, N, D) for each state that is shown."""
        x, cont = bottoms[:2]
        if len(x) < 2 or cont != x[:2]:
            raise refuse(layer, f"its input has shape {x}, its marks {cont}; (T, N) must agree")
        outputs, exposed = self._outputs(layer), self._exposed(layer)
        shown = self.states if exposed else 0
        static = len(bottoms) - 2 - shown
        if static not in (0, 1) or len(layer.tops) != 1 + shown:
            raise refuse(
                layer,
                f"has {len(bottoms)} bottoms and {len(layer.tops)} tops; with expose_hidden "
                f"{str(exposed).lower()} it takes {2 + shown} or {3 + shown}, and {1 + shown}",
            )
        if static and (len(bottoms[2]) < 1 or bottoms[2][0] != x[1]):
            raise refuse(layer, f"its static input has shape {bottoms[2]} for {x[1]} sequences")
        state = (1, x[1], outputs)
        for shape in bottoms[2 + static :]:
            if shape != state:
                raise refuse(layer, f"a state has shape {shape}, not {state}")
        return [(*x[:2], outputs), *[state] * shown]

    def input_params(self, layer: Layer, bottoms: Sequence[Shape], width: int) -> list[Param]:
        """Weights and bias on the input, and weights on the static one if there is one."""
        param = layer.proto.recurrent_param
        weight, bias = constant_fill(param.weight_filler), constant_fill(param.bias_filler)
        blobs = [Param((width, count(bottoms[0][2:])), weight), Param((width,), bias)]
        if self._has_static(layer, len(bottoms)):
            blobs.append(Param((width, count(bottoms[2][1:])), weight))
        return blobs

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Run from a state of zeros."""
        return self.advance(layer, bottoms, [])[0]

    def advance(
        self, layer: Layer, bottoms: Sequence[Array], state: list[Array]
    ) -> tuple[list[Array], list[Array]]:
        """Run from a given state."""
        x, cont = bottoms[:2]
        blobs = [blob.astype(np.float64) for blob in layer.blobs]
        drive = x.reshape(*x.shape[:2], -1) @ blobs[0].T + blobs[1]
        if self._has_static(layer, len(bottoms)):
            drive += bottoms[2].reshape(x.shape[1], -1) @ blobs[2].T
            del blobs[2]
        exposed = self._exposed(layer)
        shape = (x.shape[1], self._outputs(layer))
        if exposed:
            state = [bottom[0] for bottom in bottoms[-self.states :]]
        elif not state or state[0].shape != shape:
            state = [np.zeros(shape) for _ in range(self.states)]
        results = []
        for inputs, mark in zip(drive, cont, strict=True):
            result, *state = self.step(blobs[2:], inputs, [mark[:, None] * s for s in state])
            results.append(result)
        return [np.stack(results), *([s[None] for s in state] if exposed else [])], state

    def macs(self, layer: Layer, bottoms: Sequence[Shape]) -> int:
        """Every weight once for each step of each sequence; static ones once a sequence."""
        steps, sequences = bottoms[0][:2]
        params = self.params(layer, bottoms)
        static = count(params[2].shape) if self._has_static(layer, len(bottoms)) else 0
        weights = sum(count(p.shape) for p in params if len(p.shape) == 2) - static
        return sequences * (steps * weights + static)

    def nonzero_macs(self, layer: Layer, bottoms: Sequence[Shape]) -> int:
        """All of them: the reference multiplies by zeros too."""
        return self.macs(layer, bottoms)

    def _outputs(self, layer: Layer) -> int:
        outputs = int(layer.proto.recurrent_param.num_output)
        if outputs < 1:
            raise refuse(layer, "num_output must be positive")
        return outputs

    def _exposed(self, layer: Layer) -> bool:
        return bool(layer.proto.recurrent_param.expose_hidden)

    def _has_static(self, layer: Layer, bottoms: int) -> bool:
        return bottoms - 2 - (self.states if self._exposed(layer) else 0) == 1


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(−x))``, without overflow."""
    result: Array = 0.5 * np.tanh(0.5 * x) + 0.5
    return result
