"""Convolutions on panels: the map in blocks, one a lane, so that no load crosses a cache line.

A tap of a k×k convolution reads its pixels at any column, and of vectors as wide as a cache line
all but one in sixteen then lie in two: a load of such a vector takes two cycles of the
first-level cache instead of one. So the map is cut into as many blocks as a vector has lanes, and
lane l of a vector holds pixels of block l only: a tap moves by whole vectors. A panel holds some
input channels in that order, for a tile of the blocks and what taps read around it. It is filled
once and read by all output channels, while it stays in the first-level cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import PanelConvolution
from caffe_scnn.engine.packing import (
    Finish,
    Float32,
    Int64,
    Run,
    Streams,
    Taps,
    cut_blocks,
    packed_arguments,
    stream,
)
from caffe_scnn.engine.panel_tiles import channels_together
from caffe_scnn.engine.tile import PanelShape, Tile


@dataclass(frozen=True)
class Patches:
    """What panels hold of an input channel: of each plane that taps read (phase) a patch.

    Attributes
    ----------
    start : int64 ndarray of shape (patches,)
        Floats from the channel's first weight's input to where each patch begins.
    beyond, across : int32 ndarray of shape (patches,)
        Rows and columns that a patch has more than a tile.
    patch, row, column : int64 ndarray of shape (taps,)
        What each tap reads: of which patch, from which row and column on.
    """

    start: Int64
    beyond: NDArray[np.int32]
    across: NDArray[np.int32]
    patch: Int64
    row: Int64
    column: Int64

    @classmethod
    def of(cls, tap: Int64, pitch: int, plane: int) -> Patches:
        """Describe the patches for taps at such offsets in planes (or in the phases of one)."""
        phase, patch = np.unique(tap // plane, return_inverse=True)
        row, column = tap % plane // pitch, tap % plane % pitch

        def ends(places: Int64) -> tuple[Int64, Int64]:
            of_patch = [places[patch == i] for i in range(len(phase))]
            first = np.array([int(p.min()) for p in of_patch])
            return first, np.array([int(p.max()) for p in of_patch]) - first

        (top, beyond), (left, across) = ends(row), ends(column)
        start = phase * plane + top * pitch + left
        more = beyond.astype(np.int32), across.astype(np.int32)
        return cls(start, *more, patch, row - top[patch], column - left[patch])

    def shape(self, channels: int) -> PanelShape:
        """Return what the cost of panels of so many channels depends on."""
        return PanelShape(channels, tuple(self.beyond.tolist()), tuple(self.across.tolist()))

    def offsets(self, rows: int, columns: int, lanes: int) -> Int64:
        """Return where taps read a channel's panel, for tiles of so many rows and columns."""
        before = np.cumsum([0, *(self.beyond + rows)])
        width = columns + int(self.across.max())
        return np.asarray(((before[self.patch] + self.row) * width + self.column) * lanes)


def panel_convolution(
    isa: str,
    tile: Tile,
    weights: Float32,
    taps: Taps,
    patches: Patches,
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
    groups = len(taps.offset)
    rows, columns = tile.vectors // tile.columns, tile.columns
    shape = patches.shape(taps.channels)
    size = shape.vectors(rows, columns) * tile.lanes
    channel = np.arange(taps.channels) * size
    offset = (channel[:, None] + patches.offsets(rows, columns, tile.lanes)).ravel()
    on_panels = Taps(np.broadcast_to(offset, (groups, len(offset))), taps.per_channel)
    packed = stream(weights, on_panels, tile.rows, tile.parts, skip, by_length, threads)
    bound = [part.start // taps.per_channel for part in on_panels.cut(tile.parts)]
    parts = [
        replace(part, origin=part.origin - first * size if len(part.value) else 0)
        for part, first in zip(packed.parts, bound, strict=True)
    ]
    packed = replace(packed, parts=parts)
    share_tiles = tile.shared_evenly(run.rows, run.width, threads)
    per_group = weights.shape[0] // groups
    chunk, group = _chunks(packed, per_group, tile, 1 if share_tiles else threads)
    first_tap = taps.offset[:, :: taps.per_channel]
    kernel = PanelConvolution(
        isa,
        rows,
        columns,
        packed.unit,
        *packed_arguments(packed, finish),
        chunk,
        finish.low,
        finish.high,
        group,
        np.ascontiguousarray(first_tap - taps.offset[0, 0]),
        np.array([*bound, taps.channels], np.int32),
        patches.start,
        patches.beyond,
        patches.across,
        tile.bands,
        run.rows,
        run.width,
        run.pitch,
        base,
        share_tiles,
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
    most = len(group)
    if tile.parts > 1:
        most = int(channels_together(tile.vectors, tile.lanes))
    bounds = [0]
    for number in np.unique(group):
        begin, end = (int(n) for n in np.searchsorted(group, [number, number + 1]))
        pieces = -(-(end - begin) // most)
        if groups % threads:
            pieces = -(-pieces // threads) * threads
        bounds += cut_blocks(packed, begin, end, pieces)
    chunk = np.unique(bounds).astype(np.int32)
    return chunk, group[chunk[:-1]].astype(np.int32)
