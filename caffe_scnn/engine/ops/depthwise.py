"""Depthwise convolution, plane by plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import Depthwise, Planes
from caffe_scnn.engine.nodes import Node, Value
from caffe_scnn.engine.ops.base import Context, Op, Rows
from caffe_scnn.engine.ops.finish import finish_of
from caffe_scnn.engine.tensor import Border, Float32, rows_of
from caffe_scnn.engine.threads import MULTIPLY_ADD, threads_for
from caffe_scnn.layers.base import ConvolutionSpec, Weights


class DepthwiseOp(Op):
    """One output channel for each input channel; nothing is shared between planes.

    With several outputs a channel the general kernel is better: it loads the pixels once for all of
    them, and leaves out what is zero.
    """

    name: ClassVar[str] = "depthwise"

    @classmethod
    def computes(cls, node: Node) -> bool:
        """Whether a node is such a convolution."""
        spec = node.spec
        return isinstance(spec, ConvolutionSpec) and spec.depthwise and node.residual is None

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        weights, skipped = _without_empty_edges(spec)
        pad = tuple(p - s for p, s in zip(spec.pad, skipped, strict=True))
        finish = finish_of(spec.bias, node.finish)
        slope = finish.slope
        if slope is not None:
            slope = np.broadcast_to(np.float32(slope), len(weights)).copy()
        # a plane's few sums cost up to three times what they would in a dense layer
        work = weights[0].size * int(np.prod(self.writes[0].shape))
        self.threads = threads_for(3 * MULTIPLY_ADD * work, context.threads)
        self.convolution = Depthwise(
            context.isa,
            weights,
            finish.bias,
            slope,
            spec.stride,
            spec.dilation,
            (pad[0], pad[1]),
            finish.low,
            finish.high,
        )
        self.weight_bytes = weights.nbytes
        self.kernel = f"f32_dwconv__{context.isa}"
        self.why = f"{weights.shape[1]}x{weights.shape[2]} kernels, one for each channel"

    @classmethod
    def border(cls, node: Node, value: Value) -> Border:
        """Ask for the padding, and for what the last window may read beyond it."""
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        beyond = [
            (out - 1) * stride + (size - 1) * dilation + 1 - pad - extent
            for out, stride, size, dilation, pad, extent in zip(
                node.writes[0].shape[2:],
                spec.stride,
                spec.weights.shape[2:],
                spec.dilation,
                spec.pad,
                value.shape[2:],
                strict=True,
            )
        ]
        rows, columns = (max(0, p, b) for p, b in zip(spec.pad, beyond, strict=True))
        return Border(rows, columns, aligned=True)

    def part(self, rows: Rows, arena: Float32) -> Callable[[], object]:
        """Return a call that computes some rows."""
        given = rows_of(rows.source, rows.item, rows.row)
        return self.convolution.bind(arena, given, rows.target, 1, self.threads, False)

    def over(self, arena: Float32, source: Planes, target: Planes) -> Callable[[], object]:
        """Return a call that computes all of one item, from planes to planes."""
        return self.convolution.bind(arena, source, target, 1, self.threads)

    def bind(self, arena: Float32) -> Callable[[], object]:
        """Return a call that convolves every plane."""
        source, target = self.reads[0], self.writes[0]
        planes = source.planes(), target.planes()
        return self.convolution.bind(arena, *planes, source.items, self.threads)


def _without_empty_edges(spec: ConvolutionSpec) -> tuple[Weights, tuple[int, int]]:
    """Cut off rows and columns that are zero in every kernel; say how many before the first kept.

    Nets from other frameworks pad below and right only, by a kernel with a border of zeros.
    """
    weights = spec.weights[:, 0]
    used: NDArray[np.bool_] = np.any(weights, axis=0)
    if not used.any():
        return np.ascontiguousarray(weights), (0, 0)
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    kept = weights[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    skipped = int(rows[0]) * spec.dilation[0], int(columns[0]) * spec.dilation[1]
    return np.ascontiguousarray(kept), skipped
