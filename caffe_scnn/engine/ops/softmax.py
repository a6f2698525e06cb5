"""Softmax along an axis, by NumPy: classifiers have a few thousand values at most."""

from __future__ import annotations

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

    def run(self, arena: Float32) -> None:
        """Compute the probabilities."""
        x, y = self.reads[0].array(arena), self.writes[0].array(arena)
        clear(self.writes[0], arena)
        np.subtract(x, x.max(axis=self.axis, keepdims=True), out=y)
        np.exp(y, out=y)
        np.divide(y, y.sum(axis=self.axis, keepdims=True), out=y)
