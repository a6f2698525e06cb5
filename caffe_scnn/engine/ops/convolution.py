"""2-D convolution: packed for the direct kernel, strided ones through phase planes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import (
    Bf16Convolution,
    Convolution,
    DenseConvolution,
    PanelConvolution,
    Planes,
)
from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.choose import rank_tiles, store_cycles
from caffe_scnn.engine.codegen import can_program, program_convolution, program_tile
from caffe_scnn.engine.dense import dense_convolution
from caffe_scnn.engine.nodes import Node, Value
from caffe_scnn.engine.ops.base import Context, Op, Rows, in_turn
from caffe_scnn.engine.ops.finish import finish_of
from caffe_scnn.engine.ops.phases import phase_planes, phase_taps, split_into
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, stream
from caffe_scnn.engine.panels import Patches, panel_convolution
from caffe_scnn.engine.pitches import Walk
from caffe_scnn.engine.tensor import Border, Float32, Tensor, outside, rows_of
from caffe_scnn.engine.threads import threads_for
from caffe_scnn.engine.tile import Shape, Tile
from caffe_scnn.engine.tune import TRIED
from caffe_scnn.layers.base import ConvolutionSpec
from caffe_scnn.layers.nonzeros import count_nonzeros

Kernel = Convolution | PanelConvolution | DenseConvolution | Bf16Convolution
# Bytes of a layer's maps up to which its rows are better in the order of their length.
NEAR_MAPS = 2 << 20


@dataclass(frozen=True)
class Matrix:
    """A convolution as a matrix of weights on the flat run of a result.

    Attributes
    ----------
    spec : ConvolutionSpec
    order : int64 ndarray of shape (taps,)
        Of the taps of a kernel, by their offset.
    taps : Taps
    run : Run
    shape : Shape
    rows : Run
        The run, row by row even where its gaps hold nothing.
    patches : Patches
        What panels hold of a channel.
    base : int
        Offset of the first weight's input from the first pixel.
    plane : int
        Distance between two planes that are read.
    """

    spec: ConvolutionSpec
    order: NDArray[np.int64]
    taps: Taps
    run: Run
    rows: Run
    shape: Shape
    patches: Patches
    base: int
    plane: int

    @classmethod
    def of(cls, spec: ConvolutionSpec, planes: Tensor, target: Tensor) -> Matrix:
        """Describe a convolution from padded planes, or from phase planes, to its result."""
        strided = max(spec.stride) > 1
        tap = phase_taps(spec, planes) if strided else _plain_taps(spec, planes)
        order = np.argsort(tap)
        rows = Run(target.height, target.width, planes.pitch, target.pitch)
        run = _run(planes, target)
        place = tap % planes.plane  # of phases, each has a plane
        span, (row, column) = int(np.ptp(place)), np.divmod(place, planes.pitch)
        placed = store_cycles(run.width, run.pitch, run.out_pitch)
        patches = Patches.of(tap[order], planes.pitch, planes.plane)
        channels = spec.group * spec.weights.shape[1]
        held = patches.shape(channels)
        return cls(
            spec,
            order,
            _taps(spec, tap[order], planes),
            run,
            rows,
            Shape(
                run.size,
                planes.channels,
                span,
                placed,
                held if span else None,
                len(np.unique(row)),
                int(np.ptp(column)),
            ),
            patches,
            0 if strided else -(spec.pad[0] * planes.pitch + spec.pad[1]),
            planes.plane,
        )

    @property
    def channels(self) -> int:
        """Output channels."""
        return len(self.spec.weights)

    def weights(self) -> Float32:
        """Return the weights, of shape (channels, columns): group by group, columns of a group."""
        by_tap = self.spec.weights.reshape(*self.spec.weights.shape[:2], -1)
        if (np.diff(self.order) != 1).any():
            by_tap = by_tap[:, :, self.order]
        return by_tap.reshape(self.channels, -1)


class ConvolutionOp(Op):
    """The direct kernel on padded planes.

    Attributes
    ----------
    shape : Shape
        What is multiplied with the weights.
    tile : Tile
        By which kernel.
    """

    name: ClassVar[str] = "convolution"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        self.source, self.target = context.tensors[node.reads[0]], self.writes[0]
        self.residual = context.tensors[node.residual] if node.residual else None
        strided = max(spec.stride) > 1
        self.planes = context.scratch[0] if strided else self.source
        self.phases = split_into(self.planes, spec, context.isa) if strided else None
        self.convolution: Kernel
        self._build(Matrix.of(spec, self.planes, self.target), node, context)

    def _build(self, matrix: Matrix, node: Node, context: Context) -> None:
        """Choose the tile, and pack the weights for it."""
        spec, weights, shape = matrix.spec, matrix.weights(), matrix.shape
        size = self.target.height, self.target.width
        tiles = rank_tiles(
            context.isa, weights, spec.group, shape, context.unread, size, context.threads
        )
        tile = tiles[0]
        self.threads = threads_for(self.source.items * tile.cycles, context.threads)
        pack = partial(self._pack, matrix, weights, finish_of(spec.bias, node.finish), context)
        if context.tuner:
            nonzeros = count_nonzeros(weights)
            layer = f"{context.isa} {weights.shape} {spec.group} {shape} {matrix.run} {nonzeros}"
            more = []
            vectors = matrix.run.vectors(tile.lanes)
            if context.codegen and can_program(context.isa, weights, context.unread, vectors):
                more = [program_tile(context.isa)]
            tile = context.tuner.choose(
                f"{layer} {self.threads}{' program' * len(more)}",
                [*tiles[:TRIED], *more],
                lambda tile: self._alone(pack(tile)[0]),
                self.threads,
            )
        self.shape, self.tile = shape, tile
        self.convolution, self.weight_bytes = pack(tile)
        self.kernel = f"f32_{tile.kernel}__{context.isa}"
        self.why = tile.why

    def _pack(
        self, matrix: Matrix, weights: Float32, finish: Finish, context: Context, tile: Tile
    ) -> tuple[Kernel, int]:
        """Return the kernel object of a tile, and the bytes of its weights."""
        isa, run, taps, base = context.isa, matrix.run, matrix.taps, matrix.base
        if tile.op == "program":
            return program_convolution(isa, weights, taps, run, finish, base)
        if tile.op == "dense":
            return dense_convolution(isa, tile, weights, taps, finish, base)
        maps = 4 * (self.planes.channels * self.planes.plane + len(weights) * run.size)
        near, threads, unread = maps <= NEAR_MAPS, self.threads, context.unread
        if tile.op == "panel":
            patches, rows, given = matrix.patches, matrix.rows, (unread, near, threads)
            return panel_convolution(isa, tile, weights, taps, patches, rows, finish, base, *given)
        streams = stream(weights, taps, tile.rows, tile.parts, unread, near, threads)
        kernel = convolution(
            isa,
            tile.lanes,
            streams,
            taps,
            run,
            finish,
            vectors=tile.vectors,
            base=base,
            threads=threads,
        )
        return kernel, streams.nbytes

    def _alone(self, kernel: Kernel) -> Callable[[], object]:
        """Return a run of a kernel on memory of its own, of the same layout."""
        source = Tensor(self.planes.shape, self.planes.border)
        target = Tensor(self.target.shape, self.target.border, at=source.size)
        memory = allocate(source.size + target.size)
        given, result, threads = source.planes(), target.planes(), self.threads
        return kernel.bind(memory, given, memory, result, None, source.items, threads)

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
    def scratch(cls, node: Node, tensors: Mapping[Value, Tensor], isa: str) -> list[Tensor]:
        """Ask for the phase planes of a strided convolution."""
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        if max(spec.stride) == 1:
            return []
        items, channels = node.reads[0].shape[:2]
        target = node.writes[0]
        width = Walk.of(node, isa).stride_in({target: tensors[target].border})
        return [phase_planes(spec, items, channels, target.shape[2], width)]

    def part(self, rows: Rows, arena: Float32) -> Callable[[], object]:
        """Return a call that computes some rows."""
        given = rows_of(rows.source, rows.item, 0 if self.phases else rows.row)
        target = arena, rows.target
        return self._call(arena, (arena, given), target, rows.residual, 1, rows.row, halo=False)

    def over(self, arena: Float32, source: Planes, target: Planes) -> Callable[[], object]:
        """Return a call that computes all of one item, from planes to planes."""
        return self._call(arena, (arena, source), (arena, target), None, 1, 0, halo=True)

    @property
    def reads_anywhere(self) -> bool:
        """Whether ``bind`` takes an input outside the arena."""
        return self.phases is not None

    def bind(
        self, arena: Float32, given: Float32 | None = None, result: Float32 | None = None
    ) -> Callable[[], object]:
        """Return a call that computes all rows.

        Parameters
        ----------
        arena : float32 ndarray
        given : float32 ndarray of shape (values,), optional
            What it reads, side by side and outside the arena; for :attr:`reads_anywhere`.
        result : float32 ndarray of shape (values,), optional
            Where it writes, likewise; if nothing is added to that.
        """
        source, target = outside(self.source, arena, given), outside(self.target, arena, result)
        residual = self.residual.planes() if self.residual else None
        return self._call(arena, source, target, residual, self.source.items, 0, halo=True)

    def _call(
        self,
        arena: Float32,
        given: tuple[Float32, Planes],
        target: tuple[Float32, Planes],
        residual: Planes | None,
        items: int,
        row: int,
        *,
        halo: bool,
    ) -> Callable[[], object]:
        """Split into phases from a row on if strided, then convolve."""
        threads, convolve = self.threads, self.convolution.bind
        if not self.phases:
            return convolve(*given, *target, residual, items, threads, halo)
        planes = self.planes.planes()
        split = partial(self.phases.run, *given, arena, planes, items, threads, row)
        convolved = convolve(arena, planes, *target, residual, items, threads, halo)
        return in_turn(split, convolved)


def _run(planes: Tensor, target: Tensor) -> Run:
    """Return the flat run of a result; gaps that hold nothing are computed as if they did."""
    run = Run(target.height, target.width, planes.pitch, target.pitch)
    if target.height == 1 or (not target.border.halo and planes.pitch == target.pitch):
        return Run(1, run.size, run.size, run.size)
    return run


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
