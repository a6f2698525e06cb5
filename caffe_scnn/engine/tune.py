"""Tiles chosen by timing them instead of predicting: a layer once, remembered for good.

The memory is a JSON file in the user's cache folder. All tiles add the same products in the same
order, so that they differ in time and not in one bit of the result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from caffe_scnn._kernels import FlushToZero
from caffe_scnn.engine.machine import cache_folder, timed_on
from caffe_scnn.engine.tile import Tile
from caffe_scnn.engine.timing import cold
from caffe_scnn.errors import OutputError
from caffe_scnn.model.atomic import atomic_write

TRIED = 10  # tiles of a layer: those with the lowest predicted cost
ROUNDS = 3  # each tile is timed in turns with the others
SECONDS = 0.004  # for a tile in a round


def memory_path() -> Path:
    """Return the file that keeps what was measured on this machine."""
    return cache_folder() / "tiles.json"


class Tuner:
    """Times tiles, and remembers which was the fastest.

    Parameters
    ----------
    path : Path, optional
        The file that remembers; one in the user's cache folder by default. A file that cannot be
        read counts as empty, and one that cannot be written is not an error.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or memory_path()
        self.timed = 0
        try:
            self.known: dict[str, list[str | int]] = json.loads(self.path.read_text())
        except (OSError, ValueError):
            self.known = {}

    def choose(
        self,
        layer: str,
        tiles: Sequence[Tile],
        build: Callable[[Tile], Callable[[], object]],
        threads: int = 1,
    ) -> Tile:
        """Return the fastest tile of a layer.

        Parameters
        ----------
        layer : str
            All that its time depends on.
        tiles : sequence of Tile
            Those worth trying, the most promising first.
        build : callable
            Makes the layer with a tile, as a function that runs it.
        threads : int
            That share its work.
        """
        key = f"{timed_on()} cold {layer}"
        by_size = {(t.op, t.rows, t.vectors, t.parts, t.columns, t.bands): t for t in tiles}
        found = by_size.get(tuple(self.known.get(key, ())))  # type: ignore[arg-type]
        if found is not None:
            return replace(found, why="the fastest when it was timed before")
        timed = _time_in_turns([build(tile) for tile in tiles], threads)
        times = [t * (1 + tile.surprise) for t, tile in zip(timed, tiles, strict=True)]
        best = min(range(len(tiles)), key=times.__getitem__)
        self.timed += 1
        found = tiles[best]
        size = found.rows, found.vectors, found.parts, found.columns, found.bands
        self.known[key] = [found.op, *size]
        self._save()
        why = (
            f"the fastest of {len(tiles)}, timed: {1e6 * times[best]:.1f} µs; the one predicted, "
            f"{tiles[0].kernel} in {tiles[0].parts} parts, took {1e6 * times[0]:.1f} µs"
        )
        return replace(found, why=why)

    def _save(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as file:
                file.write(json.dumps(self.known, indent=0, sort_keys=True).encode())
        except (OSError, OutputError):
            return  # what was measured still holds for this run


def _time_in_turns(runs: Sequence[Callable[[], object]], threads: int) -> list[float]:
    """Return the seconds of the fastest call of each."""
    with FlushToZero(threads):
        return _fastest(runs)


def _fastest(runs: Sequence[Callable[[], object]]) -> list[float]:
    best = [float("inf")] * len(runs)
    for run in runs:
        run()
    for _ in range(ROUNDS):
        for index, run in enumerate(runs):
            end = time.perf_counter() + SECONDS
            while True:
                best[index] = min(best[index], cold(run))
                if time.perf_counter() >= end:
                    break
    return best
