"""Softmax along an axis: a kernel where the values lie side by side, else NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np

from caffe_scnn._kernels import Softmax
from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.engine.threads import MOVED, threads_for
from caffe_scnn.layers.base import SoftmaxSpec


class SoftmaxOp(Op):
    """``exp(x − max) / Σ``."""

    name: ClassVar[str] = "softmax"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, SoftmaxSpec)
        self.axis, self.kernel = node.spec.axis, "numpy_softmax"
        source, target = self.reads[0], self.writes[0]
        self.size = source.shape[self.axis]
        beside = math.prod(source.shape[self.axis :]) == self.size
        self.isa = context.isa if beside and source.contiguous and target.contiguous else None
        if self.isa:
            self.kernel = f"f32_softmax__{self.isa}"
            self.planes = source.run(), target.run()
            self.threads = threads_for(MOVED * math.prod(source.shape), context.threads)

    def bind(self, arena: Float32) -> Callable[[], object]:
        """Return a call that computes the probabilities."""
        if self.isa:
            return Softmax(self.isa, arena, *self.planes, self.size, self.threads)
        return partial(self._across, arena)

    def _across(self, arena: Float32) -> None:
        x, y = self.reads[0].array(arena), self.writes[0].array(arena)
        clear(self.writes[0], arena)
        np.subtract(x, x.max(axis=self.axis, keepdims=True), out=y)
        np.exp(y, out=y)
        np.divide(y, y.sum(axis=self.axis, keepdims=True), out=y)
