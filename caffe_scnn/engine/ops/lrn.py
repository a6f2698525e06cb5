"""Local response normalisation across channels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn import _kernels
from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.engine.threads import MOVED, threads_for
from caffe_scnn.layers.base import LRNSpec


class LRNOp(Op):
    """Strips of pixels, all channels of a strip in one task."""

    name: ClassVar[str] = "lrn"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, LRNSpec)
        self.isa, self.spec = context.isa, node.spec
        self.kernel = f"f32_lrn__{context.isa}"
        work = MOVED * int(np.prod(self.writes[0].shape))
        self.threads = threads_for(work, context.threads)

    def run(self, arena: Float32) -> None:
        """Normalise."""
        spec = self.spec
        _kernels.lrn(
            self.isa,
            arena,
            self.reads[0].planes(),
            self.writes[0].planes(),
            spec.local_size,
            spec.alpha,
            spec.beta,
            spec.k,
            self.reads[0].items,
            self.threads,
        )
