"""Linear SVMs, one class against the rest, for few samples of many values.

A pooled window has tens of thousands of values, and a training set some thousands of windows: the
dual problem on the matrix of scalar products is by far the smaller one, and all classes share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.engine.tensor import Float32

Targets = NDArray[np.int8]
"""Of each window and class: 1 positive, −1 negative, 0 neither."""


@dataclass(frozen=True)
class SvmSettings:
    """Constants of the training, by default those of the SPP-net detector.

    Parameters
    ----------
    c : float
        Weight of the hinge losses against ``½‖w‖²``, for features of mean norm 20.
    positive_weight : float
        Weight of positives over negatives.
    """

    c: float = 1e-3
    positive_weight: float = 2.0


class ProductMatrix:
    """Scalar products of all pairs of a growing set of samples, float64.

    Parameters
    ----------
    width : int
        Values of a sample.
    """

    def __init__(self, width: int) -> None:
        self.samples: Float32 = np.empty((0, width), np.float32)
        self.products = np.empty((0, 0))

    def add(self, samples: Float32) -> None:
        """Add samples (n, width)."""
        old, new = len(self.samples), len(samples)
        grown = np.empty((old + new, old + new))
        grown[:old, :old] = self.products
        grown[old:, :old] = samples @ self.samples.T
        grown[:old, old:] = grown[old:, :old].T
        grown[old:, old:] = samples @ samples.T
        self.samples = np.concatenate([self.samples, samples])
        self.products = grown

    def keep(self, kept: NDArray[np.intp]) -> None:
        """Drop all samples but these."""
        self.samples = self.samples[kept]
        self.products = self.products[np.ix_(kept, kept)]


def train_svms(
    matrix: ProductMatrix, targets: Targets, settings: SvmSettings
) -> tuple[Float32, Float32]:
    """Train one SVM with hinge loss a class.

    Parameters
    ----------
    matrix : ProductMatrix
    targets : int8 ndarray of shape (samples, classes)
    settings : SvmSettings

    Returns
    -------
    weights : float32 ndarray of shape (classes, width)
    bias : float32 ndarray of shape (classes,)
        A class without positives or without negatives has zero weights and a bias of −inf.
    """
    from sklearn.svm import SVC

    classes = targets.shape[1]
    duals = np.zeros((classes, len(targets)))
    bias = np.full(classes, -np.inf, np.float32)
    for c in range(classes):
        used = np.flatnonzero(targets[:, c])
        if len(np.unique(targets[used, c])) < 2:
            continue
        weights = {1: settings.positive_weight, -1: 1.0}
        machine = SVC(C=settings.c, kernel="precomputed", class_weight=weights, cache_size=1)
        machine.fit(matrix.products[np.ix_(used, used)], targets[used, c])
        duals[c, used[machine.support_]] = machine.dual_coef_[0]
        bias[c] = machine.intercept_[0]
    return duals.astype(np.float32) @ matrix.samples, bias


def stretch(
    matrix: ProductMatrix, targets: Targets, weights: Float32, bias: Float32
) -> tuple[Float32, Float32]:
    """Make the scores of classes comparable: the objects of each score 1 on average.

    With few objects and a small ``c`` an SVM leaves them far below its margin, rare classes more so
    than common ones. Every class's scores are stretched about −1, the margin of negatives: their
    order, and which negatives are hard, stay.

    Parameters
    ----------
    matrix : ProductMatrix
    targets : int8 ndarray of shape (samples, classes)
    weights, bias
        Of :func:`train_svms`.

    Returns
    -------
    weights, bias
    """
    factors = np.ones(len(bias), np.float32)
    for c in np.flatnonzero(np.isfinite(bias)):
        scores = matrix.samples[targets[:, c] == 1] @ weights[c] + bias[c]
        factors[c] = 2 / max(float(scores.mean()) + 1, 0.02)
    return weights * factors[:, None], (bias + 1) * factors - 1
