"""Tiles that a convolution may run on, and what their costs depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn import _kernels
from caffe_scnn.engine.machine import cache_bytes

Int64 = NDArray[np.int64]
MOST_PARTS = 256  # that the input channels of a kernel are cut into (MAX_PARTS of the kernels)
# Tiles for each thread from which on it does not matter that some get one more.
MANY_TILES = 8
FLOATS_OF_LINE = 16


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
    rows : float
        Rows of the map in which taps of one channel lie; infinite: they may lie anywhere.
    across : int
        Positions between the first and the last tap of one of them.
    """

    run: int
    channels: int
    span: int
    placed: float = 0
    panel: PanelShape | None = None
    rows: float = math.inf
    across: int = 0

    def pixels(self, size: Int64 | int) -> Any:
        """Return how many pixels of a channel the cache keeps for a tile of ``size`` of them.

        Rows of taps that lie farther apart than a tile is long share no cache lines.
        """
        apart = self.rows * (np.asarray(size) + self.across + FLOATS_OF_LINE)
        return np.minimum(size + self.span, apart)


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


def tile_sizes(isa: str, wanted: str = "sconv") -> tuple[dict[int, list[int]], int]:
    """Return the vectors of each number of rows that an ISA has tiles of, and its lanes."""
    sizes: dict[int, list[int]] = {}
    lanes = 1
    for _, op, name, rows, vectors, width in _kernels.kernels():
        if op == wanted and name == isa:
            sizes.setdefault(rows, []).append(vectors)
            lanes = width
    return sizes, lanes


def near_bytes() -> int:
    """Return how much of the pixels of a tile the first-level cache keeps; of twice that, half."""
    return cache_bytes(1) * 5 // 6


def block_size(height: int, width: int, bands: int, lanes: int) -> tuple[int, int]:
    """Return the size of the blocks that a map is cut into, one a lane."""
    return -(-height // bands), -(-width // (lanes // bands))
