"""2-D convolution: packed for the direct kernel, strided ones through phase planes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn import _kernels
from caffe_scnn.engine.choose import Shape, choose_tile
from caffe_scnn.engine.nodes import Node, Value
from caffe_scnn.engine.ops.base import Context, Op
from caffe_scnn.engine.ops.finish import finish_of
from caffe_scnn.engine.packing import Run, Taps, convolution, stream
from caffe_scnn.engine.tensor import Border, Float32, Tensor
from caffe_scnn.engine.threads import threads_for
from caffe_scnn.layers.base import ConvolutionSpec


class ConvolutionOp(Op):
    """The direct kernel on padded planes."""

    name: ClassVar[str] = "convolution"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        self.source, self.target = context.tensors[node.reads[0]], self.writes[0]
        self.residual = context.tensors[node.residual] if node.residual else None
        self.threads = threads_for(self.nonzero_macs, context.threads)
        self.phases = _Phases(spec, self.source, context) if max(spec.stride) > 1 else None
        planes = self.phases.planes if self.phases else self.source
        tap = _phase_taps(spec, self.phases) if self.phases else _plain_taps(spec, planes)
        order = np.argsort(tap)
        taps = _taps(spec, tap[order], planes)
        base = 0 if self.phases else -(spec.pad[0] * planes.pitch + spec.pad[1])
        run = Run(self.target.height, self.target.width, planes.pitch, self.target.pitch)
        by_tap = spec.weights.reshape(*spec.weights.shape[:2], -1)[:, :, order]
        weights = by_tap.reshape(len(by_tap), -1)
        shape = Shape(run.size, planes.channels, int(np.ptp(tap)))
        tile = choose_tile(context.isa, weights, spec.group, shape, context.unread)
        streams = stream(weights, taps, tile.rows, tile.parts, context.unread)
        self.convolution = convolution(
            context.isa,
            tile.lanes,
            streams,
            taps,
            run,
            finish_of(spec.bias, node.finish),
            vectors=tile.vectors,
            base=base,
        )
        self.kernel = f"f32_{tile.kernel}__{context.isa}"
        self.why = tile.why
        self.bytes += streams.nbytes

    @classmethod
    def border(cls, node: Node, value: Value) -> Border:
        """Ask for the padding, except where phase planes hold it or the value is only added."""
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        if value is not node.reads[0] or max(spec.stride) > 1:
            return Border()
        # output rows may be wider than input rows, but never than the distance between two rows
        wider = node.writes[0].shape[3] - value.shape[3]
        return Border(spec.pad[0], max(spec.pad[1], wider), aligned=True)

    @classmethod
    def scratch(cls, node: Node, tensors: Mapping[Value, Tensor]) -> list[Tensor]:
        """Ask for the phase planes of a strided convolution."""
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        if max(spec.stride) == 1:
            return []
        offsets = _phase_offsets(spec)
        items, channels = node.reads[0].shape[:2]
        extent = [
            out + (size - 1) * dilation // stride
            for out, size, dilation, stride in zip(
                node.writes[0].shape[2:],
                spec.weights.shape[2:],
                spec.dilation,
                spec.stride,
                strict=True,
            )
        ]
        shape = (items, channels * len(offsets), *extent)
        return [Tensor(shape, Border(aligned=True))]

    def run(self, arena: Float32) -> None:
        """Split into phases if strided, then convolve."""
        if self.phases:
            self.phases.run(arena, self.threads)
        planes = self.phases.planes if self.phases else self.source
        self.convolution.run(
            arena,
            planes.planes(),
            arena,
            self.target.planes(),
            self.residual.planes() if self.residual else None,
            planes.items,
            self.threads,
        )


class _Phases:
    """The input of a strided convolution as one plane for each position within the stride."""

    def __init__(self, spec: ConvolutionSpec, source: Tensor, context: Context) -> None:
        self.isa, self.source, self.planes = context.isa, source, context.scratch[0]
        self.offsets = _phase_offsets(spec)
        self.stride, self.pad = spec.stride, spec.pad

    def run(self, arena: Float32, threads: int) -> None:
        """Fill the planes."""
        _kernels.phases(
            self.isa,
            arena,
            self.source.planes(),
            self.planes.planes(),
            self.offsets,
            self.stride,
            self.pad,
            self.source.items,
            threads,
        )


def _phase_offsets(spec: ConvolutionSpec) -> NDArray[np.int32]:
    """List the (row, column) phases that some tap reads."""
    axes = [
        sorted({tap * dilation % stride for tap in range(size)})
        for size, dilation, stride in zip(
            spec.weights.shape[2:], spec.dilation, spec.stride, strict=True
        )
    ]
    return np.array(list(product(*axes)), np.int32)


def _taps(spec: ConvolutionSpec, tap: NDArray[np.int64], planes: Tensor) -> Taps:
    """Combine the ascending offsets of one channel's taps with those of the channels."""
    channels = spec.group * spec.weights.shape[1]
    step = planes.plane * (planes.channels // channels)
    channel = np.arange(channels, dtype=np.int64) * step
    return Taps((channel[:, None] + tap).reshape(spec.group, -1), len(tap))


def _plain_taps(spec: ConvolutionSpec, planes: Tensor) -> NDArray[np.int64]:
    """Offsets of one channel's taps in padded planes, stride 1."""
    rows, columns = (np.arange(size, dtype=np.int64) for size in spec.weights.shape[2:])
    tap = rows[:, None] * spec.dilation[0] * planes.pitch + columns * spec.dilation[1]
    return tap.ravel()


def _phase_taps(spec: ConvolutionSpec, phases: _Phases) -> NDArray[np.int64]:
    """Offsets of one channel's taps in its phase planes."""
    number = {tuple(offset): index for index, offset in enumerate(phases.offsets.tolist())}
    planes = phases.planes
    (sy, sx), (dy, dx) = spec.stride, spec.dilation
    return np.array(
        [
            number[y * dy % sy, x * dx % sx] * planes.plane
            + (y * dy // sy) * planes.pitch
            + x * dx // sx
            for y, x in np.ndindex(*spec.weights.shape[2:])
        ],
        np.int64,
    )
