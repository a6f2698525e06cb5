"""Local response normalisation within the windows of a channel."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn import _kernels
from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.engine.threads import MOVED, threads_for
from caffe_scnn.layers.base import LRNWithinSpec


class LRNWithinOp(Op):
    """One plane a task."""

    name: ClassVar[str] = "lrn"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, LRNWithinSpec)
        self.isa, self.beta = context.isa, node.spec.beta
        self.kernel = f"f32_lrn_within__{context.isa}"
        source = self.reads[0]
        # windows count their pixels outside the map, as zeros; farther than across it none differ
        self.share = node.spec.alpha / node.spec.local_size**2
        self.half = min(node.spec.local_size // 2, max(source.height, source.width))
        work = 2 * MOVED * int(np.prod(source.shape))
        self.threads = threads_for(work, context.threads)
        self.columns = np.empty((self.threads, source.width + 2 * self.half + 16), np.float32)

    def run(self, arena: Float32) -> None:
        """Normalise every plane."""
        _kernels.lrn_within(
            self.isa,
            arena,
            self.reads[0].planes(),
            self.writes[0].planes(),
            self.half,
            self.share,
            self.beta,
            self.reads[0].items,
            self.columns,
            self.threads,
        )
