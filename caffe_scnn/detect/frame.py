"""What flows through the stages of a detector: one picture, its windows, what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.detect.picture import Picture
from caffe_scnn.engine.tensor import Float32


def no_boxes() -> Boxes:
    """Return an array of no boxes."""
    return np.empty((0, 4))


@dataclass
class Found:
    """Detections of one picture.

    Attributes
    ----------
    labels : ndarray of shape (n,)
        Number of the class.
    windows : ndarray of shape (n,)
        Which of the frame's windows it comes from.
    scores : ndarray of shape (n,)
    boxes : ndarray of shape (n, 4)
    """

    labels: NDArray[np.intp]
    windows: NDArray[np.intp]
    scores: NDArray[np.floating[Any]]
    boxes: Boxes

    def __len__(self) -> int:
        """Count the detections."""
        return len(self.labels)

    def keep(self, kept: NDArray[Any]) -> Found:
        """Return some of the detections, by index or mask."""
        return Found(self.labels[kept], self.windows[kept], self.scores[kept], self.boxes[kept])


@dataclass
class Frame:
    """One picture on its way; a stage adds fields or drops windows, nothing else.

    Attributes
    ----------
    name : str
    picture : uint8 ndarray of shape (H, W, 3)
    boxes : ndarray of shape (windows, 4)
    maps : list of float32 ndarray
        Of each scale, (blocks, h, w, 16).
    features : dict of str to float32 ndarray of shape (windows, values)
        Valid until the detector's next picture.
    scores : float32 ndarray of shape (windows, classes), optional
    found : Found, optional
    """

    name: str
    picture: Picture
    boxes: Boxes = field(default_factory=no_boxes)
    maps: list[Float32] = field(default_factory=list)
    features: dict[str, Float32] = field(default_factory=dict)
    scores: Float32 | None = None
    found: Found | None = None

    @property
    def shorter(self) -> int:
        """Shorter side of the picture in pixels."""
        return int(min(self.picture.shape[:2]))

    def __len__(self) -> int:
        """Count the detections, or the windows before there are detections."""
        return len(self.boxes) if self.found is None else len(self.found)

    def keep(self, kept: NDArray[Any]) -> None:
        """Drop all windows but these, by index or mask."""
        self.boxes = self.boxes[kept]
        self.features = {name: values[kept] for name, values in self.features.items()}
        if self.scores is not None:
            self.scores = self.scores[kept]
