"""Layers whose result has as many rows as the data give: their reference, and how many came."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, clear
from caffe_scnn.engine.ops.reference import ReferenceOp
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import RaggedSpec


class RaggedOp(ReferenceOp):
    """The slow twin, whose result is cut along one axis when it is read.

    Attributes
    ----------
    count : int
        Rows that the last run gave.
    axis : int
        Along which they lie.
    """

    name: ClassVar[str] = "ragged"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, RaggedSpec)
        self.axis = node.spec.axis
        self.count = self.writes[0].shape[self.axis]

    def run(self, arena: Float32) -> None:
        """Run the reference in float64; rows behind are zero."""
        bottoms = [tensor.array(arena).astype(np.float64) for tensor in self.reads]
        tops = self.type.reference(self.layer, bottoms)
        self.count = tops[0].shape[self.axis]
        for tensor, values in zip(self.writes, tops, strict=True):
            clear(tensor, arena)
            head = tensor.array(arena)[(*[slice(None)] * self.axis, slice(values.shape[self.axis]))]
            np.copyto(head, values, casting="same_kind")
