"""The first classifier of the cascade: linear, on few features, for all classes at once.

Outputs are one a class and one for "any object"; a window's score is the largest. They are fitted
by ridge regression to how well a window fits an object (its overlap, from half on), every class
with the same weight however rare it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.boxes import Boxes, heights, widths
from caffe_scnn.engine.tensor import Float32

Array = NDArray[np.float64]
SHAPE_FEATURES = 11


def shape_features(boxes: Boxes, picture: tuple[int, ...]) -> Float32:
    """Describe windows (n, 4) by their place and shape in a picture (H, W): (n, 11)."""
    height, width = picture[:2]
    w, h = widths(boxes) / width, heights(boxes) / height
    log_w, log_h = np.log(w), np.log(h)
    x, y = (boxes[:, 0] + boxes[:, 2]) / (2 * width), (boxes[:, 1] + boxes[:, 3]) / (2 * height)
    columns = [
        w, h, w * h, log_w, log_h, log_w * log_w, log_h * log_h, log_w * log_h,
        x * (1 - x), y * (1 - y), y,
    ]  # fmt: skip
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Rejector:
    """Linear scores of windows from their coarse features and their shape.

    Parameters
    ----------
    weights : float32 ndarray of shape (outputs, values + 11)
        For the coarse features and then for :func:`shape_features`.
    bias : float32 ndarray of shape (outputs,)
    """

    weights: Float32
    bias: Float32

    def score(self, coarse: Float32, boxes: Boxes, picture: tuple[int, ...]) -> Float32:
        """Score windows.

        Parameters
        ----------
        coarse : float32 ndarray of shape (n, values)
        boxes : ndarray of shape (n, 4)
        picture : tuple
            Its height and width.

        Returns
        -------
        ndarray of shape (n,)
        """
        values = coarse.shape[1]
        outputs = coarse @ self.weights[:, :values].T
        outputs += shape_features(boxes, picture) @ self.weights[:, values:].T
        best: Float32 = (outputs + self.bias).max(axis=1)
        return best


class RejectorFit:
    """Sums over windows from which the rejector is computed; a picture at a time.

    Parameters
    ----------
    values : int
        Coarse features of a window.
    classes : int
    """

    def __init__(self, values: int, classes: int) -> None:
        size = values + SHAPE_FEATURES + 1
        self.outputs = classes + 1
        # Rare windows that fit an object are summed apart from the rest, to be weighted later.
        self.products = np.zeros((2, size, size))
        self.responses = np.zeros((self.outputs, size))
        self.counts = np.zeros(2)

    def add(
        self, coarse: Float32, boxes: Boxes, picture: tuple[int, ...], overlaps: Float32
    ) -> None:
        """Add windows with their overlap (n, classes) with the best object of each class."""
        ones = np.ones((len(boxes), 1), np.float32)
        x = np.hstack([coarse, shape_features(boxes, picture), ones])
        fits = overlaps.max(axis=1, initial=0) >= 0.5
        for part, mask in enumerate((fits, ~fits)):
            chosen = x[mask]
            self.products[part] += chosen.T @ chosen
            self.counts[part] += mask.sum()
        wanted = np.where(overlaps >= 0.5, overlaps, 0)
        wanted = np.hstack([wanted, wanted.max(axis=1, keepdims=True, initial=0)])
        self.responses += wanted.T @ x

    def include(self, other: RejectorFit) -> None:
        """Add the windows of another fit."""
        self.products += other.products
        self.responses += other.responses
        self.counts += other.counts

    def solve(self, ridge: float = 3e-3, fit_weight: float = 0.8) -> Rejector:
        """Compute the rejector.

        Parameters
        ----------
        ridge : float
            Weight of ``‖w‖²`` relative to the mean square of the features.
        fit_weight : float
            Share of the windows that fit an object in the weighted sum.
        """
        share = np.array([fit_weight, 1 - fit_weight]) / np.maximum(self.counts, 1)
        products = np.tensordot(share, self.products, 1)
        products[np.diag_indices_from(products)] += ridge * np.trace(products) / len(products)
        found = np.linalg.solve(products, share[0] * self.responses.T).T.astype(np.float32)
        return Rejector(np.ascontiguousarray(found[:, :-1]), np.ascontiguousarray(found[:, -1]))
