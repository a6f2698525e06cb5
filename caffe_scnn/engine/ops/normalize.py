"""Vectors brought to one length: Normalize."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import NormalizeSpec


class NormalizeOp(Op):
    """``scale · x / √(Σx² + eps)``, item by item."""

    name: ClassVar[str] = "normalize"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, NormalizeSpec)
        axes = len(node.reads[0].shape) - 1
        self.axes = tuple(range(axes)) if node.spec.across_spatial else (0,)
        self.eps, self.scale = np.float32(node.spec.eps), node.spec.scale
        if self.scale is not None:
            self.scale = self.scale.reshape(-1, *[1] * (axes - 1))
        self.kernel = "numpy_normalize"

    def run(self, arena: Float32) -> None:
        """Normalise, then scale; a vector of length 0 gives NaN where there is no eps."""
        clear(self.writes[0], arena)
        with np.errstate(invalid="ignore"):
            for x, y in zip(self.reads[0].array(arena), self.writes[0].array(arena), strict=True):
                length = np.sqrt(np.square(x).sum(self.axes, keepdims=True) + self.eps)
                np.divide(x, length, out=y)
                if self.scale is not None:
                    np.multiply(y, self.scale, out=y)
