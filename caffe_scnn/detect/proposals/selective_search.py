"""Selective Search (Uijlings et al., IJCV 2013) by OpenCV's contributed modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.detect.picture import Picture
from caffe_scnn.detect.proposals.tidy import MINIMUM_SIDE, tidy

SMALLEST_PICTURE = 2  # pixels a side; OpenCV divides by the number of regions less one


@dataclass(frozen=True)
class SelectiveSearch:
    """Windows around the regions that segmentation and greedy merging find.

    Parameters
    ----------
    mode : {"fast", "quality"}
        About 1100 windows of a VOC picture in a second or two, or four times as many in as much
        more time.
    minimum_side : float
        Smaller windows are left out.
    """

    mode: Literal["fast", "quality"] = "fast"
    minimum_side: float = MINIMUM_SIDE

    @property
    def fingerprint(self) -> str:
        """What the windows depend on besides the picture."""
        import cv2

        return f"{self} OpenCV {cv2.__version__}"

    def boxes(self, image: str, picture: Picture) -> Boxes:
        """Return the windows of a picture.

        Parameters
        ----------
        image : str
            Not used.
        picture : ndarray of shape (H, W, 3), uint8

        Returns
        -------
        ndarray of shape (n, 4), float32
            Sorted by their corners: OpenCV orders them by a random number (C's ``rand``), which
            would make no two runs the same.
        """
        import cv2

        if min(picture.shape[:2]) < SMALLEST_PICTURE:
            return np.zeros((0, 4), np.float32)
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(picture)
        if self.mode == "fast":
            search.switchToSelectiveSearchFast()
        else:
            search.switchToSelectiveSearchQuality()
        found = np.asarray(search.process(), np.float32).reshape(-1, 4)  # x y width height, from 0
        corners = np.concatenate([found[:, :2] + 1, found[:, :2] + found[:, 2:]], axis=1)
        return tidy(np.unique(corners, axis=0), self.minimum_side)
