"""A softmax head: background and all classes in one classifier, with probabilities as scores."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.svm import ProductMatrix, SvmSettings, Targets
from caffe_scnn.engine.tensor import Float32

Array = NDArray[np.float64]
Float = TypeVar("Float", bound=np.floating[Any])


def probabilities(logits: NDArray[Float]) -> NDArray[Float]:
    """Return ``exp(x − max) / Σ`` of each row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    found: NDArray[Float] = shifted / shifted.sum(axis=1, keepdims=True)
    return found


def train_softmax(
    matrix: ProductMatrix, targets: Targets, settings: SvmSettings
) -> tuple[Float32, Float32]:
    """Minimise ``½‖W‖² + c Σ −log p``, in the span of the samples, by L-BFGS.

    Parameters
    ----------
    matrix : ProductMatrix
    targets : int8 ndarray of shape (samples, classes)
        Rows with a 1 are objects of that class, rows of −1 alone background; others are not used.
    settings : SvmSettings
        ``c``, and the weight of objects over background.

    Returns
    -------
    weights : float32 ndarray of shape (1 + classes, width)
        Background first.
    bias : float32 ndarray of shape (1 + classes,)
    """
    from scipy.optimize import minimize

    objects = (targets == 1).any(axis=1)
    used = np.flatnonzero(objects | (targets == -1).all(axis=1))
    labels = np.where(objects, targets.argmax(axis=1) + 1, 0)[used]
    products = matrix.products[np.ix_(used, used)]
    outputs = targets.shape[1] + 1
    wanted = np.eye(outputs)[labels]
    cost = settings.c * np.where(labels > 0, settings.positive_weight, 1.0)[:, None]

    def loss(flat: Array) -> tuple[float, Array]:
        dual, bias = flat[outputs:].reshape(-1, outputs), flat[:outputs]
        spread = products @ dual
        guess = probabilities(spread + bias)
        error = cost * (guess - wanted)
        chosen = np.maximum(guess[np.arange(len(labels)), labels], 1e-300)
        value = 0.5 * (dual * spread).sum() - (cost[:, 0] * np.log(chosen)).sum()
        return float(value), np.concatenate(
            [error.sum(axis=0), (products @ (dual + error)).ravel()]
        )

    start = np.zeros(outputs * (1 + len(used)))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    dual = found[outputs:].reshape(-1, outputs).astype(np.float32)
    return dual.T @ matrix.samples[used], found[:outputs].astype(np.float32)
