"""Axes in another order: Permute, ShuffleChannel."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import RearrangeSpec


class RearrangeOp(Op):
    """A strided copy."""

    name: ClassVar[str] = "rearrange"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, RearrangeSpec)
        self.split, self.order = node.spec.split, node.spec.order
        self.kernel = "numpy_rearrange"

    def run(self, arena: Float32) -> None:
        """Copy; axes are only ever cut in two, so both sides stay views."""
        clear(self.writes[0], arena)
        target = self.writes[0].array(arena).reshape([self.split[axis] for axis in self.order])
        np.copyto(target, self.reads[0].array(arena).reshape(self.split).transpose(self.order))
