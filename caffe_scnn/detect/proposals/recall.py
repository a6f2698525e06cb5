"""How many objects a list of windows covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.boxes import Boxes, overlaps
from caffe_scnn.evaluate.voc import Annotation
from caffe_scnn.evaluate.voc.classes import same_class


@dataclass(frozen=True)
class Coverage:
    """How well windows cover the objects of an image set that are not difficult.

    Attributes
    ----------
    classes : tuple of str
        The class of each object.
    best : ndarray of shape (objects,)
        Each object's greatest overlap with a window of its image.
    images, windows : int
    """

    classes: tuple[str, ...]
    best: NDArray[np.float64]
    images: int
    windows: int

    @classmethod
    def of(cls, annotations: Sequence[Annotation], proposals: Mapping[str, Boxes]) -> Coverage:
        """Compare objects with windows.

        Parameters
        ----------
        annotations : sequence of Annotation
        proposals : mapping
            Image id → boxes, for every annotation.
        """
        classes: list[str] = []
        best: list[float] = []
        for annotation in annotations:
            objects = [item for item in annotation.objects if not item.difficult]
            windows = np.asarray(proposals[annotation.image], np.float64)
            boxes = np.array([item.box for item in objects]).reshape(-1, 4)
            classes += [same_class(item.name) for item in objects]
            best += overlaps(boxes, windows).max(axis=1, initial=0.0).tolist()
        total = sum(len(proposals[annotation.image]) for annotation in annotations)
        return cls(tuple(classes), np.array(best), len(annotations), total)

    def recall(self, minimum: float) -> float:
        """Return the part of the objects that some window overlaps by at least ``minimum``."""
        return float(np.mean(self.best >= minimum))

    @property
    def mean_best_overlap(self) -> float:
        """The mean, over the objects, of the greatest overlap with a window."""
        return float(np.mean(self.best))

    def of_class(self, name: str) -> Coverage:
        """Return the coverage of one class's objects."""
        own = [index for index, other in enumerate(self.classes) if other == same_class(name)]
        return Coverage((same_class(name),) * len(own), self.best[own], self.images, self.windows)
