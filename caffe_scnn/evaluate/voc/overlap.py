"""How much boxes overlap, in VOC's measure: the one place that knows its ``+ 1``.

A VOC box is ``x1 y1 x2 y2``: its first and its last pixel, both inside, counted from 1. A box from
column 3 to column 3 is one pixel wide, hence the ``+ 1``; fractions are allowed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating[Any]]
FloatArray = NDArray[np.floating[Any]]

PIXEL = 1  # from the first to the last pixel of a box it is one less than there are pixels


def widths(boxes: Boxes) -> FloatArray:
    """Return the widths in pixels; not positive for a box whose ends are the wrong way round.

    Parameters
    ----------
    boxes : ndarray of shape (..., 4)

    Returns
    -------
    ndarray of shape (...)
    """
    sides: FloatArray = boxes[..., 2] - boxes[..., 0] + PIXEL
    return sides


def heights(boxes: Boxes) -> FloatArray:
    """Return the heights in pixels, as :func:`widths` does the widths."""
    sides: FloatArray = boxes[..., 3] - boxes[..., 1] + PIXEL
    return sides


def areas(boxes: Boxes) -> FloatArray:
    """Return the areas in pixels: width times height.

    Parameters
    ----------
    boxes : ndarray of shape (..., 4)

    Returns
    -------
    ndarray of shape (...)
    """
    return widths(boxes) * heights(boxes)


def overlap(first: Boxes, second: Boxes) -> FloatArray:
    """Return the intersection over the union of pairs of boxes.

    Parameters
    ----------
    first, second : ndarray of shape (..., 4)
        The shapes before the last axis are broadcast.

    Returns
    -------
    ndarray of shape (...)
        From 0 to 1; 0 wherever nothing is shared, also for boxes without an area.

    Notes
    -----
    The order of operations is that of VOCevaldet.m and of py-faster-rcnn's ``voc_eval``, so that a
    pair at exactly 0.5 stays there.
    """
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    shared = np.maximum(width + PIXEL, 0) * np.maximum(height + PIXEL, 0)
    union = areas(first) + areas(second) - shared
    # float32 boxes give float32, whole numbers float64
    result: FloatArray = np.zeros(np.shape(shared), np.result_type(shared, np.float32))
    np.divide(shared, union, out=result, where=shared > 0)
    return result


def overlaps(boxes: Boxes, others: Boxes) -> FloatArray:
    """Return the intersection over the union of every box with every other.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
    others : ndarray of shape (m, 4)

    Returns
    -------
    ndarray of shape (n, m)
    """
    return overlap(boxes[:, None], others[None])
