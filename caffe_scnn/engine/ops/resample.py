"""Images in another size: Interp, and Upsample that repeats."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import ResampleSpec, Sampling

BLOCK = 1 << 16  # pixels of the channels that are resampled together


class ResampleOp(Op):
    """One axis after the other, first the one that leaves fewer pixels for the second."""

    name: ClassVar[str] = "resample"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, ResampleSpec)
        (height, width), spec = node.reads[0].shape[2:], node.spec
        rows, columns = _Axis(spec.rows, 1), _Axis(spec.columns, 2)
        rows_first = len(spec.rows.low) * width < height * len(spec.columns.low)
        self.axes = (rows, columns) if rows_first else (columns, rows)
        self.channels = max(1, BLOCK // max(self.reads[0].plane, self.writes[0].plane))
        self.kernel = "numpy_resample"

    def run(self, arena: Float32) -> None:
        """Resample a few channels at a time: intermediate results stay in a cache."""
        clear(self.writes[0], arena)
        source, target = self.reads[0].array(arena), self.writes[0].array(arena)
        first, second = self.axes
        for item, begin in product(range(len(source)), range(0, source.shape[1], self.channels)):
            part = item, slice(begin, begin + self.channels)
            np.copyto(target[part], second(first(source[part])))


class _Axis:
    """Linear interpolation along one axis of (C, H, W)."""

    def __init__(self, sampling: Sampling, axis: int) -> None:
        self.axis, self.low = axis, sampling.low
        self.fraction: Float32 | None = None
        if sampling.fraction.any():
            self.fraction = sampling.fraction.reshape(-1, *[1] * (2 - axis))
            self.high = sampling.low + (sampling.fraction != 0)

    def __call__(self, x: Float32) -> Float32:
        """``(1 − f) · x[low] + f · x[high]``."""
        low: Float32 = x.take(self.low, self.axis)
        if self.fraction is not None:
            low *= 1 - self.fraction
            high: Float32 = x.take(self.high, self.axis)
            high *= self.fraction
            low += high
        return low
