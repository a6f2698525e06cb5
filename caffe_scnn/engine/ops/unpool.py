"""Values put back to where a max pooling took them from."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import UnpoolSpec, refuse


class UnpoolOp(Op):
    """Scatters plane by plane; of several values for one place the last one stays."""

    name: ClassVar[str] = "unpool"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, UnpoolSpec)
        self.layer, self.kernel = node.layers[0], "numpy_unpool"

    def run(self, arena: Float32) -> None:
        """Set everything to zero, then scatter."""
        x, mask = (tensor.array(arena) for tensor in self.reads)
        y = self.writes[0].array(arena)
        height, width = y.shape[2:]
        if mask.min() < 0 or mask.max() >= height * width:
            worst = mask.min() if mask.min() < 0 else mask.max()
            raise refuse(self.layer, f"the mask points to {worst:g}, outside of {height}x{width}")
        clear(self.writes[0], arena)
        plane = np.empty(height * width, np.float32)
        for item, channel in np.ndindex(*x.shape[:2]):
            plane.fill(0)
            plane[mask[item, channel].ravel().astype(np.int64)] = x[item, channel].ravel()
            np.copyto(y[item, channel], plane.reshape(height, width))
