"""Samples that noisy neighbours did not spoil.

A neighbour on the same core's other thread slows load-heavy code while a register-only loop looks
fine. So a short probe of multiply-adds on a small matrix must reach its calm speed before and after
each sample; otherwise the sample is taken again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np

PROBE = np.ones((64, 64), np.float32)
TOLERANCE = 1.15  # a probe this much slower than the calmest one rejects the sample
TRIES = 5  # attempts at one sample before it is taken as it is


class Gate:
    """Times functions in turns, each sample between two probes."""

    def __init__(self) -> None:
        self.calm = min(self._probe() for _ in range(200))
        self.rejected = 0

    def _probe(self) -> float:
        begin = time.perf_counter()
        for _ in range(4):
            PROBE @ PROBE
        return time.perf_counter() - begin

    def _quiet(self) -> bool:
        took = min(self._probe() for _ in range(3))
        self.calm = min(self.calm, took)
        return took <= TOLERANCE * self.calm

    def sample(self, run: Callable[[], object]) -> float:
        """Return the seconds of one undisturbed call."""
        for _ in range(TRIES):
            before = self._quiet()
            begin = time.perf_counter()
            run()
            took = time.perf_counter() - begin
            if before and self._quiet():
                return took
            self.rejected += 1
        return took

    def in_turns(
        self, candidates: Mapping[str, Callable[[], object]], samples: int = 15
    ) -> dict[str, float]:
        """Return the median milliseconds of each candidate, measured one after the other."""
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for run in candidates.values():
            run()
            run()
        for _ in range(samples):
            for name, run in candidates.items():
                times[name].append(self.sample(run))
        return {name: 1e3 * median(values) for name, values in times.items()}
