"""What every list of windows goes through: no window twice, none too small."""

from __future__ import annotations

import numpy as np

from caffe_scnn.detect.boxes import Boxes, heights, widths

MINIMUM_SIDE = 20
"""Pixels; what R-CNN, SPP-net and Selective Search's own code take in fast mode."""


def tidy(boxes: Boxes, minimum_side: float = MINIMUM_SIDE) -> Boxes:
    """Leave out windows that repeat another, and those that are too small.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
    minimum_side : float
        Of width and height in pixels; from 1 on, windows whose ends are the wrong way round go.

    Returns
    -------
    ndarray of shape (kept, 4), float32
        In the order given; of equal windows the first stays.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    boxes = boxes[(widths(boxes) >= minimum_side) & (heights(boxes) >= minimum_side)]
    _, first = np.unique(boxes, axis=0, return_index=True)
    kept: Boxes = boxes[np.sort(first)]
    return kept
