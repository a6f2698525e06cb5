"""Concatenation: what was not written in place already is copied."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import ConcatSpec


class ConcatOp(Op):
    """Copies the parts whose producers could not write into the result."""

    name: ClassVar[str] = "concat"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, ConcatSpec)
        self.axis = node.spec.axis
        self.parts = []
        begin, whole = 0, self.writes[0]
        for part in self.reads:
            extent = part.shape[self.axis]
            place = whole.at + begin * whole.plane
            if self.axis != 1 or part.at != place or part.item != whole.item:
                self.parts.append((part, begin, begin + extent))
            begin += extent
        self.kernel = "numpy_copy" if self.parts else "none"
        self.why = f"{len(self.reads) - len(self.parts)} of {len(self.reads)} parts lie in place"

    def run(self, arena: Float32) -> None:
        """Copy the parts that are elsewhere."""
        if not self.parts:
            return
        whole = self.writes[0]
        target = whole.array(arena)
        if len(self.parts) == len(self.reads):
            clear(whole, arena)
        for part, begin, end in self.parts:
            index = (slice(None),) * self.axis + (slice(begin, end),)
            if not whole.contiguous and len(self.parts) < len(self.reads):
                self._clear_channels(arena, begin, end)
            np.copyto(target[index], part.array(arena))

    def _clear_channels(self, arena: Float32, begin: int, end: int) -> None:
        """Set the halo of some channels to zero (a tensor with a halo is joined along axis 1)."""
        whole = self.writes[0]
        for item in range(whole.items):
            at = whole.at + item * whole.item
            arena[at + begin * whole.plane : at + end * whole.plane] = 0
