"""Which of the values along an axis is the largest: the last step of a segmentation."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import ArgMaxSpec

BLOCK = 1 << 14  # results of one pass: what is known of them stays in a cache


class ArgMaxOp(Op):
    """Plane after plane against the best one so far."""

    name: ClassVar[str] = "argmax"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, ArgMaxSpec)
        self.axis, self.value, self.kernel = node.spec.axis, node.spec.value, "numpy_argmax"

    def run(self, arena: Float32) -> None:
        """Compare; without branches, which random values would mispredict."""
        clear(self.writes[0], arena)
        source, target = self.reads[0].array(arena), self.writes[0].array(arena)
        size = source.shape[self.axis]
        rows = np.moveaxis(source, self.axis, 0).reshape(size, -1)
        result = np.empty(rows.shape[1], np.float32)
        for begin in range(0, len(result), BLOCK):
            part = rows[:, begin : begin + BLOCK]
            best, where = part[0].copy(), np.zeros(part.shape[1], np.float32)
            for index in range(1, size):
                step = index - where
                step *= part[index] >= best
                where += step
                np.maximum(part[index], best, out=best)
            result[begin : begin + BLOCK] = best if self.value else where
        others = [n for axis, n in enumerate(source.shape) if axis != self.axis]
        np.copyto(target, np.expand_dims(result.reshape(others), self.axis))
