"""Which share of the windows must pass the rejection, measured on pictures it has not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.boxes import Boxes, nms
from caffe_scnn.detect.samples import TrainingPicture
from caffe_scnn.engine.tensor import Float32

FOUND_OVERLAP = 0.5


def best_first(
    boxes: Boxes, scores: Float32, different: float, limit: int | None = None
) -> NDArray[np.intp]:
    """Order windows by score, those that nearly equal a better one behind all others.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
    scores : ndarray of shape (n,)
    different : float
        Windows that overlap by more are nearly equal.
    limit : int, optional
        Only the first so many.

    Returns
    -------
    ndarray of shape (n,) or (limit,)
        Indices.
    """
    single = nms(boxes, scores, different, limit)
    copies = np.ones(len(boxes), bool)
    copies[single] = False
    order = np.argsort(-scores, kind="stable")
    return np.concatenate([single, order[copies[order]]])[:limit]


def found_shares(
    picture: TrainingPicture, scores: Float32, order: NDArray[np.intp], above: float
) -> NDArray[np.float64]:
    """Say for each object that the full model finds which share of windows must pass to keep it.

    Parameters
    ----------
    picture : TrainingPicture
    scores : float32 ndarray of shape (windows, classes)
        Of the full model.
    order : ndarray of shape (proposals,)
        Windows as the rejection orders them, objects left out.
    above : float
        A window finds an object when it scores higher.

    Returns
    -------
    ndarray of shape (found,)
        Place, from 1, of the first window that overlaps the object by half and finds it, over the
        number of windows. Objects without such a window, and difficult ones, are not counted.
    """
    shares = []
    for number, label in enumerate(picture.labels):
        hits = (
            (picture.nearest[order, label] == number)
            & (picture.overlaps[order, label] >= FOUND_OVERLAP)
            & (scores[order, label] > above)
        )
        if hits.any() and not picture.difficult[number]:
            shares.append((int(hits.argmax()) + 1) / len(order))
    return np.array(shares, np.float64)


def share_for(recall: float, shares: NDArray[np.float64]) -> float:
    """Return the least share of the windows that keeps a fraction of the objects found."""
    if not len(shares):
        return 1.0
    at = int(np.ceil(recall * len(shares) - 1e-9))
    return float(np.sort(shares)[max(at, 1) - 1])
