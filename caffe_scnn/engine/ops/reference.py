"""Layers without a kernel: their float64 reference, rounded to float32 at the end."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers import layer_type


class ReferenceOp(Op):
    """The slow twin of a layer type."""

    name: ClassVar[str] = "reference"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        self.layer, self.type = node.layers[0], layer_type(node.layers[0])
        self.kernel, self.state = "numpy_reference", context.state
        self.why = f"no kernel for {self.layer.type} with these parameters"

    def run(self, arena: Float32) -> None:
        """Run the reference in float64."""
        bottoms = [tensor.array(arena).astype(np.float64) for tensor in self.reads]
        name = self.layer.name
        state = self.state.get(name, [])
        tops, self.state[name] = self.type.advance(self.layer, bottoms, state)
        for tensor, values in zip(self.writes, tops, strict=True):
            clear(tensor, arena)
            np.copyto(tensor.array(arena), values, casting="same_kind")
