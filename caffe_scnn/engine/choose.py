"""Which tile a convolution runs on: a cost model of the packed stream.

A tile of ``rows`` channels × ``vectors`` vectors costs, for each stored entry, ``vectors`` loads of
pixels, ``rows`` broadcasts of weights and ``rows · vectors`` multiply-adds; whichever port is
busiest decides, but never less than the latency of one multiply-add shared by its accumulators.
Storing costs a fixed sum per vector. The constants are cycles, measured with
``benchmarks/kernels.py`` on processors of each tier; only their ratios matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from caffe_scnn import _kernels
from caffe_scnn.engine.pack import block_channels

BROADCAST = 0.5
MULTIPLY_ADD = 0.5
LATENCY = 4.0  # of a dependent multiply-add
ENTRY = 0.5  # stream bookkeeping
BLOCK = 20.0  # a mispredicted end of the stream, for each block and part
STORE = 4.0  # bias, clamp and store of one vector
PARTIAL = 3.0  # one vector of sums stored and loaded between two parts
# A load of pixels, by the size of what the tile reads again and again: it stays in the first-level
# cache, it nearly does, or it comes from the second level each time.
LOADS = ((32 * 1024, 0.5), (64 * 1024, 1.2), (1 << 62, 1.75))
CROSSING = 0.4  # extra for a load that is not aligned, from the first level
PARTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Shape:
    """What the cost of a layer depends on besides its weights.

    Attributes
    ----------
    run : int
        Positions of the flat run.
    channels : int
        Input channels that a tile reads.
    span : int
        Positions between the first and the last tap of one channel.
    """

    run: int
    channels: int
    span: int


@dataclass(frozen=True)
class Tile:
    """The chosen tile, its predicted cost in cycles, and why it was chosen."""

    rows: int
    vectors: int
    parts: int
    cycles: float
    entries: int
    lanes: int
    why: str

    @property
    def kernel(self) -> str:
        """The tile in the words of the kernel names."""
        return f"sconv_{self.rows}x{self.vectors}v"


def count_entries(weights: NDArray[np.float32], groups: int, rows: int) -> tuple[int, int]:
    """Count entries and blocks that packing in blocks of ``rows`` channels would store."""
    if rows == 1:
        return int(np.count_nonzero(weights)), len(weights)
    channel = block_channels(len(weights), groups, rows, np.zeros(len(weights), bool))
    occupied = weights != 0
    entries = 0
    for block in channel:
        entries += int(np.count_nonzero(occupied[block[block >= 0]].any(axis=0)))
    return entries, len(channel)


def tile_cost(
    entries: int, blocks: int, rows: int, vectors: int, parts: int, shape: Shape, lanes: int
) -> float:
    """Predict the cycles of a whole layer (one item) on one tile size."""
    total = 0.0
    run_vectors = -(-shape.run // lanes)
    for size in _tile_sizes(run_vectors, vectors):
        working_set = 4 * shape.channels // parts * (size * lanes + shape.span)
        load = next(cost for limit, cost in LOADS if working_set <= limit)
        if shape.span and load == LOADS[0][1]:
            load += CROSSING
        busiest = max(rows * size * MULTIPLY_ADD, size * load + rows * BROADCAST, LATENCY)
        total += entries * (busiest + ENTRY) + blocks * parts * BLOCK
        total += blocks * rows * size * (STORE + (parts - 1) * PARTIAL)
    return total


def _tile_sizes(run_vectors: int, vectors: int) -> list[int]:
    whole, rest = divmod(run_vectors, vectors)
    return [vectors] * whole + ([rest] if rest else [])


def choose_tile(isa: str, weights: NDArray[np.float32], groups: int, shape: Shape) -> Tile:
    """Choose the tile of a weight matrix on a flat run.

    Parameters
    ----------
    isa : str
    weights : float32 ndarray of shape (channels, columns of a group)
    groups : int
    shape : Shape
    """
    sizes: dict[int, list[int]] = {}
    lanes = 1
    for _, op, name, rows, vectors, width in _kernels.kernels():
        if op == "sconv" and name == isa:
            sizes.setdefault(rows, []).append(vectors)
            lanes = width
    best: dict[int, Tile] = {}
    for rows in sizes:
        entries, blocks = count_entries(weights, groups, rows)
        for vectors, parts in product(_even_sizes(-(-shape.run // lanes), sizes[rows]), PARTS):
            if parts > 1 and parts * 8 > shape.channels:
                continue
            cycles = tile_cost(entries, blocks, rows, vectors, parts, shape, lanes)
            if rows not in best or cycles < best[rows].cycles:
                best[rows] = Tile(rows, vectors, parts, cycles, entries, lanes, "")
    chosen = min(best.values(), key=lambda tile: tile.cycles)
    return replace(chosen, why=_reason(chosen, best, weights))


def _reason(chosen: Tile, best: dict[int, Tile], weights: NDArray[np.float32]) -> str:
    """Say what decided: the density, and the best tile of the other kind."""
    density = np.count_nonzero(weights) / weights.size
    others = [tile for rows, tile in best.items() if (rows == 1) != (chosen.rows == 1)]
    kind = "single channels" if chosen.rows == 1 else f"blocks of {chosen.rows} channels"
    if not others:
        return f"density {density:.3f}: {kind}"
    rival = min(others, key=lambda tile: tile.cycles)
    return f"density {density:.3f}: {kind} cost {chosen.cycles / rival.cycles:.2f} of {rival.kernel}"


def _even_sizes(run_vectors: int, sizes: list[int]) -> list[int]:
    """Tile sizes worth trying: those whose own remainder tile exists too."""
    usable = [size for size in sizes if not run_vectors % size or run_vectors % size in sizes]
    return [size for size in usable if size <= run_vectors] or [min(sizes)]
