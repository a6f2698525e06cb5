"""Samples that noisy neighbours did not spoil.

A neighbour on the same core's other thread slows load-heavy code while a register-only loop looks
fine. So a short probe of multiply-adds on a small matrix must reach its calm speed before and after
each sample; otherwise the sample is taken again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np

PROBE = np.ones((64, 64), np.float32)
TOLERANCE = 1.15  # a probe this much slower than the calmest one rejects the sample
LOAD = Path("/proc/loadavg")
TRIES = 5  # attempts at one sample before it is taken as it is


def room(cores: int) -> bool:
    """Whether this many cores are left by what else is running on this machine (Linux tells)."""
    try:
        running = int(LOAD.read_text().split()[3].split("/")[0])
    except OSError:
        return True
    return (os.cpu_count() or 1) - (running - 1) >= cores


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

    def quiet(self) -> bool:
        """Whether the machine reaches its calm speed right now."""
        took = min(self._probe() for _ in range(3))
        self.calm = min(self.calm, took)
        return took <= TOLERANCE * self.calm

    def wait(self, cores: int, seconds: float) -> bool:
        """Wait until the machine is quiet and has free cores; tell whether it came to that."""
        end = time.monotonic() + seconds
        while not (room(cores) and self.quiet()):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def sample(self, run: Callable[[], object]) -> float:
        """Return the seconds of one undisturbed call."""
        for _ in range(TRIES):
            before = self.quiet()
            begin = time.perf_counter()
            run()
            took = time.perf_counter() - begin
            if before and self.quiet():
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
