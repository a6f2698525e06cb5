"""Images in batches: in an order that the seed gives, prepared by threads ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.finetune.data.augment import Augmentation
from caffe_scnn.finetune.data.sources import Source
from caffe_scnn.preprocess import Transformer

Batch = tuple[NDArray[np.float32], NDArray[np.int64] | None]

AHEAD = 2  # batches prepared before they are asked for


@dataclass(frozen=True, eq=False)
class Loader:
    """Batches of a source.

    Attributes
    ----------
    source : Source
    transformer : Transformer
        Makes input of pixels.
    batch : int
        Images of a batch, of all processes together.
    augmentation : Augmentation, optional
        None: images as they are, in their order.
    seed : int
        Of the order and of the augmentation. An image is changed by its number, the epoch and the
        seed, whichever thread or process prepares it.
    workers : int
        Threads; 0 prepares a batch when it is asked for.
    rank, world : int
        This process takes every ``world``-th image of a batch, from ``rank`` on.
    """

    source: Source
    transformer: Transformer
    batch: int
    augmentation: Augmentation | None = None
    seed: int = 0
    workers: int = 0
    rank: int = 0
    world: int = 1

    @property
    def batches(self) -> int:
        """Batches of an epoch; training leaves an incomplete last one out if there are others."""
        count = len(self.source)
        if self.augmentation is None:
            return -(-count // self.batch)
        return max(1, count // self.batch)

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from the ``skip``-th on."""
        parts = [self._part(number, index) for index in range(skip, self.batches)]
        if not self.workers:
            yield from (
                self._prepared([self._one(number, i) for i in part], part) for part in parts
            )
            return
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: deque[tuple[list[Future[NDArray[np.float32]]], NDArray[np.int64]]] = deque()
            for part in parts:
                waiting.append(([pool.submit(self._one, number, i) for i in part], part))
                if len(waiting) > AHEAD:
                    yield self._collected(*waiting.popleft())
            while waiting:
                yield self._collected(*waiting.popleft())

    def _part(self, epoch: int, index: int) -> NDArray[np.int64]:
        order = np.arange(len(self.source))
        if self.augmentation is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        whole = order[index * self.batch : (index + 1) * self.batch]
        return whole[self.rank :: self.world]

    def _one(self, epoch: int, index: int) -> NDArray[np.float32]:
        pixels = self.source.read(int(index))
        if self.augmentation is None:
            return self.transformer.values(self.transformer.resized(pixels))
        chance = np.random.default_rng((self.seed, epoch, int(index)))
        return self.augmentation(pixels, self.transformer, chance)

    def _collected(
        self, futures: list[Future[NDArray[np.float32]]], part: NDArray[np.int64]
    ) -> Batch:
        return self._prepared([future.result() for future in futures], part)

    def _prepared(self, images: list[NDArray[np.float32]], part: NDArray[np.int64]) -> Batch:
        labels = self.source.labels
        return np.stack(images), None if labels is None else labels[part]
