"""The first stage of the cascade: a cheap linear classifier that drops most windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.recall_target import best_first
from caffe_scnn.detect.rejector import Rejector
from caffe_scnn.detect.stages.base import Part
from caffe_scnn.detect.stages.spp_pool import COARSE

CANDIDATES = 4  # times the windows to keep: so many of the best are compared with each other


@dataclass
class Reject:
    """Keep the windows that look most like an object of any class.

    Parameters
    ----------
    rejector : Rejector
    keep : float, optional
        Windows of a picture that stay; up to 1: their share, but at least one.
    threshold : float, optional
        A window with a lower score goes.
    different : float
        Of windows that overlap by more, only the best stays, as long as others are left: near
        copies would fill the places of windows elsewhere. 1: copies stay.
    """

    name: ClassVar[str] = "reject"
    part: ClassVar[Part] = Part.REST
    rejector: Rejector
    keep: float | None = None
    threshold: float | None = None
    different: float = 0.9

    def run(self, frame: Frame) -> None:
        """Drop windows; those that stay keep their order."""
        scores = self.rejector.score(frame.features.pop(COARSE), frame.boxes, frame.picture.shape)
        order = np.argsort(-scores, kind="stable")
        if self.threshold is not None:
            order = order[scores[order] >= self.threshold]
        if self.keep is not None and len(order):
            keep = allowed(self.keep, len(scores))
            order = order[: CANDIDATES * keep]
            order = order[best_first(frame.boxes[order], scores[order], self.different, keep)]
        frame.keep(np.sort(order))


def allowed(keep: float, windows: int) -> int:
    """Return how many of a picture's windows may pass: a number, or up to 1 a share of them."""
    return int(keep) if keep > 1 else max(1, int(keep * windows + 1e-9))
