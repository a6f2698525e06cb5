"""Max pooling that also says where each maximum lies."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import MaskedPoolingSpec

LOWEST = np.finfo(np.float32).min  # where Caffe's search begins
BLOCK = 1 << 16  # pixels of the channels that are pooled together
Cut = tuple[slice, slice]


class MaskedPoolingOp(Op):
    """Tap by tap: pixels that exceed what was found so far replace it, so the first one stays."""

    name: ClassVar[str] = "masked_pooling"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, MaskedPoolingSpec)
        self.kernel = "numpy_maskedpool"
        height, width = self.reads[0].height, self.reads[0].width
        places = np.arange(height * width, dtype=np.float32).reshape(height, width)
        self.taps = [(*cuts, places[cuts[0]].copy()) for cuts in _taps(node)]

    def run(self, arena: Float32) -> None:
        """Pool item by item, a few channels at a time."""
        for tensor in self.writes:
            clear(tensor, arena)
        x, y, mask = (tensor.array(arena) for tensor in [*self.reads, *self.writes])
        channels = max(1, BLOCK // (x.shape[2] * x.shape[3]))
        for item, begin in product(range(len(x)), range(0, x.shape[1], channels)):
            at = item, slice(begin, begin + channels)
            y[at], mask[at] = LOWEST, -1
            self._pool(x[at], y[at], mask[at])

    def _pool(self, x: Float32, y: Float32, mask: Float32) -> None:
        """Look at each tap; without branches, which random values would mispredict."""
        for source, target, places in self.taps:
            pixels = np.ascontiguousarray(x[(slice(None), *source)])
            best, where = y[(slice(None), *target)], mask[(slice(None), *target)]
            step = places - where
            step *= pixels > best
            where += step
            np.maximum(pixels, best, out=best)


def _taps(node: Node) -> list[tuple[Cut, Cut]]:
    """List, for every tap, the pixels it meets and the windows these belong to."""
    spec = node.spec
    assert isinstance(spec, MaskedPoolingSpec)
    sizes = zip(
        node.reads[0].shape[2:], node.writes[0].shape[2:], spec.kernel, spec.stride, spec.pad,
        strict=True,
    )  # fmt: skip
    axes = []
    for size, windows, kernel, stride, pad in sizes:
        axis = []
        for tap in range(kernel):
            first = max(0, -(-(pad - tap) // stride))
            last = min(windows - 1, (size - 1 + pad - tap) // stride)
            if first <= last:
                begin, end = first * stride + tap - pad, last * stride + tap - pad + 1
                axis.append((slice(begin, end, stride), slice(first, last + 1)))
        axes.append(axis)
    return [
        ((rows, columns), (top, left)) for (rows, top), (columns, left) in product(axes[0], axes[1])
    ]
