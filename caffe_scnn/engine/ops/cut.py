"""Parts of a blob: Slice, Crop."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import CutSpec


class CutOp(Op):
    """Copies each part."""

    name: ClassVar[str] = "cut"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, CutSpec)
        self.parts = [
            tuple(slice(b, b + n) for b, n in zip(begin, top.shape, strict=True))
            for begin, top in zip(node.spec.begins, self.writes, strict=True)
        ]
        self.kernel = "numpy_copy"

    def run(self, arena: Float32) -> None:
        """Copy."""
        source = self.reads[0].array(arena)
        for top, part in zip(self.writes, self.parts, strict=True):
            clear(top, arena)
            np.copyto(top.array(arena), source[part])
