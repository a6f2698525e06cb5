"""Groups of planes woven into one: the last step of a strided deconvolution."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import InterleaveSpec


class InterleaveOp(Op):
    """One strided copy for each phase within the stride."""

    name: ClassVar[str] = "interleave"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, InterleaveSpec)
        self.stride, self.kernel = node.spec.stride, "numpy_interleave"
        rows, columns = (
            [_cuts(phase, stride, begin, size) for phase in range(stride)]
            for stride, begin, size in zip(
                node.spec.stride, node.spec.begin, node.writes[0].shape[2:], strict=True
            )
        )
        self.cuts = list(product(rows, columns))

    def run(self, arena: Float32) -> None:
        """Copy phase by phase."""
        clear(self.writes[0], arena)
        x, y = self.reads[0].array(arena), self.writes[0].array(arena)
        phases = len(self.cuts)
        for phase, ((row, top), (column, left)) in enumerate(self.cuts):
            np.copyto(y[:, :, top, left], x[:, phase::phases, row, column])


def _cuts(phase: int, stride: int, begin: int, size: int) -> tuple[slice, slice]:
    """Return which pixels of a phase's plane go where along one axis."""
    first = (phase - begin) % stride
    count = max(0, -(-(size - first) // stride))
    source = (first + begin) // stride
    return slice(source, source + count), slice(first, size, stride)
