"""Fused activations in the terms of the kernels: a slope for negative values, then a clamp."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from caffe_scnn.engine.packing import Finish
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import ActivationSpec


def finish_of(bias: Float32 | None, activation: ActivationSpec | None) -> Finish:
    """Translate a bias and a fused activation."""
    if activation is None:
        return Finish(bias)
    if activation.kind == "clip":
        low, high = activation.args
        return Finish(bias, None, low, high)
    if activation.kind == "prelu":
        assert activation.slopes is not None
        return Finish(bias, activation.slopes)
    slope = activation.args[0]
    if slope == 0:
        return Finish(bias, None, 0.0)
    return Finish(bias, slope)


def finish_calls(values: Float32, finish: Finish) -> list[Callable[[], object]]:
    """Return calls that apply slope and clamp to values of shape (M, channels) in place.

    The bias is not added.
    """
    calls: list[Callable[[], object]] = []
    slope = finish.slope
    if slope is not None:
        calls.append(lambda: np.copyto(values, values * slope, where=values < 0))
    if finish.low != -np.inf:
        calls.append(partial(np.maximum, values, np.float32(finish.low), out=values))
    if finish.high != np.inf:
        calls.append(partial(np.minimum, values, np.float32(finish.high), out=values))
    return calls
