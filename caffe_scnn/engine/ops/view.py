"""Layers that only give a blob another shape."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32


class ViewOp(Op):
    """Nothing where the memory is shared, else a copy."""

    name: ClassVar[str] = "view"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        self.copies = [top for top in self.writes if top.at != self.reads[0].at]
        self.kernel = "numpy_copy" if self.copies else "none"

    def run(self, arena: Float32) -> None:
        """Copy where source and result lie apart."""
        for top in self.copies:
            clear(top, arena)
            np.copyto(top.array(arena), self.reads[0].array(arena).reshape(top.shape))
