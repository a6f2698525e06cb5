"""Dense convolution on the matrix unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from caffe_scnn.engine.bf16 import Split, bf16_convolution, plan_split
from caffe_scnn.engine.nodes import Node, Value
from caffe_scnn.engine.ops.base import Context
from caffe_scnn.engine.ops.convolution import ConvolutionOp, Matrix
from caffe_scnn.engine.ops.finish import finish_of
from caffe_scnn.engine.tensor import Border, Tensor
from caffe_scnn.engine.threads import threads_for
from caffe_scnn.layers.base import ConvolutionSpec


class Bf16Op(ConvolutionOp):
    """The direct convolution with products of bf16 numbers."""

    name: ClassVar[str] = "bf16"

    def _build(self, matrix: Matrix, node: Node, context: Context) -> None:
        """Take the convolution apart, and pack the weights."""
        spec, split = matrix.spec, _split(node, matrix)
        self.threads = threads_for(self.source.items * split.cycles, context.threads)
        self.convolution, self.weight_bytes = bf16_convolution(
            split,
            matrix.weights(),
            matrix.taps,
            matrix.run,
            finish_of(spec.bias, node.finish),
            matrix.base,
            context.scratch[-1].at,
        )
        self.kernel = f"f32_{node.form}__amx"
        taps = len(split.columns.shift)
        self.why = f"{len(split.columns.entry)} entries at {taps} shifts"

    @classmethod
    def scratch(cls, node: Node, tensors: Mapping[Value, Tensor], isa: str) -> list[Tensor]:
        """Ask for the phase planes of a strided convolution, and for the parts of a band."""
        phases = super().scratch(node, tensors, isa)
        planes = phases[0] if phases else tensors[node.reads[0]]
        assert isinstance(node.spec, ConvolutionSpec)
        split = _split(node, Matrix.of(node.spec, planes, tensors[node.writes[0]]))
        return [*phases, Tensor((1, 1, 1, split.size), Border(aligned=True))]


def _split(node: Node, matrix: Matrix) -> Split:
    return plan_split(node.form, matrix.channels, matrix.taps, matrix.run, matrix.plane)
