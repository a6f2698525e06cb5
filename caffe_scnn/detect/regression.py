"""Bounding-box regression: from a window that nearly fits to the box of the object.

R-CNN's ridge regression (Girshick et al. 2014, appendix C) with SPP-net's constants: targets
``(Δx/w, Δy/h, log w ratio, log h ratio)`` from windows that overlap an object of the class. Widths
are ``x2 − x1`` here, without the + 1 of overlaps, as in the authors' code. Their whitening of the
targets is left out: a ridge regression of linearly transformed targets, transformed back, is the
same regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.engine.tensor import Float32

Array = NDArray[np.float64]
EPSILON = float(np.finfo(np.float64).eps)
LARGEST_GROWTH = np.log(8.0)  # a box grows or shrinks by no more: guards against odd features


@dataclass(frozen=True)
class BoxRegression:
    """One linear map a class.

    Parameters
    ----------
    weights : float32 ndarray of shape (classes, 4, values)
        Zeros leave the boxes of a class as they are.
    bias : float32 ndarray of shape (classes, 4)
    """

    weights: Float32
    bias: Float32

    def apply(
        self,
        features: Float32,
        windows: NDArray[np.intp],
        labels: NDArray[np.intp],
        boxes: Boxes,
    ) -> Boxes:
        """Move and resize boxes.

        Parameters
        ----------
        features : float32 ndarray of shape (windows, values)
        windows, labels : ndarray of shape (n,)
            Row of ``features`` and class of each box.
        boxes : ndarray of shape (n, 4)

        Returns
        -------
        ndarray of shape (n, 4)
        """
        change = np.empty((len(boxes), 4))
        for label in np.unique(labels):
            own = labels == label
            change[own] = features[windows[own]] @ self.weights[label].T + self.bias[label]
        return moved(boxes, change)


def moved(boxes: Boxes, change: Array) -> Boxes:
    """Apply changes (n, 4) of centre and size to boxes."""
    size = boxes[:, 2:] - boxes[:, :2] + EPSILON
    centre = boxes[:, :2] + 0.5 * size + change[:, :2] * size
    grown = size * np.exp(np.clip(change[:, 2:], -LARGEST_GROWTH, LARGEST_GROWTH))
    return np.hstack([centre - 0.5 * grown, centre + 0.5 * grown])


def changes(boxes: Boxes, objects: Boxes) -> Array:
    """Return the changes (n, 4) that turn boxes into objects; the inverse of :func:`moved`."""
    size, wanted = (b[:, 2:] - b[:, :2] + EPSILON for b in (boxes, objects))
    shift = objects[:, :2] + 0.5 * wanted - boxes[:, :2] - 0.5 * size
    return np.hstack([shift / size, np.log(wanted / size)])


def train_regression(
    features: Float32, boxes: Boxes, objects: Boxes, ridge: float
) -> tuple[Float32, Float32]:
    """Fit the regression of one class.

    Parameters
    ----------
    features : float32 ndarray of shape (n, values)
        Scaled to a mean norm of 20, for which ``ridge`` is meant.
    boxes, objects : ndarray of shape (n, 4)
        The windows, and the objects they overlap.
    ridge : float
        Weight of ``‖w‖²`` against the squared errors; SPP-net uses 4000 and R-CNN 1000.

    Returns
    -------
    weights : float32 ndarray of shape (4, values)
    bias : float32 ndarray of shape (4,)
    """
    targets = changes(boxes, objects)
    mean = targets.mean(axis=0)
    # The dual form: samples are fewer than values. The constant feature 1 is the + 1.
    products = (features @ features.T).astype(np.float64) + 1
    products[np.diag_indices_from(products)] += ridge
    dual = np.linalg.solve(products, targets - mean)
    weights = dual.T.astype(np.float32) @ features
    return weights, (dual.sum(axis=0) + mean).astype(np.float32)
