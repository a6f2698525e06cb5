"""Fully connected layers: matrix × vector for one item, the convolution kernel for a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import numpy as np

from caffe_scnn._kernels import Gemv
from caffe_scnn.engine.choose import choose_tile
from caffe_scnn.engine.nodes import Node, Value
from caffe_scnn.engine.ops.base import Context, Op, clear, in_turn
from caffe_scnn.engine.ops.finish import finish_calls, finish_of
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, stream
from caffe_scnn.engine.sparse_vector import LARGEST_COLUMN, SparseVector
from caffe_scnn.engine.tensor import Border, Float32, Tensor
from caffe_scnn.engine.threads import STREAMED, threads_for
from caffe_scnn.engine.tile import Shape
from caffe_scnn.layers.base import InnerProductSpec

# A non-zero costs about as much as this many dense weights that stream from memory.
NONZERO_COST = 1.7


class InnerProductOp(Op):
    """``y = x Wᵀ + b``."""

    name: ClassVar[str] = "inner_product"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, InnerProductSpec)
        self.rows, (self.outputs, self.size) = node.spec.rows, node.spec.weights.shape
        self.finish = finish_of(node.spec.bias, node.finish)
        density = self.nonzero_macs / self.macs
        sparse = density * NONZERO_COST < 1 and self.size <= LARGEST_COLUMN
        cycles = STREAMED * self.macs * min(1.0, density * NONZERO_COST)
        self.product: _Vector | _SparseVector | _Batch
        if self.rows > 1:
            self.product = _Batch(node.spec, self.finish, context, self.rows)
            cycles = self.product.cycles
        elif sparse:
            self.product = _SparseVector(node.spec, context.isa)
        else:
            self.product = _Vector(node.spec, context.isa)
        self.threads = threads_for(cycles, context.threads)
        self.kernel = self.product.kernel
        self.why = self.product.why or f"density {density:.3f}: " + (
            "fewer bytes than dense" if sparse else "dense rows stream from memory"
        )
        self.weight_bytes = self.product.nbytes

    @classmethod
    def scratch(cls, node: Node, tensors: Mapping[Value, Tensor], isa: str) -> list[Tensor]:
        """Ask for the transposed operands of a batch."""
        assert isinstance(node.spec, InnerProductSpec)
        rows, (outputs, size) = node.spec.rows, node.spec.weights.shape
        if rows == 1:
            return []
        return [Tensor((1, n, 1, rows), Border(aligned=True)) for n in (size, outputs)]

    def bind(self, arena: Float32) -> Callable[[], object]:
        """Return a call that computes all rows."""
        source, target = self.reads[0].array(arena), self.writes[0].array(arena)
        # planes of one pixel that another layer reads with a halo do not lie side by side
        apart, direct = not source.flags.c_contiguous, self.writes[0].contiguous
        x = np.empty(source.shape, np.float32) if apart else source
        y = target if direct else np.empty(target.shape, np.float32)
        calls: list[Callable[[], object]] = [partial(np.copyto, x, source)] if apart else []
        rows, results = x.reshape(self.rows, self.size), y.reshape(self.rows, self.outputs)
        calls.append(self.product.bind(arena, rows, results, self.threads))
        if self.rows == 1:
            calls += finish_calls(results, self.finish)
        if not direct:
            calls += [partial(clear, self.writes[0], arena), partial(np.copyto, target, y)]
        return in_turn(*calls)


class _Vector:
    """One dense row of inputs."""

    def __init__(self, spec: InnerProductSpec, isa: str) -> None:
        self.isa, self.bias = isa, spec.bias
        self.weights = np.ascontiguousarray(spec.weights)
        self.kernel, self.why, self.nbytes = f"f32_gemv__{isa}", "", self.weights.nbytes

    def bind(self, arena: Float32, x: Float32, y: Float32, threads: int) -> Callable[[], object]:
        return Gemv(self.isa, self.weights, self.bias, x[0], y[0], threads)


class _SparseVector:
    """One row of inputs, sparse weights."""

    def __init__(self, spec: InnerProductSpec, isa: str) -> None:
        self.product = SparseVector(isa, spec.weights, spec.bias)
        self.kernel, self.why, self.nbytes = self.product.kernel, "", self.product.nbytes

    def bind(self, arena: Float32, x: Float32, y: Float32, threads: int) -> Callable[[], object]:
        return partial(self.product.run, x[0], y[0], threads)


class _Batch:
    """Several rows of inputs: a 1x1 convolution whose pixels are the rows."""

    def __init__(self, spec: InnerProductSpec, finish: Finish, context: Context, rows: int) -> None:
        self.inputs, self.results = context.scratch
        taps = Taps(np.arange(spec.weights.shape[1], dtype=np.int64)[None] * self.inputs.plane)
        tile = choose_tile(context.isa, spec.weights, 1, Shape(rows, self.inputs.channels, 0))
        streams = stream(spec.weights, taps, tile.rows, tile.parts)
        self.convolution = convolution(
            context.isa,
            tile.lanes,
            streams,
            taps,
            Run(1, rows, rows, rows),
            finish,
            vectors=tile.vectors,
            base=0,
            threads=context.threads,
        )
        self.kernel, self.why = f"f32_{tile.kernel}__{context.isa}", tile.why
        self.nbytes, self.cycles = streams.nbytes, tile.cycles

    def bind(self, arena: Float32, x: Float32, y: Float32, threads: int) -> Callable[[], object]:
        given, result = self.inputs.array(arena)[0, :, 0], self.results.array(arena)[0, :, 0]
        planes = self.inputs.planes(), self.results.planes()
        multiply = self.convolution.bind(arena, planes[0], arena, planes[1], None, 1, threads)
        return in_turn(partial(np.copyto, given, x.T), multiply, partial(np.copyto, y, result.T))
