"""How alike two nets answer: on the same images, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net

Scores = NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """Two nets' class scores compared.

    Attributes
    ----------
    images : int
    same_top1 : float
        Percent of the images for which both find the same class.
    divergence : float
        Mean over the images, see :func:`divergence`.
    """

    images: int
    same_top1: float
    divergence: float


def agreement(before: Scores, after: Scores, softmax: bool) -> Agreement:
    """Compare scores of the same images, (N, classes, …)."""
    first, second = (scores.reshape(len(scores), -1) for scores in (before, after))
    same = first.argmax(axis=1) == second.argmax(axis=1)
    return Agreement(len(first), 100 * float(same.mean()), divergence(before, after, softmax))


def divergence(before: Scores, after: Scores, softmax: bool) -> float:
    """Return how far answers moved, averaged over images.

    Parameters
    ----------
    before, after : ndarray of shape (N, …)
    softmax : bool
        They are probabilities over axis 1: the Kullback-Leibler divergence, summed over other
        axes. Otherwise the squared difference over the squared answer.
    """
    p, q = before.astype(np.float64), after.astype(np.float64)
    if softmax:
        tiny = np.finfo(np.float32).tiny
        return float((p * (np.log(p + tiny) - np.log(q + tiny))).sum() / len(p))
    return float(np.square(p - q).sum() / (np.square(p).sum() or 1.0))


def answer(net: Net) -> tuple[str, bool]:
    """Return the blob that says most of what a net answers, and whether a Softmax makes it.

    The first output that a Softmax makes; without one the first output.
    """
    graph = Graph(net)
    for blob in graph.outputs:
        if graph.producer(blob).type == "Softmax":
            return blob, True
    return graph.outputs[0], False
