"""Low-rank responses: ``y ≈ M ŷ + b`` of rank r (Zhang, Zou, He, Sun 2015; TPAMI version 2016).

Responses, not weights, are approximated: y of the original layer, ŷ what the original weights make
of the inputs that the compressed net feeds them. Linear: reduced-rank regression, which for y = ŷ
is the PCA of the responses. With a ReLU behind the layer only what passes it counts:

    min  Σ_i ‖r(y_i) − r(z_i)‖² + λ ‖z_i − (M ŷ_i + b)‖²,   rank M ≤ r,  r(z) = max(z, 0)

by turns in z (each value by itself, closed form) and in M and b (reduced-rank regression again).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_scnn.decompose.sparsify import Array

# λ and the number of turns with it; the paper's schedule.
SCHEDULE = ((0.01, 25), (1.0, 25))

# Directions with less than this fraction of the largest variance are left out of the inverse.
NEGLIGIBLE = 1e-9


@dataclass(frozen=True, eq=False)
class LowRankMap:
    """``M = up @ down`` and what is added.

    Attributes
    ----------
    up : ndarray of shape (n, r)
        Orthonormal columns.
    down : ndarray of shape (r, n)
    shift : ndarray of shape (n,)
    """

    up: Array
    down: Array
    shift: Array

    def __call__(self, responses: Array) -> Array:
        """Map responses as rows, (rows, n)."""
        return np.asarray(responses @ self.down.T @ self.up.T + self.shift)


def pseudo_inverse(moment: Array) -> Array:
    """Invert a covariance on the directions that carry variance."""
    values, vectors = np.linalg.eigh(moment)
    kept = values > NEGLIGIBLE * values.max(initial=0.0)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=kept)
    return np.asarray((vectors * inverse) @ vectors.T)


def reduced_rank(cross: Array, moment: Array, rank: int) -> tuple[Array, Array]:
    """Return ``up, down`` of the M of a rank that minimises ``E‖y − M ŷ‖²``.

    Parameters
    ----------
    cross : ndarray of shape (n, k)
        Covariance of y with ŷ.
    moment : ndarray of shape (k, k)
        Covariance of ŷ.
    rank : int
    """
    best = cross @ pseudo_inverse(moment)
    # The variance that the best map explains; its principal directions are what is kept.
    _, vectors = np.linalg.eigh(best @ cross.T)
    up = vectors[:, ::-1][:, :rank]
    up = up * np.where(up[np.abs(up).argmax(axis=0), np.arange(up.shape[1])] < 0, -1.0, 1.0)
    return up, up.T @ best


def fit_linear(cross: Array, moment: Array, mean: Array, mean_hat: Array, rank: int) -> LowRankMap:
    """Fit from moments of y and ŷ alone."""
    up, down = reduced_rank(cross, moment, rank)
    return LowRankMap(up, down, mean - up @ (down @ mean_hat))


def fit_rectified(wanted: Array, given: Array, rank: int) -> LowRankMap:
    """Fit what is left after a ReLU.

    Parameters
    ----------
    wanted, given : ndarray of shape (rows, n)
        Samples of y and of ŷ, biases included.
    rank : int
    """
    target = np.maximum(wanted, 0.0)
    mean_given = given.mean(axis=0)
    centred = given - mean_given
    moment = centred.T @ centred / len(given)
    inverse = pseudo_inverse(moment)
    current = _regress(wanted, centred, mean_given, inverse, rank)
    best, lowest = current, _rectified_loss(target, current(given))
    for penalty, turns in SCHEDULE:
        for _ in range(turns):
            auxiliary = rectified_step(target, current(given), penalty)
            current = _regress(auxiliary, centred, mean_given, inverse, rank)
            reached = _rectified_loss(target, current(given))
            if reached < lowest:
                best, lowest = current, reached
    return best


def rectified_step(target: Array, mapped: Array, penalty: float) -> Array:
    """Return the z that minimise ``(r(y) − r(z))² + λ (z − y')²``, value by value.

    Parameters
    ----------
    target : ndarray
        r(y).
    mapped : ndarray of the same shape
        y' = M ŷ + b.
    penalty : float
        λ.
    """
    off = np.minimum(mapped, 0.0)
    on = np.maximum((penalty * mapped + target) / (penalty + 1.0), 0.0)
    cost_off = np.square(target) + penalty * np.square(off - mapped)
    cost_on = np.square(on - target) + penalty * np.square(on - mapped)
    return np.where(cost_off < cost_on, off, on)


def _regress(
    wanted: Array, centred: Array, mean_given: Array, inverse: Array, rank: int
) -> LowRankMap:
    mean = wanted.mean(axis=0)
    cross = (wanted - mean).T @ centred / len(centred)
    best = cross @ inverse
    _, vectors = np.linalg.eigh(best @ cross.T)
    up = vectors[:, ::-1][:, :rank]
    down = up.T @ best
    return LowRankMap(up, down, mean - up @ (down @ mean_given))


def _rectified_loss(target: Array, mapped: Array) -> float:
    return float(np.square(target - np.maximum(mapped, 0.0)).sum())
