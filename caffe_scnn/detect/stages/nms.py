"""Detections: the windows of each class that score well and do not overlap better ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from caffe_scnn.detect.boxes import nms
from caffe_scnn.detect.frame import Found, Frame, no_boxes
from caffe_scnn.detect.stages.base import Part


@dataclass
class Nms:
    """Make detections of the scores; run again, thin out the detections.

    Parameters
    ----------
    threshold : float
        Least score.
    overlap : float
        A detection that overlaps a better one of its class by more goes.
    limit : int
        Detections of a class in a picture.
    """

    name: ClassVar[str] = "nms"
    part: ClassVar[Part] = Part.REST
    threshold: float = -1.5
    overlap: float = 0.3
    limit: int = 100

    def run(self, frame: Frame) -> None:
        """Fill ``found``, class by class, best first."""
        candidates = frame.found if frame.found is not None else self._candidates(frame)
        kept = [np.empty(0, np.intp)]
        for label in np.unique(candidates.labels):
            own = np.flatnonzero(candidates.labels == label)
            boxes, scores = candidates.boxes[own], candidates.scores[own]
            kept.append(own[nms(boxes, scores, self.overlap, self.limit)])
        frame.found = candidates.keep(np.concatenate(kept))

    def _candidates(self, frame: Frame) -> Found:
        if frame.scores is None or not len(frame.boxes):
            nothing = np.empty(0, np.intp)
            return Found(nothing, nothing, np.empty(0, np.float32), no_boxes())
        windows, labels = np.nonzero(frame.scores >= self.threshold)
        scores = frame.scores[windows, labels]
        return Found(labels, windows, scores, frame.boxes[windows])
