"""Max pooling of many windows of one map into pyramids of bins, as the detectors of SPP-net do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn import _kernels
from caffe_scnn._kernels import best_isa
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.engine.threads import MOVED, resolve_threads, threads_for

CHANNELS = 16  # SCNN_SPP_CHANNELS: channels that lie side by side in a cell of a blocked map

Bounds = NDArray[np.int32]
"""Of each bin of one level: (windows, 2, bins, 2), rows and columns, first cell and the one after
the last."""


@dataclass(frozen=True)
class WindowBins:
    """The cells of each bin of some windows.

    Parameters
    ----------
    levels : sequence of int
        Bins a side of each level, in the order of the result.
    bounds : sequence of int32 ndarray of shape (windows, 2, bins, 2)
        Of each level: rows and columns of cells, first and one behind the last. Bins may overlap
        and be empty.
    lowest : float
        Where the maximum starts; the result is never below. An empty bin gives 0.
    """

    levels: tuple[int, ...]
    bounds: tuple[Bounds, ...]
    lowest: float

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.bounds[0])

    def size(self, channels: int) -> int:
        """Values of a pooled window."""
        return channels * sum(level * level for level in self.levels)

    def sources(self) -> list[tuple[int, int | None]]:
        """Order in which to pool the levels, and the level that each is made from.

        The maximum over a bin is that of finer bins where these cover the same cells, which costs
        far less than the cells. That holds for SPP-net's bins when one number of bins divides the
        other; it is looked up rather than assumed, because the bounds are rounded.
        """
        order = sorted(range(len(self.levels)), key=lambda at: -self.levels[at])
        found: list[tuple[int, int | None]] = []
        for place, level in enumerate(order):
            fits = [finer for finer in order[:place] if self._made_of(level, finer)]
            found.append((level, fits[-1] if fits else None))
        return found

    def _made_of(self, coarse: int, fine: int) -> bool:
        few, many = self.levels[coarse], self.levels[fine]
        if many % few:
            return False
        parts = self.bounds[fine].reshape(len(self), 2, few, many // few, 2)
        begin, end = self.bounds[coarse][..., 0], self.bounds[coarse][..., 1]
        filled = (parts[..., 0] < parts[..., 1]).all()
        gapless = (parts[..., 1:, 0] <= parts[..., :-1, 1]).all()
        same = (parts[..., 0, 0] == begin).all() and (parts[..., -1, 1] == end).all()
        return bool(filled and gapless and same)


def blocked(maps: Float32) -> Float32:
    """Bring a map (C, H, W) to (blocks, H, W, 16): what :func:`pool_windows` reads."""
    channels, height, width = maps.shape
    blocks = -(-channels // CHANNELS)
    result = np.zeros((blocks, height, width, CHANNELS), np.float32)
    for block in range(blocks):
        part = maps[block * CHANNELS : (block + 1) * CHANNELS]
        result[block, :, :, : len(part)] = part.transpose(1, 2, 0)
    return result


def pool_windows(
    cells: Float32,
    channels: int,
    bins: WindowBins,
    out: Float32,
    index: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Float32:
    """Pool windows of one map.

    Parameters
    ----------
    cells : float32 ndarray of shape (blocks, H, W, 16)
        See :func:`blocked`.
    channels : int
        Channels of the map.
    bins : WindowBins
    out : float32 ndarray of shape (rows, ``bins.size(channels)``)
        One level after the other, each (channels, bins, bins).
    index : sequence of int, optional
        Row of ``out`` of each window; by default their numbers.
    threads : int, optional
        All available ones by default. The result does not depend on it.
    isa : str, optional

    Returns
    -------
    ndarray
        ``out``.

    Raises
    ------
    KernelError
        The operands do not fit together.
    """
    sources = bins.sources()
    order = [level for level, _ in sources]
    place = {level: at for at, level in enumerate(order)}
    sides = np.array(bins.levels, np.int32)
    before = channels * (np.cumsum(sides.astype(np.int64) ** 2) - sides.astype(np.int64) ** 2)
    rows = np.arange(len(bins)) if index is None else np.asarray(index)
    cycles = MOVED * len(bins) * bins.size(channels)
    _kernels.spp(
        best_isa(isa),
        cells,
        channels,
        sides[order],
        np.array([-1 if source is None else place[source] for _, source in sources], np.int32),
        before[order],
        np.ascontiguousarray(np.concatenate([bins.bounds[level] for level in order], axis=2)),
        rows.astype(np.int64),
        bins.lowest,
        out,
        threads_for(cycles, resolve_threads(threads)),
    )
    return out
