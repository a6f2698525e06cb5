"""Element-wise sum, product and maximum of two or more blobs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn import _kernels
from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op
from caffe_scnn.engine.ops.finish import finish_of
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.engine.threads import MOVED, threads_for
from caffe_scnn.layers.base import EltwiseSpec

OPERATIONS = {"sum": 0, "prod": 1, "max": 2}


class EltwiseOp(Op):
    """The first two operands, then each further one onto the result."""

    name: ClassVar[str] = "eltwise"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, EltwiseSpec)
        self.operation = OPERATIONS[node.spec.operation]
        self.coefficients = node.spec.coefficients or (1.0,) * len(self.reads)
        finish = finish_of(None, node.finish)
        self.low, self.high = finish.low, finish.high
        self.isa, self.kernel = context.isa, f"f32_binary__{context.isa}"
        self.threads = threads_for(MOVED * int(np.prod(self.writes[0].shape)), context.threads)

    def run(self, arena: Float32) -> None:
        """Fold the operands from the left; the clamp belongs to the last step."""
        target = self.writes[0].planes()
        last = len(self.reads) - 1
        left, scale = self.reads[0].planes(), self.coefficients[0]
        for index in range(1, len(self.reads)):
            low, high = (self.low, self.high) if index == last else (-np.inf, np.inf)
            _kernels.binary(
                self.isa,
                self.operation,
                arena,
                left,
                self.reads[index].planes(),
                target,
                scale,
                self.coefficients[index],
                low,
                high,
                self.reads[0].items,
                self.threads,
            )
            left, scale = target, 1.0
