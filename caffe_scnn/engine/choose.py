"""Which tile a convolution runs on: a cost model of the packed stream.

A tile of ``rows`` channels × ``vectors`` vectors costs, for each stored entry, ``vectors`` loads of
pixels, ``rows`` broadcasts of weights and ``rows · vectors`` multiply-adds. Pixels that a tile
reads again and again stay in the first-level cache if they fit it, else they are transferred each
time. The busiest of loads, transfers and arithmetic hides most of the others, and nothing is faster
than the latency of one multiply-add. Storing costs a fixed sum per vector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.engine.costs import CACHED_BYTES, SURPRISE, Costs, DenseCosts, costs_for
from caffe_scnn.engine.machine import cache_bytes
from caffe_scnn.engine.packing import LONG_VECTOR, Int64, block_channels
from caffe_scnn.engine.panel_tiles import panel_candidates
from caffe_scnn.engine.tile import MOST_PARTS, Shape, Tile, near_bytes, tile_sizes
from caffe_scnn.layers.nonzeros import count_nonzeros

# How much longer a transfer takes from beyond the second-level cache; what of it nothing hides.
FARTHER, MISSED = 2.0, 0.6
PAGE_BYTES, LINE_BYTES = 4096, 64
# Cycles until a line comes from memory that was not read ahead; lines of a strip until they are.
LINE_WAIT, LINES_WAITED = 55.0, 4
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, MOST_PARTS)
# Channels of a part: few are too few for small layers, and many parts pay on the thousands of
# inputs of fully connected ones, whose pixels otherwise come from beyond the second-level cache.
LEAST_CHANNELS, MANY_PARTS, LEAST_CHANNELS_OF_MANY = 8, 16, 48
# Cycles by which storing a vector takes longer where gaps between rows must be left out, and where
# the output has another distance between rows than the run; found on 1x1 layers of 14 to 112
# pixels a side. The dense tiles do not mind.
GAPS, ELSEWHERE = 2.0, 10.0


@dataclass(frozen=True)
class Candidates:
    """The tiles that a layer can use, an array element each.

    Attributes
    ----------
    rows, vectors, parts : ndarray of int
        The tile, and into how many parts the input channels are cut.
    entries, blocks : ndarray of int
        What packing in blocks of so many rows stores.
    shape : Shape
        Of the layer.
    lanes : int
        Floats of a vector.
    """

    rows: Int64
    vectors: Int64
    parts: Int64
    entries: Int64
    blocks: Int64
    shape: Shape
    lanes: int

    def cycles(self, costs: Costs) -> NDArray[np.float64]:
        """Predict the cycles of whole layers (one item)."""
        vectors = -(-self.shape.run // self.lanes)
        tiles = -(-vectors // self.vectors)
        size, larger = np.divmod(vectors, tiles)  # so many have a vector more
        outputs = self.blocks * self.rows
        strips = tiles * strip_cycles(self.shape, outputs, self.vectors * self.lanes)
        smaller = (tiles - larger) * self._tile(costs, size)
        return strips + smaller + larger * self._tile(costs, size + 1)

    def surprises(self) -> NDArray[np.float64]:
        """Predict the cycles that ends of sums take longer in a net than timed over and over."""
        vectors = -(-self.shape.run // self.lanes)
        tiles = -(-vectors // self.vectors)
        unforeseen = (self.rows == 1) & (self.parts > 1)
        result: NDArray[np.float64] = unforeseen * SURPRISE * tiles * self.blocks * self.parts
        return result

    def _tile(self, costs: Costs, size: Int64) -> NDArray[np.float64]:
        """Predict the cycles of all blocks of one tile of ``size`` vectors."""
        pixels = 4 * self.shape.channels / self.parts * self.shape.pixels(size * self.lanes)
        near = costs.near + costs.crossing * (self.shape.span > 0)
        arithmetic = self.rows * size * costs.multiply_add
        loads = size * near + self.rows * costs.broadcast
        # where weights stream past the pixels, half of the cache is for these, and misses show
        streaming = (self.rows > 1) & (self.lanes < LONG_VECTOR)
        kept, second = near_bytes() / (1 + streaming), cache_bytes(2)
        places = [pixels <= kept, pixels <= 2 * kept, pixels <= second]
        transfers = size * np.select(places, [0, costs.middle, costs.far], FARTHER * costs.far)
        # what is busiest hides the others, but never wholly
        busy = np.stack([arithmetic, loads, np.where(streaming, 0, transfers)])
        most = busy.max(axis=0)
        both = most * ((busy / most) ** costs.overlap).sum(axis=0) ** (1 / costs.overlap)
        both = np.maximum(both, costs.latency) + np.where(streaming, MISSED * transfers, 0)
        streams = self.entries * (both + costs.entry)
        ends = self.blocks * self.parts * costs.block
        store = costs.store + self.shape.placed
        stores = self.blocks * self.rows * size * (store + (self.parts - 1) * costs.partial)
        result: NDArray[np.float64] = streams + ends + stores
        return result


def store_cycles(width: int, pitch: int, out_pitch: int) -> float:
    """Predict what a vector's store takes longer: rows of ``width`` lie so far apart in the run."""
    if pitch != out_pitch:
        return ELSEWHERE
    return GAPS if pitch > width else 0.0


def strip_cycles(shape: Shape, outputs: Int64 | int, pixels: Int64 | int) -> NDArray[np.float64]:
    """Predict what it costs to reach the strips of all planes that a tile of pixels touches.

    Strips of planes larger than a page lie apart, and what reads ahead by itself begins anew on
    each: of maps that come from memory so many lines of each strip are waited for.
    """
    planes = np.asarray(shape.channels + outputs)
    far = (4 * shape.run * planes > CACHED_BYTES) & (4 * shape.run > PAGE_BYTES)
    lines = np.clip(4 * np.asarray(pixels) / LINE_BYTES, 1, LINES_WAITED)
    found: NDArray[np.float64] = np.where(far, LINE_WAIT * lines * planes, 0.0)
    return found


def candidates(
    isa: str,
    weights: NDArray[np.float32],
    groups: int,
    shape: Shape,
    skip: NDArray[np.bool_] | None = None,
) -> Candidates:
    """List the tiles that a weight matrix on a flat run can use.

    Parameters
    ----------
    isa : str
    weights : float32 ndarray of shape (channels, columns of a group)
    groups : int
    shape : Shape
    skip : bool ndarray of shape (channels,), optional
        Channels that are not computed.
    """
    skip = np.zeros(len(weights), bool) if skip is None else skip
    sizes, lanes = tile_sizes(isa)
    parts = [p for p in PARTS if p == 1 or p * _least_channels(p) <= shape.channels]
    found = []
    for rows, all_vectors in sizes.items():
        entries, blocks = count_entries(weights, groups, rows, skip)
        usable = _even_sizes(-(-shape.run // lanes), all_vectors)
        found += [(rows, v, p, entries, blocks) for v, p in product(usable, parts)]
    rows_, vectors, parts_, entries, blocks = np.array(found, np.int64).T
    return Candidates(rows_, vectors, parts_, entries, blocks, shape, lanes)


def _least_channels(parts: int) -> int:
    return LEAST_CHANNELS if parts <= MANY_PARTS else LEAST_CHANNELS_OF_MANY


def dense_tiles(
    isa: str,
    weights: NDArray[np.float32],
    groups: int,
    height: int,
    width: int,
    costs: DenseCosts | None,
) -> list[Tile]:
    """List the tiles of the dense convolution along channels.

    Parameters
    ----------
    isa : str
    weights : float32 ndarray of shape (channels, columns of a group)
    groups : int
    height, width : int
        Of the result.
    costs : DenseCosts, optional
        None: the instruction set has no such tiles.
    """
    if costs is None:
        return []
    sizes, lanes = tile_sizes(isa, "dense")
    pairs = tile_sizes(isa, "pair")[0]
    found = []
    for vectors in sorted({v for of_pixels in sizes.values() for v in of_pixels}):
        largest = max(pixels for pixels, of_pixels in sizes.items() if vectors in of_pixels)
        across = -(-width // largest)
        entries, _ = count_entries(weights, groups, vectors * lanes, np.zeros(len(weights), bool))
        blocks = groups * -(-(len(weights) // groups) // (vectors * lanes))
        loads = across * costs.entry
        if width in pairs:  # two rows share them
            loads *= -(-height // 2) / height
        sums = entries * (width * vectors * costs.multiply_add + loads)
        stores = blocks * across * vectors * costs.store
        cycles = height * (sums + stores)
        found.append(Tile("dense", -(-width // across), vectors, 1, cycles, lanes, ""))
    return found


def rank_tiles(
    isa: str,
    weights: NDArray[np.float32],
    groups: int,
    shape: Shape,
    skip: NDArray[np.bool_] | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 1,
) -> list[Tile]:
    """List the tiles of a weight matrix, the cheapest first.

    Parameters are those of :func:`candidates`. With the height and width of the result (``size``)
    the dense convolution along channels and tiles on panels are among them. ``threads`` share the
    layer. The first tile says why it comes first.
    """
    tiles = candidates(isa, weights, groups, shape, skip)
    costs = costs_for(isa)
    timed, surprises = tiles.cycles(costs), tiles.surprises()
    cycles, shares = timed + surprises, surprises / timed
    sizes = np.stack([tiles.rows, tiles.vectors, tiles.parts], axis=1).tolist()
    ranked = [
        Tile("sconv", rows, vectors, parts, cost, tiles.lanes, "", share)
        for (rows, vectors, parts), cost, share in zip(
            sizes, cycles.tolist(), shares.tolist(), strict=True
        )
    ]
    if size is not None and skip is None:
        for tile in dense_tiles(isa, weights, groups, *size, costs.dense):
            strips = size[0] * -(-size[1] // tile.rows)
            wait = strips * float(strip_cycles(shape, len(weights), tile.rows))
            ranked.append(replace(tile, cycles=tile.cycles + wait))
    if size is not None and costs.panel is not None and shape.panel is not None:
        single = tiles.rows == 1
        numbers = int(tiles.entries[single][0]), int(tiles.blocks[single][0])
        for panels in panel_candidates(isa, shape.panel, *numbers, groups, *size):
            ranked += panels.as_tiles(costs.panel, threads)
    ranked.sort(key=lambda tile: tile.cycles)
    return [replace(ranked[0], why=_reason(ranked, weights)), *ranked[1:]]


def choose_tile(
    isa: str,
    weights: NDArray[np.float32],
    groups: int,
    shape: Shape,
    skip: NDArray[np.bool_] | None = None,
) -> Tile:
    """Return the cheapest tile; parameters as :func:`candidates`."""
    return rank_tiles(isa, weights, groups, shape, skip)[0]


def count_entries(
    weights: NDArray[np.float32], groups: int, rows: int, skip: NDArray[np.bool_]
) -> tuple[int, int]:
    """Count entries and blocks that packing in blocks of ``rows`` channels would store."""
    if rows == 1:
        return count_nonzeros(weights[~skip] if skip.any() else weights), count_nonzeros(~skip)
    channel = block_channels(weights, groups, rows, skip)
    occupied = np.packbits(weights != 0, axis=1)[channel]  # of each row of each block
    occupied[channel < 0] = 0
    entries = np.bitwise_count(np.bitwise_or.reduce(occupied, axis=1))
    return int(entries.sum(dtype=np.int64)), len(channel)


def _reason(ranked: list[Tile], weights: NDArray[np.float32]) -> str:
    """Say what decided: the density, and the best tile of another kind."""
    kinds = [(tile.op, tile.rows == 1) for tile in ranked]
    density = f"density {count_nonzeros(weights) / weights.size:.3f}"
    chosen = ranked[0]
    if chosen.op == "dense":
        kind = f"{chosen.vectors * chosen.lanes} channels side by side"
    else:
        kind = "single channels" if chosen.rows == 1 else f"blocks of {chosen.rows} channels"
        kind += " on panels" * (chosen.op == "panel")
    rival = next((t for t, other in zip(ranked, kinds, strict=True) if other != kinds[0]), None)
    if rival is None:
        return f"{density}: {kind}"
    return f"{density}: {kind} cost {chosen.cycles / rival.cycles:.2f} of {rival.kernel}"


def _even_sizes(run_vectors: int, sizes: list[int]) -> list[int]:
    """Tile sizes worth trying: those whose tiles of nearly one size all exist."""

    def exist(size: int) -> bool:
        each, larger = divmod(run_vectors, -(-run_vectors // size))
        return each in sizes and (not larger or each + 1 in sizes)

    return [size for size in sizes if size <= run_vectors and exist(size)] or [min(sizes)]
