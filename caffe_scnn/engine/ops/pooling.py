"""Max and average pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from caffe_scnn._kernels import Planes, Pooling
from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, Rows
from caffe_scnn.engine.tensor import Float32, rows_of
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

    def part(self, rows: Rows, arena: Float32) -> Callable[[], object]:
        """Return a call that computes some rows, of windows that are clipped to the image."""
        (above, below), target = rows.outside, rows.target
        needed = (target.height - 1) * self.spec.stride[0] + self.spec.kernel[0]
        first = rows.row - self.spec.pad[0] + above
        given = rows_of(rows.source, rows.item, first, needed - above - below)
        pad = above, self.spec.pad[1]
        return self._pooling(arena, given, target, pad, 1, halo=False)

    def bind(self, arena: Float32) -> Callable[[], object]:
        """Return a call that pools every plane."""
        source, target = self.reads[0], self.writes[0]
        planes = source.planes(), target.planes()
        return self._pooling(arena, *planes, self.spec.pad, source.items, halo=True)

    def _pooling(
        self,
        arena: Float32,
        source: Planes,
        target: Planes,
        pad: tuple[int, int],
        items: int,
        *,
        halo: bool,
    ) -> Pooling:
        spec = self.spec
        return Pooling(
            self.isa,
            spec.method,
            arena,
            source,
            target,
            spec.kernel,
            spec.stride,
            pad,
            items,
            self.rows,
            self.threads,
            halo,
        )
