"""Strided depthwise convolution: the phases of a channel live no longer than the channel."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.choose import Shape, choose_tile
from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op
from caffe_scnn.engine.ops.finish import finish_of
from caffe_scnn.engine.ops.phases import phase_planes, phase_taps, split_into
from caffe_scnn.engine.packing import Run, Taps, Tasks, convolution, stream
from caffe_scnn.engine.tensor import ALIGNMENT, Float32
from caffe_scnn.engine.threads import MOVED, threads_for
from caffe_scnn.layers.base import ConvolutionSpec


class StridedDepthwiseOp(Op):
    """Splits one channel into its phases, in the cache of a core, and convolves it there."""

    name: ClassVar[str] = "strided_depthwise"

    @classmethod
    def computes(cls, node: Node) -> bool:
        """Whether a node is such a convolution; others go through phase planes of all channels."""
        spec = node.spec
        return (
            isinstance(spec, ConvolutionSpec)
            and spec.weights.shape[1] == 1
            and spec.group > 1
            and max(spec.stride) > 1
            and node.residual is None
        )

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        self.source, self.target = context.tensors[node.reads[0]], self.writes[0]
        work = max(self.nonzero_macs, MOVED * int(np.prod(self.source.shape)))
        self.threads = threads_for(work, context.threads)
        planes = phase_planes(spec, 1, 1, (self.target.height, self.target.width))
        self.phases = split_into(planes, spec, context.isa)
        tap = phase_taps(spec, planes)
        order = np.argsort(tap)
        taps = Taps(np.tile(tap[order], (spec.group, 1)), len(tap))
        run = Run(self.target.height, self.target.width, planes.pitch, self.target.pitch)
        weights = spec.weights.reshape(len(spec.weights), -1)[:, order]
        # one channel: a tile's pixels are always near, so that cutting into parts has no use
        shape = Shape(run.size, 1, int(np.ptp(tap)))
        tile = choose_tile(context.isa, weights, spec.group, shape)
        blocks = -(-len(weights) // spec.group // tile.rows)
        streams = stream(weights, taps, tile.rows)
        self.weight_bytes = streams.nbytes
        self.convolution = convolution(
            context.isa,
            tile.lanes,
            streams,
            taps,
            run,
            finish_of(spec.bias, node.finish),
            vectors=tile.vectors,
            base=0,
            tasks=Tasks(0, True, blocks),
        )
        row = planes.size + tile.lanes * tile.vectors
        row = -(-row // ALIGNMENT) * ALIGNMENT
        self.scratch_rows = allocate(self.threads * row)[: self.threads * row].reshape(-1, row)
        self.kernel = f"f32_{tile.kernel}__{context.isa}"
        self.why = f"{tile.why}; strides split channel by channel"

    def run(self, arena: Float32) -> None:
        """Convolve channel by channel."""
        self.convolution.run_by_channel(
            arena,
            self.source.planes(),
            arena,
            self.target.planes(),
            self.phases,
            self.scratch_rows,
            self.source.items,
            self.threads,
        )
