"""Honest times of alternatives: warmed up, taken in turns, reported as median and minimum."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import median

import numpy as np
from numpy.typing import NDArray

# Bytes that are read before a cold run.
FAR = 4 << 20


@dataclass(frozen=True)
class Timing:
    """Milliseconds of every repetition, in order."""

    times_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The middle one: what to expect."""
        return median(self.times_ms)

    @property
    def min_ms(self) -> float:
        """The least disturbed one."""
        return min(self.times_ms)


def alternate(
    candidates: Mapping[str, Callable[[], object]], repeat: int = 10, warmup: int = 2
) -> dict[str, Timing]:
    """Time candidates in turns (A B A B …), so that a busy moment hits all of them alike.

    Parameters
    ----------
    candidates : mapping
        Name → what to run.
    repeat : int
        Timed rounds.
    warmup : int
        Rounds before them that are not timed: plans, caches, threads.

    Returns
    -------
    dict
        Name → :class:`Timing` of ``repeat`` entries.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(-warmup, repeat):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - started))
    return {name: Timing(tuple(values)) for name, values in times.items()}


def cold(run: Callable[[], object]) -> float:
    """Return the seconds of one run as in a net, where what ran since left nothing of it near.

    Neither weights, maps nor code are in the first two levels of the cache.
    """
    _far().sum()
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


@cache
def _far() -> NDArray[np.float32]:
    return np.ones(FAR // 4, np.float32)
