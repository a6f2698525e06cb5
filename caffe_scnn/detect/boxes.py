"""Boxes of detection: clipping and non-maximum suppression.

Everywhere in this package a box is VOC's: ``x1 y1 x2 y2``, first and last pixel, both inside,
counted from 1. Files that count from 0 are converted where they are read or written. Overlap and
area are :mod:`caffe_scnn.evaluate.voc.overlap`'s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.evaluate.voc.overlap import Boxes, areas, heights, overlap, overlaps, widths

__all__ = ["Boxes", "areas", "clip", "heights", "nms", "overlap", "overlaps", "widths"]

_BLOCK = 64  # boxes compared at a time: fewer, longer vector operations, without the whole matrix


def clip(boxes: Boxes, width: int, height: int) -> Boxes:
    """Move the ends of boxes that lie outside a picture to its border.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
    width, height : int
        Size of the picture in pixels.

    Returns
    -------
    ndarray of shape (n, 4)
        Every coordinate in [1, width] or [1, height].
    """
    limits = np.array([width, height, width, height], boxes.dtype)
    clipped: Boxes = np.clip(boxes, 1, limits)
    return clipped


def nms(
    boxes: Boxes,
    scores: NDArray[np.floating[Any]],
    threshold: float = 0.3,
    limit: int | None = None,
) -> NDArray[np.intp]:
    """Choose boxes, best first, leaving out those that overlap a better one that was chosen.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
    scores : ndarray of shape (n,)
        Of equal scores the box that comes first counts as the better one.
    threshold : float
        A box goes when its intersection over union with a chosen one is *greater*; R-CNN, SPP-net
        and Fast R-CNN use 0.3.
    limit : int, optional
        Stop after so many boxes.

    Returns
    -------
    ndarray of shape (chosen,)
        Indices into ``boxes``, by falling score.
    """
    order = np.argsort(-scores, kind="stable")
    chosen: list[np.intp] = []
    while order.size and (limit is None or len(chosen) < limit):
        block, order = order[:_BLOCK], order[_BLOCK:]
        near = overlaps(boxes[block], boxes[block]) > threshold
        free = np.ones(len(block), np.bool_)
        kept = []
        for index in range(len(block)):
            if free[index]:
                kept.append(index)
                free &= ~near[index]
        chosen += block[kept].tolist()
        far = overlaps(boxes[block[kept]], boxes[order]) <= threshold
        order = order[far.all(axis=0)]
    return np.array(chosen[:limit], np.intp)
