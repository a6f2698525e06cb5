"""Filter: the selected items, side by side, and how many there are."""

from __future__ import annotations

from typing import ClassVar

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32


class FilterOp(Op):
    """Moves the selected items to the front; the plan cuts what depends on them when it is read.

    Items behind are zero: everything after is computed on the whole batch, item by item.

    Attributes
    ----------
    count : int
        Items that the last run selected.
    axis : int
        Along which they lie.
    """

    axis = 0
    name: ClassVar[str] = "filter"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        self.kernel, self.count = "numpy_filter", self.writes[0].items

    def run(self, arena: Float32) -> None:
        """Copy the selected items."""
        *sources, selector = (tensor.array(arena) for tensor in self.reads)
        selected = selector.ravel() != 0
        self.count = int(selected.sum())
        for tensor, source in zip(self.writes, sources, strict=True):
            clear(tensor, arena)
            result = tensor.array(arena)
            result[: self.count] = source[selected]
            result[self.count :] = 0
