"""Tops that depend on nothing: DummyData, Parameter."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import ConstantSpec


class ConstantOp(Op):
    """Writes the values afresh: other blobs may have used the memory."""

    name: ClassVar[str] = "constant"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, ConstantSpec)
        self.values, self.kernel = node.spec.values, "numpy_copy"

    def run(self, arena: Float32) -> None:
        """Write the values."""
        for top, values in zip(self.writes, self.values, strict=True):
            clear(top, arena)
            np.copyto(top.array(arena), values)
