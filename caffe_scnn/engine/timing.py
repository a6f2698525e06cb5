"""Honest times of alternatives: warmed up, taken in turns, reported as median and minimum."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


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
