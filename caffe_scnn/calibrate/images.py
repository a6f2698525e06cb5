"""Images to calibrate on: read again whenever they are needed, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import ModelError

Values = NDArray[np.float32]

# Prepared images are kept up to this many bytes; beyond it they are read again for every layer.
KEPT_BYTES = 512 * 2**20


class Images:
    """Images for the one input of a net.

    Parameters
    ----------
    items : sequence or ndarray
        Files, or pixels (N, …): whatever ``prepare`` takes slices of.
    prepare : callable
        Turns a slice of ``items`` into net input, float32 (n, …).
    batch : int
        Images that go through a net together.

    Raises
    ------
    ModelError
        There are no images.
    """

    def __init__(
        self,
        items: Sequence[Any] | NDArray[Any],
        prepare: Callable[[Any], Values] = np.asarray,
        batch: int = 8,
    ) -> None:
        if not len(items):
            raise ModelError("there are no images to calibrate on")
        self._items = items
        self._prepare = prepare
        self._size = batch
        self._kept: dict[int, Values] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self._items)

    def batches(self) -> Iterator[tuple[int, Values]]:
        """Yield ``(index of the first image, values)`` in order."""
        for start in range(0, len(self._items), self._size):
            yield start, self._batch(start)

    def _batch(self, start: int) -> Values:
        if start in self._kept:
            return self._kept[start]
        values = np.asarray(self._prepare(self._items[start : start + self._size]), np.float32)
        if values.nbytes <= self._room:
            self._room -= values.nbytes
            self._kept[start] = values
        return values

    def pick(self, count: int, seed: int) -> Images:
        """Return ``count`` of the images, in their order; all of them if there are not more."""
        if count >= len(self):
            return self
        return self._chosen(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))

    def halves(self) -> tuple[Images, Images]:
        """Return every other image, and the rest; one image alone is both halves."""
        at = np.arange(len(self))
        return self._chosen(at[::2]), self._chosen(at[1::2] if len(at) > 1 else at)

    def _chosen(self, at: NDArray[np.int64]) -> Images:
        items = self._items
        few = items[at] if isinstance(items, np.ndarray) else [items[i] for i in at]
        return Images(few, self._prepare, self._size)
