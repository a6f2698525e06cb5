"""Which tiles on panels a convolution can run on, and what they cost (``engine/panels.py``)."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.engine.costs import CACHED_BYTES, SURPRISE, PanelCosts
from caffe_scnn.engine.tile import (
    FLOATS_OF_LINE,
    MOST_PARTS,
    Int64,
    PanelShape,
    Tile,
    block_size,
    near_bytes,
    tile_sizes,
)

# Bytes of the sums of a group of output channels between two parts, which stay in the second-level
# cache: each group fills panels of its own.
SUMS = 1 << 19
# Blocks may hold so many times the pixels of a map, in all.
WASTED = 1.5
# How much longer panels take where threads share a layer: each waits for what the other one wrote
# before it computes anything, or all fill panels of their own.
SHARED = 1.25


@dataclass(frozen=True)
class PanelCandidates:
    """Tiles of single channels on panels, of blocks of one size.

    Attributes
    ----------
    vectors, parts : int64 ndarray of shape (tiles,)
        Of each tile, and into how many parts the input channels are cut.
    counts : float64 ndarray of shape (tiles, 8)
        How often a layer does each thing of ``PanelCosts``, in one item.
    ends : int64 ndarray of shape (tiles,)
        Sums of a part of the input channels that end where nothing foretells it.
    columns, bands, lanes : int
        Vectors of a row of a tile; blocks below each other; floats of a vector.
    """

    vectors: Int64
    parts: Int64
    counts: NDArray[np.float64]
    ends: Int64
    columns: int
    bands: int
    lanes: int

    def cycles(self, costs: PanelCosts) -> NDArray[np.float64]:
        """Predict the cycles of whole layers (one item), timed over and over."""
        result: NDArray[np.float64] = self.counts @ np.array(astuple(costs))
        return result

    def as_tiles(self, costs: PanelCosts, threads: int = 1) -> list[Tile]:
        """Return a tile each, with its predicted cycles."""
        timed = self.cycles(costs) * (SHARED if threads > 1 else 1.0)
        surprises = SURPRISE * self.ends
        numbers = (self.vectors, self.parts, timed + surprises, surprises / timed)
        rest = self.columns, self.bands
        return [
            Tile("panel", 1, vectors, parts, cost, self.lanes, "", share, *rest)
            for vectors, parts, cost, share in zip(*(n.tolist() for n in numbers), strict=True)
        ]


def channels_together(vectors: Int64 | int, lanes: int) -> Int64:
    """Return of how many output channels the sums of such tiles wait between two parts."""
    channels: Int64 = np.maximum(1, SUMS // (4 * lanes * np.asarray(vectors)))
    return channels


def panel_candidates(
    isa: str, panel: PanelShape, entries: int, outputs: int, groups: int, height: int, width: int
) -> list[PanelCandidates]:
    """List the tiles on panels that a layer can use.

    Blocks are cut into the fewest tiles side by side, or into twice as many, and input channels
    into the fewest parts whose panels stay in the first-level cache, of one channel at least.

    Parameters
    ----------
    isa : str
    panel : PanelShape
    entries, outputs : int
        Non-zeros of the layer, and its output channels.
    groups : int
    height, width : int
        Of the result.
    """
    sizes, lanes = tile_sizes(isa, "panel")
    layer, found = (panel, entries, outputs, groups), []
    for bands in (1 << n for n in range(lanes.bit_length())):
        tall, wide = block_size(height, width, bands, lanes)
        if tall * wide * lanes > WASTED * height * width:
            continue
        least = {-(-wide // max(all_columns)) for all_columns in sizes.values()}
        for columns in sorted({-(-wide // n) for few in least for n in (few, 2 * few)}):
            rows = np.array([r for r in sizes if columns in sizes[r] and r <= tall], np.int64)
            found.append(_of_blocks(*layer, bands, (tall, wide), rows, columns, lanes))
    return [panels for panels in found if len(panels.vectors)]


def _of_blocks(
    panel: PanelShape,
    entries: int,
    outputs: int,
    groups: int,
    bands: int,
    block: tuple[int, int],
    rows: Int64,
    columns: int,
    lanes: int,
) -> PanelCandidates:
    """Describe tiles of so many rows and columns of blocks, where panels hold what they need."""
    (tall, wide), across = block, -(-block[1] // columns)
    near = near_bytes() // (panel.vectors(rows, columns) * 4 * lanes)  # channels
    parts = -(-(panel.channels // groups) // np.maximum(1, near))
    kept = (parts <= MOST_PARTS) & (near > 0)
    rows, parts = rows[kept], parts[kept]
    vectors, tiles = rows * columns, across * -(-tall // rows)
    computed = across * columns * tall  # vectors of an output channel
    together = np.where(parts > 1, channels_together(vectors, lanes), outputs)
    fills = tiles * -(-(outputs // groups) // together) * panel.channels
    read = fills * (sum(panel.beyond) + len(panel.beyond) * rows)  # rows of the map, in each band
    lines = bands * (
        read * _lines(columns + max(panel.across), wide, lanes // bands)
        + tiles * rows * outputs * _lines(columns, wide, lanes // bands)
    )
    ends = tiles * outputs * parts
    far = 4 * tall * wide * lanes * (panel.channels + outputs) > CACHED_BYTES
    counts = (
        np.full(len(rows), entries * computed),
        entries * tiles,
        fills * panel.vectors(rows, columns),
        lines,
        lines * far,
        np.full(len(rows), outputs * computed),
        outputs * computed * (parts - 1),
        ends,
    )
    unforeseen = ends * (parts > 1)
    each = np.stack(counts, axis=1).astype(float)
    return PanelCandidates(vectors, parts, each, unforeseen, columns, bands, lanes)


def _lines(columns: int, wide: int, blocks: int) -> float:
    """Return how many cache lines so many columns of each block beside each other lie in."""
    return min(
        blocks * (1 + (columns - 1) / FLOATS_OF_LINE), 1 + (blocks * wide - 1) / FLOATS_OF_LINE
    )
