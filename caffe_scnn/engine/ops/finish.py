"""Fused activations in the terms of the kernels: a slope for negative values, then a clamp."""

from __future__ import annotations

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


def apply_finish(values: Float32, finish: Finish) -> None:
    """Apply slope and clamp to values of shape (M, channels) in place; the bias is not added."""
    if finish.slope is not None:
        np.copyto(values, values * finish.slope, where=values < 0)
    if finish.low != -np.inf:
        np.maximum(values, np.float32(finish.low), out=values)
    if finish.high != np.inf:
        np.minimum(values, np.float32(finish.high), out=values)
