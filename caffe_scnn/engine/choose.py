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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn import _kernels
from caffe_scnn.engine.costs import Costs, DenseCosts, costs_for
from caffe_scnn.engine.machine import cache_bytes
from caffe_scnn.engine.packing import Int64, block_channels
from caffe_scnn.layers.nonzeros import count_nonzeros

# How much longer a transfer takes from beyond the second-level cache.
FARTHER = 2.0
PAGE_BYTES, LINE_BYTES = 4096, 64
# Input and output of a layer that the last-level cache keeps; cycles until a line comes from memory
# that was not read ahead, and lines of a strip until they are.
CACHED_BYTES = 16 << 20
LINE_WAIT, LINES_WAITED = 55.0, 4
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256)
# Channels of a part: few are too few for small layers, and many parts pay on the thousands of
# inputs of fully connected ones, whose pixels otherwise come from beyond the second-level cache.
LEAST_CHANNELS, MANY_PARTS, LEAST_CHANNELS_OF_MANY = 8, 16, 48


# Cycles by which storing a vector takes longer where gaps between rows must be left out, and where
# the output has another distance between rows than the run; found on 1x1 layers of 14 to 112
# pixels a side. The dense tiles do not mind.
GAPS, ELSEWHERE = 2.0, 10.0
# Cycles that the end of a part of a row takes longer where it is not foreseen. Whole rows come by
# their length; parts do not, and only the same layer run over and over teaches their lengths.
SURPRISE = 13.0
# Cycles of a vector that is put into a panel, or taken apart when it is stored, and of each piece
# of a row of the map that this begins with, and more for one that comes from memory.
FILL, PLACED, PIECE, FAR_PIECE = 6.0, 8.0, 20.0, 80.0
# Bytes of the sums of a group of output channels between two parts, which stay in the second-level
# cache: each group fills panels of its own.
SUMS = 1 << 19
# Blocks may hold so many times the pixels of a map, in all.
WASTED = 1.5
# How much longer panels take where threads share a layer: each waits for what the other one wrote
# before it computes anything, or all fill panels of their own.
SHARED = 1.25
# Tiles for each thread from which on it does not matter that some get one more.
MANY_TILES = 8


@dataclass(frozen=True)
class PanelShape:
    """What panels would hold of ``channels`` input channels (``engine/panels.py``).

    Of each so many patches; each has some rows ``beyond`` those of a tile, and columns ``across``.
    """

    channels: int
    beyond: tuple[int, ...]
    across: tuple[int, ...]

    def vectors(self, rows: Int64 | int, columns: Int64 | int) -> Any:
        """Return the vectors of a channel's panel for such tiles."""
        lines = sum(self.beyond) + len(self.beyond) * rows
        return lines * (columns + max(self.across))


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
    placed : float
        Cycles more that a vector's store takes, for the place where it goes.
    panel : PanelShape, optional
        None: all loads are aligned, and there is nothing to gain by panels.
    """

    run: int
    channels: int
    span: int
    placed: float = 0
    panel: PanelShape | None = None


@dataclass(frozen=True)
class Tile:
    """A tile, its predicted cost in cycles, and why it was chosen.

    ``sconv``: ``rows`` output channels × ``vectors`` of pixels, input channels in ``parts``.
    ``panel``: one channel × so many vectors, in rows of ``columns``; the map is cut into blocks,
    so many ``bands`` of them (``engine/panels.py``).
    ``dense``: ``rows`` pixels × ``vectors`` of output channels. ``surprise`` is the share by which
    it takes longer in a net than timed over and over.
    """

    op: str
    rows: int
    vectors: int
    parts: int
    cycles: float
    lanes: int
    why: str
    surprise: float = 0.0
    columns: int = 0
    bands: int = 0

    @property
    def kernel(self) -> str:
        """The tile in the words of the kernel names."""
        if self.op == "panel":
            return f"panel_{self.vectors // self.columns}x{self.columns}v"
        return f"{self.op}_{self.rows}x{self.vectors}v"

    def shared_evenly(self, height: int, width: int, threads: int) -> bool:
        """Whether threads share the tiles of such a map on panels evenly; else channels are."""
        tall, wide = block_size(height, width, self.bands, self.lanes)
        tiles = -(-tall // (self.vectors // self.columns)) * -(-wide // self.columns)
        return tiles % threads == 0 or tiles >= MANY_TILES * threads


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
        whole, rest = np.divmod(-(-self.shape.run // self.lanes), self.vectors)
        outputs = self.blocks * self.rows
        strips = (whole + (rest > 0)) * strip_cycles(self.shape, outputs, self.vectors * self.lanes)
        return (
            strips + whole * self._tile(costs, self.vectors) + (rest > 0) * self._tile(costs, rest)
        )

    def surprises(self) -> NDArray[np.float64]:
        """Predict the cycles that ends of sums take longer in a net than timed over and over."""
        vectors = -(-self.shape.run // self.lanes)
        tiles = -(-vectors // self.vectors)
        unforeseen = (self.rows == 1) & (self.parts > 1)
        result: NDArray[np.float64] = unforeseen * SURPRISE * tiles * self.blocks * self.parts
        return result

    def _tile(self, costs: Costs, size: Int64) -> NDArray[np.float64]:
        """Predict the cycles of all blocks of one tile of ``size`` vectors."""
        pixels = 4 * self.shape.channels / self.parts * (size * self.lanes + self.shape.span)
        near = costs.near + costs.crossing * (self.shape.span > 0)
        arithmetic = self.rows * size * costs.multiply_add
        loads = size * near + self.rows * costs.broadcast
        kept = near_bytes()
        transfers = size * np.select(
            [pixels <= kept, pixels <= 2 * kept], [0, costs.middle], costs.far
        )
        # what is busiest hides the others, but never wholly
        busy = np.stack([arithmetic, loads, transfers])
        most = busy.max(axis=0)
        both = most * ((busy / most) ** costs.overlap).sum(axis=0) ** (1 / costs.overlap)
        streams = self.entries * (np.maximum(both, costs.latency) + costs.entry)
        ends = self.blocks * self.parts * costs.block
        store = costs.store + self.shape.placed
        stores = self.blocks * self.rows * size * (store + (self.parts - 1) * costs.partial)
        result: NDArray[np.float64] = streams + ends + stores
        return result


def near_bytes() -> int:
    """Return how much of the pixels of a tile the first-level cache keeps; of twice that, half."""
    return cache_bytes(1) * 5 // 6


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


def tile_sizes(isa: str, wanted: str = "sconv") -> tuple[dict[int, list[int]], int]:
    """Return the vectors of each number of rows that an ISA has tiles of, and its lanes."""
    sizes: dict[int, list[int]] = {}
    lanes = 1
    for _, op, name, rows, vectors, width in _kernels.kernels():
        if op == wanted and name == isa:
            sizes.setdefault(rows, []).append(vectors)
            lanes = width
    return sizes, lanes


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


@dataclass(frozen=True)
class PanelCandidates:
    """The tiles of single channels on panels, of blocks of one size.

    Attributes
    ----------
    tiles : Candidates
        What they cost once panels are filled, and sums at their place.
    columns : int
        Vectors of a row of a tile.
    bands : int
        Blocks below each other.
    around : ndarray
        Cycles until the vectors of panels are put together and those of results taken apart, for
        each tile.
    """

    tiles: Candidates
    columns: int
    bands: int
    around: NDArray[np.float64]

    def cycles(self, costs: Costs) -> NDArray[np.float64]:
        """Predict the cycles of whole layers (one item)."""
        return costs.panel * (self.tiles.cycles(costs) + self.around)

    def as_tiles(self, costs: Costs) -> list[Tile]:
        """Return a tile each, with its predicted cycles."""
        tiles = self.tiles
        timed, surprises = self.cycles(costs), tiles.surprises()
        numbers = (tiles.vectors, tiles.parts, timed + surprises, surprises / timed)
        return [
            Tile("panel", 1, vectors, parts, cost, tiles.lanes, "", share, self.columns, self.bands)
            for vectors, parts, cost, share in zip(*(n.tolist() for n in numbers), strict=True)
        ]

    def only(self, index: int) -> PanelCandidates:
        """Return one of them."""
        one, tiles = slice(index, index + 1), self.tiles
        kept = (tiles.rows, tiles.vectors, tiles.parts, tiles.entries, tiles.blocks)
        rows, vectors, parts, entries, blocks = (values[one] for values in kept)
        own = Candidates(rows, vectors, parts, entries, blocks, tiles.shape, tiles.lanes)
        return PanelCandidates(own, self.columns, self.bands, self.around[one])


def block_size(height: int, width: int, bands: int, lanes: int) -> tuple[int, int]:
    """Return the size of the blocks that a map is cut into, one a lane."""
    return -(-height // bands), -(-width // (lanes // bands))


def channels_together(vectors: Int64 | int, lanes: int) -> Int64:
    """Return of how many output channels the sums of such tiles wait between two parts."""
    channels: Int64 = np.maximum(1, SUMS // (4 * lanes * np.asarray(vectors)))
    return channels


def panel_candidates(
    isa: str, direct: Candidates, groups: int, height: int, width: int
) -> list[PanelCandidates]:
    """List the tiles on panels that a layer can use.

    Blocks are cut into the fewest tiles side by side, or into twice as many, and input channels
    into the fewest parts whose panels stay in the first-level cache, of one channel at least.

    Parameters
    ----------
    isa : str
    direct : Candidates
        The layer's other tiles.
    groups : int
    height, width : int
        Of the result.
    """
    sizes, lanes = tile_sizes(isa, "panel")
    panel = direct.shape.panel
    if panel is None:
        return []
    found = []
    for bands in (1 << n for n in range(lanes.bit_length())):
        tall, wide = block_size(height, width, bands, lanes)
        if tall * wide * lanes > WASTED * height * width:
            continue
        least = {-(-wide // max(all_columns)) for all_columns in sizes.values()}
        for columns in sorted({-(-wide // n) for few in least for n in (few, 2 * few)}):
            rows = np.array([r for r in sizes if columns in sizes[r] and r <= tall])
            if len(rows):
                found.append(_on_panels(direct, groups, bands, (tall, wide), rows, columns))
    return [panels for panels in found if panels is not None]


def _on_panels(
    direct: Candidates,
    groups: int,
    bands: int,
    block: tuple[int, int],
    rows: Int64,
    columns: int,
) -> PanelCandidates | None:
    """Describe tiles of so many rows and columns of blocks, if panels can hold what they need."""
    panel, lanes = direct.shape.panel, direct.lanes
    assert panel is not None
    single = int(np.argmin(direct.rows))
    entries, outputs = direct.entries[single], direct.blocks[single]
    (tall, wide), strips = block, -(-block[1] // columns)
    vectors = panel.vectors(rows, columns)
    channels = panel.channels // groups
    near = near_bytes() // (vectors * 4 * lanes)
    parts = -(-channels // np.maximum(1, near))
    kept = (parts <= PARTS[-1]) & (near > 0)
    if not kept.any():
        return None
    rows, vectors, parts = rows[kept], vectors[kept], parts[kept]
    each = np.ones(len(rows), np.int64)
    aligned = Shape(strips * tall * columns * lanes, channels, 0, PLACED)
    tiles = Candidates(each, rows * columns, parts, each * entries, each * outputs, aligned, lanes)
    number = strips * -(-tall // rows)
    lines = sum(panel.beyond) + len(panel.beyond) * rows
    together = np.where(parts > 1, channels_together(rows * columns, lanes), outputs)
    fills = number * -(-(outputs // groups) // together) * panel.channels
    pieces = bands * (fills * lines + number * rows * outputs)
    far = 4 * tall * wide * lanes * (panel.channels + outputs) > CACHED_BYTES
    around = FILL * fills * vectors + (PIECE + FAR_PIECE * far) * pieces
    return PanelCandidates(tiles, columns, bands, around)


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
    if threads > 1:
        costs = replace(costs, panel=SHARED * costs.panel)
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
    if size is not None:
        for panels in panel_candidates(isa, tiles, groups, *size):
            ranked += panels.as_tiles(costs)
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
    """Tile sizes worth trying: those whose own remainder tile exists too."""
    usable = [size for size in sizes if not run_vectors % size or run_vectors % size in sizes]
    return [size for size in usable if size <= run_vectors] or [min(sizes)]
