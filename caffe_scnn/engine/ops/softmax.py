"""Softmax along an axis, by NumPy: classifiers have a few thousand values at most."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import SoftmaxSpec


class SoftmaxOp(Op):
    """``exp(x − max) / Σ``."""

    name: ClassVar[str] = "softmax"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, SoftmaxSpec)
        self.axis, self.kernel = node.spec.axis, "numpy_softmax"
        shape, axis = self.writes[0].shape, node.spec.axis
        # one row a distribution, if nothing else lies between its values: far faster in NumPy
        self.rows = (-1, shape[axis]) if math.prod(shape[axis:]) == shape[axis] else None

    def run(self, arena: Float32) -> None:
        """Compute the probabilities."""
        x, y = self.reads[0].array(arena), self.writes[0].array(arena)
        axis = self.axis
        if self.rows and self.reads[0].contiguous and self.writes[0].contiguous:
            x, y, axis = x.reshape(self.rows), y.reshape(self.rows), 1
        clear(self.writes[0], arena)
        np.subtract(x, x.max(axis=axis, keepdims=True), out=y)
        np.exp(y, out=y)
        np.divide(y, y.sum(axis=axis, keepdims=True), out=y)
