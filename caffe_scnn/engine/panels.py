"""Convolutions on panels: copies of the input, so that no load of pixels crosses a cache line.

A tap of a k×k convolution reads its pixels at any column, and of vectors as wide as a cache line
all but one in sixteen then lie in two: a load of such a vector takes two cycles of the
first-level cache instead of one. A panel holds some input channels for a tile of whole rows of the
result, once for each column at which taps read them; its rows begin on cache lines. It is filled
once and read by all output channels, while it stays in the first-level cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import PanelConvolution
from caffe_scnn.engine.choose import PanelShape, Tile
from caffe_scnn.engine.packing import (
    Finish,
    Float32,
    Int64,
    Run,
    Streams,
    Taps,
    cut_blocks,
    packed_convolution,
    place_strips,
    stream,
)

# Bytes of the sums of a group of output channels between two parts: they stay in the second-level
# cache.
SUMS = 1 << 19


@dataclass(frozen=True)
class Copies:
    """What panels hold of an input channel.

    Attributes
    ----------
    start : int64 ndarray of shape (copies,)
        Floats from the channel's first weight's input to where each copy begins.
    beyond : int32 ndarray of shape (copies,)
        Rows that a copy has below the last one of a tile.
    copy, row : int64 ndarray of shape (taps,)
        What each tap reads: of which copy, from which row on.
    """

    start: Int64
    beyond: NDArray[np.int32]
    copy: Int64
    row: Int64

    @classmethod
    def of(cls, tap: Int64, pitch: int, plane: int) -> Copies:
        """Describe the copies for taps at such offsets in planes (or in the phases of one)."""
        place, row = tap // plane * plane + tap % plane % pitch, tap % plane // pitch
        start, copy = np.unique(place, return_inverse=True)
        first, last = (
            np.array([pick(row[copy == i]) for i in range(len(start))]) for pick in (np.min, np.max)
        )
        return cls(start + first * pitch, (last - first).astype(np.int32), copy, row - first[copy])

    def shape(self, channels: int) -> PanelShape:
        """Return what the cost of panels of so many channels depends on."""
        return PanelShape(channels, len(self.start), int(self.beyond.sum()))

    def offsets(self, rows: int, width: int) -> Int64:
        """Return where taps read a channel's panel for tiles of so many rows of so many floats."""
        before = np.cumsum([0, *(self.beyond + rows)])
        return np.asarray((before[self.copy] + self.row) * width)

    def floats(self, rows: int, width: int) -> int:
        """Return the size of a channel's panel."""
        return int((self.beyond + rows).sum()) * width


def panel_convolution(
    isa: str,
    tile: Tile,
    weights: Float32,
    taps: Taps,
    copies: Copies,
    run: Run,
    finish: Finish,
    base: int,
    skip: NDArray[np.bool_] | None = None,
    by_length: bool = False,
    threads: int = 1,
) -> tuple[PanelConvolution, int]:
    """Make the kernel object of a convolution on panels; return it and the bytes of its weights.

    Parameters are those of :func:`~caffe_scnn.engine.packing.stream` and
    :func:`~caffe_scnn.engine.packing.convolution`; ``taps`` and ``run`` those without panels.
    """
    groups, width = len(taps.offset), tile.columns * tile.lanes
    rows = tile.vectors // tile.columns
    size = copies.floats(rows, width)
    channel = np.arange(taps.channels) * size
    offset = (channel[:, None] + copies.offsets(rows, width)).ravel()
    on_panels = Taps(np.broadcast_to(offset, (groups, len(offset))), taps.per_channel)
    packed = stream(weights, on_panels, tile.rows, tile.parts, skip, by_length, threads)
    bound = [columns.start // taps.per_channel for columns in on_panels.cut(tile.parts)]
    parts = [
        replace(part, origin=part.origin - first * size if len(part.value) else 0)
        for part, first in zip(packed.parts, bound, strict=True)
    ]
    packed = replace(packed, parts=parts)
    chunk, group = _chunks(packed, weights.shape[0] // groups, tile, threads)
    most = max(np.diff([*bound, taps.channels]))
    inner = packed_convolution(
        isa,
        packed,
        finish,
        vectors=tile.vectors,
        base=0,
        reach=int(most) * size - tile.vectors * tile.lanes,
        store=place_strips(run, tile.lanes, tile.columns),
        chunk=chunk,
    )
    first_tap = taps.offset[:, :: taps.per_channel]
    kernel = PanelConvolution(
        isa,
        inner,
        group,
        np.ascontiguousarray(first_tap - taps.offset[0, 0]),
        np.array([*bound, taps.channels], np.int32),
        copies.start,
        copies.beyond,
        rows,
        tile.columns,
        run.pitch,
        run.rows,
        -(-run.width // tile.lanes),
        base,
    )
    return kernel, packed.nbytes


def _chunks(
    packed: Streams, per_group: int, tile: Tile, threads: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cut the blocks where groups end, for the threads, and to what sums may take.

    Each chunk fills panels of its own. Returns the boundaries, and the group of each chunk.
    """
    group = packed.channel // per_group
    groups = len(np.unique(group))
    most = max(1, SUMS // (4 * tile.lanes * tile.vectors))
    if tile.parts == 1:  # no sums wait
        most = len(group)
    bounds = [0]
    for number in np.unique(group):
        begin, end = (int(n) for n in np.searchsorted(group, [number, number + 1]))
        pieces = -(-(end - begin) // most)
        if groups % threads:
            pieces = -(-pieces // threads) * threads
        bounds += cut_blocks(packed, begin, end, pieces)
    chunk = np.unique(bounds).astype(np.int32)
    return chunk, group[chunk[:-1]].astype(np.int32)
