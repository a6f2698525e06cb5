"""Which tile a convolution runs on: a cost model of the packed stream.

A tile of ``rows`` channels × ``vectors`` vectors costs, for each stored entry, ``vectors`` loads of
pixels, ``rows`` broadcasts of weights and ``rows · vectors`` multiply-adds; whichever port is
busiest decides, but never less than the latency of one multiply-add shared by its accumulators.
Storing costs a fixed sum per vector. The constants are cycles, measured with
``benchmarks/kernels.py`` on processors of each tier; only their ratios matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from caffe_scnn import _kernels
from caffe_scnn.engine.pack import block_channels

LOAD = 0.5  # a vector load or a broadcast
MULTIPLY_ADD = 0.5
LATENCY = 4.0  # of a dependent multiply-add
ENTRY = 0.5  # stream bookkeeping
STORE = 4.0  # bias, clamp and store of one vector
FAR = 1.0  # extra for a load of pixels that do not stay in the first-level cache
NEAR_BYTES = 32 * 1024


@dataclass(frozen=True)
class Tile:
    """The chosen tile, its predicted cost in cycles, and why it was chosen."""

    rows: int
    vectors: int
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
    entries: int, blocks: int, rows: int, vectors: int, run_vectors: int, columns: int, lanes: int
) -> float:
    """Predict the cycles of a whole layer (one item) on one tile size."""
    total = 0.0
    for size in _tile_sizes(run_vectors, vectors):
        far = FAR if columns * size * lanes * 4 > NEAR_BYTES else 0.0
        loads = (size + rows) * LOAD + size * far
        total += entries * (max(rows * size * MULTIPLY_ADD, loads, LATENCY) + ENTRY)
        total += blocks * rows * size * STORE
    return total


def _tile_sizes(run_vectors: int, vectors: int) -> list[int]:
    whole, rest = divmod(run_vectors, vectors)
    return [vectors] * whole + ([rest] if rest else [])


def choose_tile(
    isa: str, weights: NDArray[np.float32], groups: int, run_positions: int, columns: int
) -> Tile:
    """Choose the tile of a weight matrix (channels, columns of its group) on a flat run.

    Parameters
    ----------
    isa : str
    weights : float32 ndarray of shape (channels, columns)
    groups : int
    run_positions : int
        Length of the flat run.
    columns : int
        Input planes that a tile reads (for the size of its working set).
    """
    tiles: dict[int, list[int]] = {}
    lanes = 1
    for _, op, name, rows, vectors, width in _kernels.kernels():
        if op == "sconv" and name == isa:
            tiles.setdefault(rows, []).append(vectors)
            lanes = width
    run_vectors = -(-run_positions // lanes)
    best: dict[int, Tile] = {}
    for rows, sizes in tiles.items():
        entries, blocks = count_entries(weights, groups, rows)
        for vectors in _even_sizes(run_vectors, sizes):
            cycles = tile_cost(entries, blocks, rows, vectors, run_vectors, columns, lanes)
            if rows not in best or cycles < best[rows].cycles:
                best[rows] = Tile(rows, vectors, cycles, entries, lanes, "")
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
