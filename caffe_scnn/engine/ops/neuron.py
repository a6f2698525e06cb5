"""Functions of single values that no kernel has, by NumPy."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import NeuronSpec

BLOCK = 1 << 14  # values whose intermediate results stay in the first-level caches


class NeuronOp(Op):
    """The layer's function in float32, block by block."""

    name: ClassVar[str] = "neuron"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, NeuronSpec)
        self.function, self.kernel = node.spec.function, "numpy_neuron"
        self.flat = self.reads[0].contiguous and self.writes[0].contiguous

    def run(self, arena: Float32) -> None:
        """Apply the function; infinities and NaN are results as in Caffe, not worth a warning."""
        x, y = self.reads[0].array(arena), self.writes[0].array(arena)
        clear(self.writes[0], arena)
        parts = [(x, y)]
        if self.flat:
            x, y = x.reshape(-1), y.reshape(-1)
            cuts = [slice(begin, begin + BLOCK) for begin in range(0, x.size, BLOCK)]
            parts = [(x[cut], y[cut]) for cut in cuts]
        with np.errstate(all="ignore"):
            for source, target in parts:
                np.copyto(target, self.function(source), casting="same_kind")
