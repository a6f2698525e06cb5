"""Max and average pooling."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn import _kernels
from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.engine.threads import MOVED, threads_for
from caffe_scnn.layers.base import PoolingSpec


class PoolingOp(Op):
    """One plane a task."""

    name: ClassVar[str] = "pooling"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, PoolingSpec)
        self.isa, self.spec = context.isa, node.spec
        self.kernel = f"f32_{node.spec.method}pool__{context.isa}"
        work = 2 * MOVED * int(np.prod(self.reads[0].shape))
        self.threads = threads_for(work, context.threads)
        row = 2 * (self.reads[0].width + node.spec.kernel[1] + 16)
        self.rows = np.empty((self.threads, row), np.float32)

    def run(self, arena: Float32) -> None:
        """Pool every plane."""
        spec = self.spec
        _kernels.pool(
            self.isa,
            spec.method,
            arena,
            self.reads[0].planes(),
            self.writes[0].planes(),
            spec.kernel,
            spec.stride,
            spec.pad,
            self.reads[0].items,
            self.rows,
            self.threads,
        )
