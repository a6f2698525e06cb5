"""From a weight matrix to the streams of the direct convolution (``kernels/scnn.h``)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import Convolution

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

AHEAD = 8  # offsets behind the last, which a kernel reads without use (SCNN_AHEAD)
# 1x1 layers on aligned planes only step by whole planes: counted in steps of 16 floats, they
# fit 16 bits.
WIDE_UNIT = 4
# A task of a dense layer keeps this many entries of weights in cache while it walks over the
# pixels; a sparse layer's weights are few, so its tasks keep the pixels instead. So do those of
# short vectors, whose tiles need fewer weights at a time than pixels: all output channels read a
# part of the input channels while the first-level cache holds it.
DENSE_CHUNK, LONG_VECTOR, DENSE_CHUNK_OF_SHORT = 2048, 16, 1 << 15
# Where sums are this short their stores take the longest. A result of this many bytes leaves the
# second-level cache, and prefetching follows a few channels at a time, not all of them.
SHORT_SUM, LARGE_RESULT, STORED_TOGETHER = 28, 1 << 20, 8
TASKS_A_THREAD = 4  # groups of the blocks of a sparse layer
# What the end and the stores of a single row cost, in entries: rows come by their length, and
# without it threads that get the short ones would take longer.
ENTRIES_OF_END = 5


@dataclass(frozen=True)
class Taps:
    """Where the weights of a convolution read.

    Attributes
    ----------
    offset : int64 ndarray of shape (groups, columns)
        Floats from the input position of output pixel 0, ascending within a group.
    per_channel : int
        Columns that read one input channel.
    """

    offset: Int64
    per_channel: int = 1

    @property
    def channels(self) -> int:
        """Input channels of a group."""
        return int(self.offset.shape[1] // self.per_channel)

    @property
    def reach(self) -> int:
        """The largest offset."""
        return max(int(row[-1]) for row in self.offset)

    def cut(self, parts: int) -> list[slice]:
        """Cut the columns into ``parts`` ranges of whole channels."""
        bounds = np.arange(parts + 1) * self.channels // parts * self.per_channel
        return [slice(int(a), int(b)) for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class Run:
    """The flat run of output positions: ``rows`` rows of ``width`` pixels, ``pitch`` apart."""

    rows: int
    width: int
    pitch: int
    out_pitch: int

    @property
    def size(self) -> int:
        """Positions from the first pixel to the last, gaps included."""
        return (self.rows - 1) * self.pitch + self.width

    def vectors(self, lanes: int) -> int:
        """Vectors that cover the run."""
        return -(-self.size // lanes)


@dataclass(frozen=True)
class Finish:
    """What happens to a sum before it is stored: bias, slope of negative values, clamp."""

    bias: Float32 | None = None
    slope: Float32 | float | None = None
    low: float = -np.inf
    high: float = np.inf


PartArguments = tuple[Int64, int, NDArray[np.uint16] | NDArray[np.uint32], Float32]


@dataclass(frozen=True)
class Part:
    """The weights on some of the input channels: entry e reads at origin + (offset[e] << unit)."""

    start: Int64  # (blocks + 1,): of each block's entries
    origin: int
    offset: NDArray[np.uint16] | NDArray[np.uint32]  # (entries + AHEAD,)
    value: Float32  # (entries * rows,)


@dataclass(frozen=True)
class Streams:
    """A weight matrix as blocks of ``rows`` output channels that share their offsets."""

    rows: int
    channel: NDArray[np.int32]  # (blocks * rows,); -1 fills up a block
    unit: int  # offsets count steps of 1 << unit floats
    parts: list[Part]

    @property
    def nbytes(self) -> int:
        """Bytes that one pass over the weights reads."""
        return sum(part.offset.nbytes + part.value.nbytes for part in self.parts)


def block_channels(
    weights: Float32,
    groups: int,
    rows: int,
    skip: NDArray[np.bool_],
    by_length: bool = False,
    threads: int = 1,
    across: int = 1,
) -> NDArray[np.int32]:
    """Deal the output channels of each group into blocks of ``rows``; -1 fills the last block.

    Channels in ``skip`` are not computed at all. Single channels may come by falling number of
    weights (``by_length``), within as many parts of all channels as there are ``threads``: each
    thread computes neighbours. Of several channels those without weights come last in their
    group: so they make blocks of their own, which hold nothing. The blocks come in as many parts
    as ``across`` says, each of which has its share of every group.
    """
    blocks = []
    count = np.count_nonzero(weights, axis=1)
    part = np.arange(len(weights)) * threads // len(weights) * (weights.shape[1] + 1)
    place = part - count * by_length if rows == 1 else count == 0
    for group in np.arange(len(weights), dtype=np.int32).reshape(groups, -1):
        kept = group[~skip[group]]
        kept = kept[np.argsort(place[kept], kind="stable")]
        fill = np.full(-len(kept) % rows, -1, np.int32)
        blocks.append(np.concatenate([kept, fill]).reshape(-1, rows))
    parts = zip(*(np.array_split(of_group, across) for of_group in blocks), strict=True)
    return np.concatenate([share for of_part in parts for share in of_part])


def stream(
    weights: Float32,
    taps: Taps,
    rows: int,
    parts: int = 1,
    skip: NDArray[np.bool_] | None = None,
    by_length: bool = False,
    threads: int = 1,
    across: int = 1,
) -> Streams:
    """Pack a weight matrix.

    Parameters
    ----------
    weights : float32 ndarray of shape (channels, columns)
        Group after group; columns are those of the group.
    taps : Taps
    rows : int
        Output channels a block. An entry is stored where any of them is non-zero.
    parts : int
        Into how many ranges the input channels are cut.
    skip : bool ndarray of shape (channels,), optional
        Channels that nobody reads.
    by_length : bool
        Single channels come by falling number of weights, so that the processor foresees where
        most sums end. Planes of a result that leaves the cache are better written in their order.
    threads : int
        That share the channels.
    across : int
        Parts that the blocks come in, each with its share of every group: a thread that takes one
        computes the same channels of all groups.
    """
    groups = taps.offset.shape[0]
    skip = np.zeros(len(weights), bool) if skip is None else skip
    channel = block_channels(weights, groups, rows, skip, by_length, threads, across)
    group_of = np.maximum(channel[:, 0], 0) // (len(weights) // groups)
    unit = WIDE_UNIT if not (taps.offset % (1 << WIDE_UNIT)).any() else 0
    packed = [
        _part(weights[:, columns], taps.offset[:, columns], channel, group_of, unit)
        for columns in taps.cut(parts)
    ]
    return Streams(rows, channel.ravel(), unit, packed)


def _part(
    weights: Float32,
    offsets: Int64,
    channel: NDArray[np.int32],
    group_of: NDArray[np.int64],
    unit: int,
) -> Part:
    """Pack some columns of the matrix for the given blocks of channels."""
    if channel.shape[1] == 1:
        block, column = np.nonzero(weights[channel[:, 0]])
        value = weights[channel[block, 0], column][:, None]
    else:
        filled = np.where((channel >= 0)[:, :, None], weights[channel], np.float32(0))
        block, column = np.nonzero(filled.any(axis=1))
        value = filled[block, :, column]
    offset = offsets[group_of[block], column]
    start = np.searchsorted(block, np.arange(len(channel) + 1)).astype(np.int64)
    return _offsets(start, offset, value, unit)


def _offsets(start: Int64, offset: Int64, value: Float32, unit: int) -> Part:
    """Count offsets from the lowest, in 16 bits if they fit."""
    origin = int(offset.min()) if len(offset) else 0
    steps = np.append((offset - origin) >> unit, np.zeros(AHEAD, np.int64))
    narrow = steps.max() <= np.iinfo(np.uint16).max
    found = steps.astype(np.uint16) if narrow else steps.astype(np.uint32)
    return Part(start, origin, found, np.ascontiguousarray(value).ravel())


Store = tuple[
    NDArray[np.uint32],
    bool,
    int,
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.uint32],
    NDArray[np.uint8],
]


def place_vectors(run: Run, lanes: int) -> Store:
    """Find where each vector of the run goes: the fields of ``scnn_store``.

    Each piece is what of a vector lies side by side in the output, of one row or of several.
    """
    position = np.arange(run.size)
    position = position[position % run.pitch < run.width]
    place = position // run.pitch * run.out_pitch + position % run.pitch
    vector, lane = position // lanes, position % lanes
    kept = np.zeros(run.vectors(lanes) * lanes, bool)
    kept[position] = True
    first = np.flatnonzero(np.diff(vector, prepend=-1) | (np.diff(place, prepend=0) != 1))
    count = np.diff(first, append=len(place))
    order = np.zeros((len(first), lanes), np.uint8)
    number = np.repeat(np.arange(len(first)), count)
    order[number, np.arange(len(place)) - first[number]] = lane
    return (
        (kept.reshape(-1, lanes) @ (1 << np.arange(lanes))).astype(np.uint32),
        run.out_pitch == run.pitch,
        (1 << int(lane[-1]) + 1) - 1,
        np.searchsorted(vector[first], np.arange(run.vectors(lanes) + 1)).astype(np.int32),
        vector[first].astype(np.int32),
        place[first].astype(np.int32),
        ((1 << count) - 1).astype(np.uint32),
        order.ravel(),
    )


@dataclass(frozen=True)
class Tasks:
    """How blocks × tiles are dealt out.

    Attributes
    ----------
    entries : int
        A group of blocks stores about so many entries.
    blocks_first : bool
        All tiles of a group before the next group, whose weights stay in cache; else all groups of
        a tile before the next tile, whose pixels do.
    """

    entries: int
    blocks_first: bool

    @classmethod
    def suited_to(cls, streams: Streams, run: Run, lanes: int, threads: int) -> Tasks:
        """Keep the weights of dense layers in cache, and the pixels of sparse ones."""
        if streams.rows > 1:
            work, channels = int(_work(streams)[-1]), len(streams.channel)
            short = work <= (SHORT_SUM + 1) * (channels // streams.rows)
            if short and 4 * channels * run.size > LARGE_RESULT:
                return cls(max(1, work * STORED_TOGETHER // channels), True)
            chunk = DENSE_CHUNK if lanes >= LONG_VECTOR else DENSE_CHUNK_OF_SHORT
            groups = threads * max(1, round(work / threads / chunk))
            return cls(max(1, work // groups), True)
        groups = 1 if threads == 1 else TASKS_A_THREAD * threads
        return cls(-(-int(_work(streams)[-1]) // groups), False)


def _work(streams: Streams) -> Int64:
    """Sum up the entries of the blocks, and what their ends and stores cost in entries."""
    ends = np.arange(1, len(streams.channel) // streams.rows + 1)
    if streams.rows == 1:
        ends *= ENTRIES_OF_END
    return np.asarray(sum(part.start[1:] for part in streams.parts) + ends)


def _chunks(streams: Streams, entries: int) -> NDArray[np.int32]:
    """Cut the blocks into groups of about ``entries`` stored entries each."""
    blocks = len(streams.channel) // streams.rows
    groups = max(1, min(blocks, round(int(_work(streams)[-1]) / entries)))
    return np.unique([0, *cut_blocks(streams, 0, blocks, groups)]).astype(np.int32)


def cut_blocks(streams: Streams, begin: int, end: int, pieces: int) -> list[int]:
    """Cut blocks [begin, end) into pieces of about as much work; return where they end."""
    work = np.append(0, _work(streams))[begin : end + 1]
    work = work[1:] - work[0]
    cuts = np.searchsorted(work, np.arange(1, pieces) * work[-1] / pieces) + 1
    return [*(begin + cuts).tolist(), end]


def by_row(values: Float32 | float | None, channel: NDArray[np.int32]) -> Float32 | None:
    """Give each row of the blocks the value of its channel, or the one of all channels."""
    if values is None:
        return None
    given = np.asarray(values)
    used = given[np.maximum(channel, 0)] if given.ndim else given
    return np.where(channel >= 0, used, 0).astype(np.float32)


def convolution(
    isa: str,
    lanes: int,
    streams: Streams,
    taps: Taps,
    run: Run,
    finish: Finish,
    *,
    vectors: int,
    base: int,
    tasks: Tasks | None = None,
    threads: int = 1,
) -> Convolution:
    """Make the kernel object of a packed convolution (see ``_kernels.Convolution``)."""
    tasks = tasks or Tasks.suited_to(streams, run, lanes, threads)
    return Convolution(
        isa,
        streams.rows,
        vectors,
        streams.unit,
        *packed_arguments(streams, finish),
        _chunks(streams, tasks.entries),
        place_vectors(run, lanes),
        base,
        taps.reach,
        finish.low,
        finish.high,
        tasks.blocks_first,
    )


def packed_arguments(
    streams: Streams, finish: Finish
) -> tuple[list[PartArguments], Float32, Float32 | None, NDArray[np.int32]]:
    """Return what kernel objects of streams take: parts, bias, slope and channel of each row."""
    channel = streams.channel
    bias = by_row(finish.bias, channel)
    return (
        [(part.start, part.origin, part.offset, part.value) for part in streams.parts],
        np.zeros(len(channel), np.float32) if bias is None else bias,
        by_row(finish.slope, channel),
        channel,
    )
