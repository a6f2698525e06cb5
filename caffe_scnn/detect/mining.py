"""Which windows the classifiers learn from: objects, chance negatives, then hard ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.boxes import nms
from caffe_scnn.detect.features import References
from caffe_scnn.detect.samples import TrainingPicture
from caffe_scnn.engine.tensor import Float32


@dataclass(frozen=True)
class MiningSettings:
    """How negatives are chosen.

    Parameters
    ----------
    negative : float
        Windows that overlap every object of a class by less are its negatives.
    chance : int
        Windows of each picture, far from any object, to begin with.
    passes : int
        Times that all pictures are searched for hard negatives.
    hard : int
        Hard negatives of each class that a pass adds, the worst first.
    per_picture : int
        Of one class from one picture.
    margin : float
        A negative is hard when it scores above; beyond −1 its loss is not zero.
    different : float
        Of hard negatives in one picture that overlap by more, only the worst is taken.
    """

    negative: float = 0.3
    chance: int = 3
    passes: int = 2
    hard: int = 200
    per_picture: int = 5
    margin: float = -1.0001
    different: float = 0.7


def first_samples(
    pictures: Iterable[TrainingPicture], settings: MiningSettings, seed: int
) -> References:
    """Choose all objects, and in every picture some windows far from all of them."""
    random = np.random.default_rng(seed)
    chosen: list[tuple[int, int]] = []
    for index, picture in enumerate(pictures):
        far = np.flatnonzero(picture.overlaps.max(axis=1) < settings.negative)
        chance = np.sort(random.permutation(far)[: settings.chance])
        chosen += [(index, int(window)) for window in (*range(len(picture.labels)), *chance)]
    return np.array(chosen, np.int64).reshape(-1, 2)


def hard_samples(
    pictures: Iterable[TrainingPicture],
    known: References,
    score: Callable[[int], Float32],
    settings: MiningSettings,
) -> References:
    """Choose negatives that score like objects, and were not chosen before.

    Parameters
    ----------
    pictures : iterable of TrainingPicture
    known : ndarray of shape (n, 2)
        What is learnt from already.
    score : callable
        From a picture's number to the scores (windows, classes).
    settings : MiningSettings

    Returns
    -------
    ndarray of shape (n, 2)
        Ordered by picture and window.
    """
    taken = set(map(tuple, known.tolist()))
    worst: dict[int, list[tuple[float, int, int]]] = {}
    for index, picture in enumerate(pictures):
        scores = score(index)
        for label in range(scores.shape[1]):
            found = worst.setdefault(label, [])
            for window in _hard(picture, scores[:, label], label, settings):
                if (index, int(window)) not in taken:
                    found.append((-float(scores[window, label]), index, int(window)))
    chosen = {(i, w) for found in worst.values() for _, i, w in sorted(found)[: settings.hard]}
    return np.array(sorted(chosen), np.int64).reshape(-1, 2)


def _hard(
    picture: TrainingPicture, scores: Float32, label: int, settings: MiningSettings
) -> NDArray[np.intp]:
    hard = np.flatnonzero(
        (scores > settings.margin) & (picture.overlaps[:, label] < settings.negative)
    )
    best = nms(picture.windows[hard], scores[hard], settings.different, settings.per_picture)
    return hard[best]
