"""One block of memory for all values of a run: storages whose lives do not overlap share space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.engine.tensor import ALIGNMENT

# Kernels read whole vectors: up to this many floats behind the last value.
SLACK = 1024


@dataclass(eq=False)
class Storage:
    """A stretch of the arena that lives from step ``first`` to step ``last``."""

    size: int
    first: int
    last: int
    at: int = 0


def place(storages: list[Storage]) -> int:
    """Give every storage its place; return the floats needed.

    Largest first, each at the lowest place that is free for its whole life.
    """
    placed: list[Storage] = []
    end = 0
    for storage in sorted(storages, key=lambda s: -s.size):
        at = 0
        for other in sorted(placed, key=lambda s: s.at):
            alive = other.first <= storage.last and storage.first <= other.last
            if alive and at + storage.size > other.at and at < other.at + other.size:
                at = -(-(other.at + other.size) // ALIGNMENT) * ALIGNMENT
        storage.at = at
        placed.append(storage)
        end = max(end, at + storage.size)
    return end


def allocate(size: int) -> NDArray[np.float32]:
    """Return zeroed memory of ``size`` floats plus slack that begins on a cache line."""
    block = np.zeros(size + SLACK + ALIGNMENT, np.float32)
    offset = -(block.ctypes.data // 4) % ALIGNMENT
    return block[offset : offset + size + SLACK]
