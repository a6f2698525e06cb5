"""Activations that stand alone: nothing in front of them could take them over."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.affine import AffineOp
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.ops.finish import finish_of
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import ActivationSpec


class ClampOp(AffineOp):
    """ReLU, PReLU and Clip: an affine step that neither scales nor shifts."""

    name: ClassVar[str] = "activation"

    def __init__(self, node: Node, context: Context) -> None:
        Op.__init__(self, node, context)
        assert isinstance(node.spec, ActivationSpec)
        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        self._prepare(context, one, zero, finish_of(None, node.spec))


class SigmoidOp(Op):
    """Sigmoid and TanH, by NumPy."""

    name: ClassVar[str] = "activation"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, ActivationSpec)
        self.kind = node.spec.kind
        self.kernel = f"numpy_{self.kind}"

    def run(self, arena: Float32) -> None:
        """Compute 0.5·tanh(0.5·x) + 0.5, or tanh(x)."""
        x, y = self.reads[0].array(arena), self.writes[0].array(arena)
        clear(self.writes[0], arena)
        if self.kind == "tanh":
            np.tanh(x, out=y)
        else:
            np.tanh(np.float32(0.5) * x, out=y)
            np.multiply(y, np.float32(0.5), out=y)
            np.add(y, np.float32(0.5), out=y)


def activation_op(node: Node) -> type[Op]:
    """Return the op of an activation by its kind."""
    assert isinstance(node.spec, ActivationSpec)
    return SigmoidOp if node.spec.kind in ("sigmoid", "tanh") else ClampOp
