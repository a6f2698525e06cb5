"""A blob times a smaller one that is spread over it: Axpy, Scale by a second bottom."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import ProductSpec


class ProductOp(Op):
    """``x · a``, or ``x · a + y``."""

    name: ClassVar[str] = "product"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, ProductSpec)
        self.spread, self.kernel = node.spec.spread, "numpy_product"

    def run(self, arena: Float32) -> None:
        """Multiply and add item by item, so that the product is still in a cache."""
        clear(self.writes[0], arena)
        arrays = [tensor.array(arena) for tensor in self.reads]
        arrays[1] = np.broadcast_to(arrays[1].reshape(self.spread), arrays[0].shape)
        for x, factor, *addend, y in zip(*arrays, self.writes[0].array(arena), strict=True):
            np.multiply(x, factor, out=y)
            for values in addend:
                np.add(y, values, out=y)
