"""How many threads a run uses: the one place where the request and the machine meet."""

from __future__ import annotations

import os

from caffe_scnn import _kernels
from caffe_scnn.errors import KernelError

# OpenMP ends the process where the system has no more threads.
MOST_THREADS = 1024

# Below this many cycles (some 3 µs) a parallel region costs more than it saves.
SERIAL_CYCLES = 12_000
# Below so many (some 0.2 ms) a whole net gains a third at most by a second thread, and where other
# programs use the processors it waits for it many times as long as it runs.
SERIAL_NET_CYCLES = 600_000
# Cycles of one dense multiply-accumulate, of a value that is only read and written, and of a
# weight that is read once from memory.
MULTIPLY_ADD, MOVED, STREAMED = 1 / 30, 1 / 2, 3 / 4


def resolve_threads(threads: int | None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    threads : int, optional
        The wish; None asks for all processors this process may run on.

    Raises
    ------
    KernelError
        Fewer than one thread, or so many that a system may not have them.
    """
    if threads is not None and threads < 1:
        raise KernelError(f"{threads} threads: at least one is needed")
    if threads is not None and threads > MOST_THREADS:
        raise KernelError(f"{threads} threads: at most {MOST_THREADS} can be asked for")
    available = min(_kernels.processors(), len(os.sched_getaffinity(0)))
    if not _kernels.openmp():
        return 1
    return available if threads is None else threads


def threads_by_default(cycles: float, threads: int) -> int:
    """Return 1 for a whole net that takes few cycles of one thread, else ``threads``."""
    return 1 if cycles < SERIAL_NET_CYCLES else threads


def threads_for(cycles: float, threads: int) -> int:
    """Return 1 for work (in cycles of one thread) too small to share, else ``threads``."""
    return 1 if cycles < SERIAL_CYCLES else threads
