"""Which detections are hits: VOC's assignment of detections to objects, under two sets of rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.evaluate.voc.overlap import overlap

Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Rules:
    """Where two well-known evaluators differ.

    Attributes
    ----------
    name : str
    enough : callable
        ``enough(overlaps, minimum)``: which overlaps make a hit.
    recall_levels : callable
        ``recall_levels(hits, objects)`` → ndarray of shape (11, n): at which detections the recall
        has reached 0, 0.1, … 1.
    """

    name: str
    enough: Callable[[Floats, float], Flags]
    recall_levels: Callable[[Indices, int], Flags]


def _exact_levels(hits: Indices, objects: int) -> Flags:
    return 10 * hits >= np.arange(11)[:, None] * objects


def _float_levels(hits: Indices, objects: int) -> Flags:
    return hits / float(objects) >= np.arange(0.0, 1.1, 0.1)[:, None]


# VOCevaldet.m takes an overlap of exactly the minimum; py-faster-rcnn's voc_eval.py does not. The
# latter's levels are floats, of which 0.3, 0.6 and 0.7 lie above those numbers: a recall of exactly
# 0.3 does not reach its level. MATLAB's 0:0.1:1 has like traps; integers have none.
RULES = {
    rules.name: rules
    for rules in (
        Rules("devkit", np.greater_equal, _exact_levels),
        Rules("py-faster-rcnn", np.greater, _float_levels),
    )
}


@dataclass(frozen=True)
class Truths:
    """The objects of one class in the images of a set.

    Attributes
    ----------
    images : ndarray of shape (m,)
        Index of each object's image, not falling.
    boxes : ndarray of shape (m, 4)
    difficult : ndarray of shape (m,), bool
    """

    images: Indices
    boxes: Floats
    difficult: Flags

    @property
    def positives(self) -> int:
        """Number of objects to be found: those that are not difficult."""
        return int(np.count_nonzero(~self.difficult))


@dataclass(frozen=True)
class Matches:
    """The detections of one class by falling score, each a hit, a false alarm, or neither.

    Attributes
    ----------
    scores : ndarray of shape (n,)
    images : ndarray of shape (n,)
    hits, false_alarms : ndarray of shape (n,), bool
        Both false: it found a difficult object, and does not count.
    positives : int
        Number of objects to be found.
    """

    scores: Floats
    images: Indices
    hits: Flags
    false_alarms: Flags
    positives: int


def match(
    images: Indices, scores: Floats, boxes: Floats, truths: Truths, rules: Rules, minimum: float
) -> Matches:
    """Assign the detections of a class to its objects.

    Each detection belongs to the object of its image that it overlaps most (the first of equals),
    be that difficult or already found; there is no second choice. If the overlap is enough, the
    best detection of an object is a hit and the others are false alarms; those of a difficult
    object are neither. Of equal scores the detection that comes first counts as better, as in
    MATLAB's stable sort.

    Parameters
    ----------
    images : ndarray of shape (n,)
        Index of each detection's image.
    scores : ndarray of shape (n,)
    boxes : ndarray of shape (n, 4)
    truths : Truths
    rules : Rules
    minimum : float
        The overlap that makes a hit; VOC's is 0.5.
    """
    order = np.argsort(-scores, kind="stable")
    images, boxes = images[order], boxes[order]
    most, best = _most_overlapped(images, boxes, truths)
    found = (best >= 0) & rules.enough(most, minimum)
    difficult = np.zeros(len(found), np.bool_)
    difficult[found] = truths.difficult[best[found]]
    counted = np.flatnonzero(found & ~difficult)
    _, first = np.unique(best[counted], return_index=True)
    hits = np.zeros(len(found), np.bool_)
    hits[counted[first]] = True
    return Matches(scores[order], images, hits, ~hits & ~(found & difficult), truths.positives)


def _most_overlapped(images: Indices, boxes: Floats, truths: Truths) -> tuple[Floats, Indices]:
    """Return for each detection its greatest overlap and the object it is with (-1: none)."""
    first = np.searchsorted(truths.images, images, "left")
    count = np.searchsorted(truths.images, images, "right") - first
    some = np.flatnonzero(count)
    most, best = np.zeros(len(images)), np.full(len(images), -1, np.intp)
    if not some.size:
        return most, best
    # One long row of pairs: the objects of the first detection's image, of the second's, …
    count, first = count[some], first[some]
    start = np.cumsum(count) - count
    objects = np.arange(count.sum()) + np.repeat(first - start, count)
    pairs = overlap(boxes[np.repeat(some, count)], truths.boxes[objects])
    most[some] = np.maximum.reduceat(pairs, start)
    equal = np.flatnonzero(pairs == np.repeat(most[some], count))
    best[some] = objects[equal[np.searchsorted(equal, start)]]
    return most, best
