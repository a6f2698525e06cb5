"""Windows on a regular grid, of several sizes and shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.detect.picture import Picture
from caffe_scnn.detect.proposals.tidy import MINIMUM_SIDE, tidy


@dataclass(frozen=True)
class SlidingWindows:
    """Windows on a regular grid.

    Parameters
    ----------
    scales : tuple of float
        Square root of a window's area, as a fraction of the picture's.
    ratios : tuple of float
        Width over height.
    step : float
        From one window to the next, as a fraction of its side.
    minimum_side : float
        Smaller windows are left out.
    """

    scales: tuple[float, ...] = (0.15, 0.25, 0.4, 0.6, 0.85)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    step: float = 0.25
    minimum_side: float = MINIMUM_SIDE

    @property
    def fingerprint(self) -> str:
        """What the windows depend on besides the picture's size."""
        return str(self)

    def boxes(self, image: str, picture: Picture) -> Boxes:
        """Return the windows of a picture, sizes from small to large, each row by row.

        Parameters
        ----------
        image : str
            Not used.
        picture : ndarray of shape (H, W, 3), uint8
            Only its size matters.

        Returns
        -------
        ndarray of shape (n, 4), float32
        """
        height, width = picture.shape[:2]
        grids = [
            self._grid(scale * np.sqrt(ratio), scale / np.sqrt(ratio), width, height)
            for scale in self.scales
            for ratio in self.ratios
        ]
        return tidy(np.concatenate(grids), self.minimum_side)

    def _grid(self, wide: float, high: float, width: int, height: int) -> Boxes:
        length = np.sqrt(width * height)
        window_width = max(1, min(width, round(wide * length)))
        window_height = max(1, min(height, round(high * length)))
        left = _places(width, window_width, self.step)
        top = _places(height, window_height, self.step)
        x, y = (axis.ravel() for axis in np.meshgrid(left, top))
        return np.stack([x, y, x + window_width - 1, y + window_height - 1], axis=1)


def _places(length: int, window: int, step: float) -> np.ndarray:
    """First pixels of windows that cover a side from end to end, evenly spread, from 1."""
    count = int(np.ceil((length - window) / max(1.0, step * window))) + 1
    return np.floor(np.linspace(1, length - window + 1, count))
