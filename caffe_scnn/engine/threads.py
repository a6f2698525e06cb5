"""How many threads a run uses: the one place where the request and the machine meet."""

from __future__ import annotations

import os

from caffe_scnn import _kernels
from caffe_scnn.errors import KernelError

# Below this many multiply-accumulates (some 20 µs) a parallel region costs more than it saves.
SERIAL_WORK = 1_500_000
MOVED = 16  # a value that is only read and written takes as long as so many of them


def resolve_threads(threads: int | None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    threads : int, optional
        The wish; None asks for all processors this process may run on.

    Raises
    ------
    KernelError
        Fewer than one thread.
    """
    if threads is not None and threads < 1:
        raise KernelError(f"{threads} threads: at least one is needed")
    available = min(_kernels.processors(), len(os.sched_getaffinity(0)))
    if not _kernels.openmp():
        return 1
    return available if threads is None else threads


def threads_for(work: int, threads: int) -> int:
    """Return 1 for work (in multiply-accumulates) too small to share, else ``threads``."""
    return 1 if work < SERIAL_WORK else threads
