"""Average precision of one class, as VOC 2007 and as later years define it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from caffe_scnn.evaluate.voc.match import Flags, Floats, Indices, Rules

Counts = Flags | Indices


@dataclass(frozen=True)
class Curve:
    """Recall and precision as detections are added by falling score.

    Attributes
    ----------
    hits : ndarray of shape (n,)
        Hits so far.
    recall, precision : ndarray of shape (n,)
        Fractions. Where nothing has counted yet the precision is 0; VOCevaldet.m has NaN there,
        which its maxima pass over.
    objects : int
        Number of objects to be found, at least 1.
    """

    hits: Indices
    recall: Floats
    precision: Floats
    objects: int

    @classmethod
    def of(cls, hits: Counts, false_alarms: Counts, objects: int) -> Curve:
        """Add up hits and false alarms.

        Parameters
        ----------
        hits, false_alarms : ndarray of shape (n,), bool or int
            How often each detection counts as one, by falling score.
        objects : int
        """
        so_far = np.cumsum(hits, dtype=np.intp)
        counted = so_far + np.cumsum(false_alarms, dtype=np.intp)
        return cls(so_far, so_far / objects, so_far / np.maximum(counted, 1), objects)


def eleven_point(curve: Curve, rules: Rules) -> float:
    """Return the mean, over the recalls 0, 0.1, … 1, of the best precision at or beyond each.

    The measure of VOC 2007 to 2009 (VOCevaldet.m of 2007); a recall never reached counts as 0.
    """
    reached = rules.recall_levels(curve.hits, curve.objects)
    best = np.where(reached, curve.precision, 0.0).max(axis=1, initial=0.0)
    return float(np.add.reduce(best / 11.0))


def area(curve: Curve, rules: Rules) -> float:
    """Return the area under the curve whose precision is the best at or beyond each recall.

    The measure since VOC 2010 (VOCevaldet.m of 2010); both sets of rules share it.
    """
    recall = np.concatenate([[0.0], curve.recall, [1.0]])
    precision = np.concatenate([[0.0], curve.precision, [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(np.diff(recall))
    return float(np.sum((recall[steps + 1] - recall[steps]) * envelope[steps + 1]))


METRICS: dict[str, Callable[[Curve, Rules], float]] = {"voc07": eleven_point, "area": area}


def usual_metric(year: int) -> str:
    """Return the metric a year's challenge was judged by."""
    return "voc07" if year < 2010 else "area"
