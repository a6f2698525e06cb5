"""Responses of low rank: ``y ≈ M f + b`` (Zhang, Zou, He, Sun 2015; TPAMI version 2016).

Responses, not weights, are approximated: y of the original layer, and features ``f = T x̂`` of
what the compressed net feeds the layer, where T is a part of the decomposition that is fixed
already: the original weights (channel low rank, f is what they answer), or the vertical filters
of a spatial one. Linear: reduced-rank regression, which for y = f is the PCA of the responses. With
a ReLU behind the layer only what passes it counts:

    min  Σ_i ‖r(y_i) − r(z_i)‖² + λ ‖z_i − (M f_i + b)‖²,   rank M ≤ r,  r(z) = max(z, 0)

by turns in z (each value by itself, closed form) and in M and b (reduced-rank regression again).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from caffe_scnn.calibrate import Samples
from caffe_scnn.decompose.sparsify import Array

Values = NDArray[np.float32]

# λ and the number of turns with it; the paper's schedule.
SCHEDULE = ((0.01, 25), (1.0, 25))
# A λ is left when a turn lowers the loss by less than this fraction.
SETTLED = 1e-4

# Directions with less than this fraction of the largest variance are left out of the inverse.
NEGLIGIBLE = 1e-9


@dataclass(frozen=True, eq=False)
class LowRankMap:
    """``M = up @ down`` and what is added.

    Attributes
    ----------
    up : ndarray of shape (n, r)
        Orthonormal columns, before outputs were weighed.
    down : ndarray of shape (r, k)
    shift : ndarray of shape (n,)
    """

    up: Array
    down: Array
    shift: Array

    def __call__(self, features: Array) -> Array:
        """Map features as rows, (rows, k)."""
        return np.asarray(features @ self.down.T @ self.up.T + self.shift)


def pseudo_inverse(moment: Array) -> Array:
    """Invert a covariance on the directions that carry variance."""
    values, vectors = np.linalg.eigh(moment)
    kept = values > NEGLIGIBLE * values.max(initial=0.0)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=kept)
    return np.asarray((vectors * inverse) @ vectors.T)


def reduced_rank(cross: Array, inverse: Array, rank: int) -> tuple[Array, Array]:
    """Return ``up, down`` of the M of a rank that minimises ``E‖y − M f‖²``.

    Parameters
    ----------
    cross : ndarray of shape (n, k)
        Covariance of y with f.
    inverse : ndarray of shape (k, k)
        Inverse of the covariance of f.
    rank : int
        n or more: M is the unrestricted regression, and ``up`` the identity.
    """
    best = cross @ inverse
    outputs = len(cross)
    if rank >= outputs:
        return np.eye(outputs), best
    # The variance that the best map explains; its principal directions are what is kept.
    explained = best @ cross.T
    _, vectors = scipy.linalg.eigh(explained, subset_by_index=(outputs - rank, outputs - 1))
    up = vectors[:, ::-1]
    up = up * np.where(up[np.abs(up).argmax(axis=0), np.arange(rank)] < 0, -1.0, 1.0)
    return up, up.T @ best


@dataclass(frozen=True, eq=False)
class ResponseProblem:
    """How to answer as y from features f, for one group of a layer.

    Attributes
    ----------
    cross : ndarray of shape (n, k)
        Covariance of y with f.
    moment : ndarray of shape (k, k)
        Covariance of f.
    energy : ndarray of shape (n,)
        Variance of y.
    mean, mean_features : ndarray of shape (n,) and (k,)
    scales : ndarray of shape (n,)
        What outputs are multiplied by where errors are weighed.
    samples : tuple of ndarray (rows, n) and (rows, k), optional
        Single y and f, without their means; what was mixed into ``cross`` and ``moment`` so that
        few rows are not learnt by heart is in ``prior``.
    prior : ndarray of shape (n, k), optional
    weight : float
        Of the samples in the moments; the rest is the prior's.
    """

    cross: Array
    moment: Array
    energy: Array
    mean: Array
    mean_features: Array
    scales: Array
    samples: tuple[Values, Values] | None = None
    prior: Array | None = None
    weight: float = 1.0

    @classmethod
    def assumed(cls, weights: Array, features: Array, scales: Array) -> ResponseProblem:
        """Set up for uncorrelated inputs of unit variance: errors of weights.

        Parameters
        ----------
        weights : ndarray of shape (n, d)
        features : ndarray of shape (k, d)
            T.
        scales : ndarray of shape (n,)
        """
        cross = weights @ features.T
        return cls(
            cross,
            cross if np.may_share_memory(features, weights) else features @ features.T,
            np.einsum("ij,ij->i", weights, weights),
            np.zeros(len(weights)),
            np.zeros(len(features)),
            scales,
        )

    @classmethod
    def sampled(
        cls, weights: Array, features: Array, scales: Array, samples: Samples, group: int
    ) -> ResponseProblem:
        """Set up from single rows; parameters as for :meth:`assumed`."""
        drawn, variance = samples.prior(group)
        wanted = samples.responses[group]
        found = samples.rows[group] @ features.T.astype(np.float32)
        mean, mean_found = (part.mean(axis=0, dtype=np.float64) for part in (wanted, found))
        wanted, found = wanted - mean.astype(np.float32), found - mean_found.astype(np.float32)
        kept = 1 - drawn
        y, f = wanted.astype(np.float64), found.astype(np.float64)
        assumed = cls.assumed(weights, features, scales)
        prior = drawn * variance * assumed.cross
        return cls(
            kept / len(y) * (y.T @ f) + prior,
            kept / len(y) * (f.T @ f) + drawn * variance * assumed.moment,
            kept / len(y) * np.einsum("ij,ij->j", y, y) + drawn * variance * assumed.energy,
            mean,
            mean_found,
            scales,
            (wanted, found),
            prior,
            kept,
        )

    @cached_property
    def inverse(self) -> Array:
        """Inverse of the features' covariance, (k, k)."""
        return pseudo_inverse(self.moment)

    def errors(self, found: LowRankMap) -> Array:
        """Return the variance of ``y − M f`` of every output: (n,)."""
        whole = found.up @ found.down
        mixed = np.einsum("ij,ij->i", whole, self.cross)
        own = np.einsum("ij,ij->i", whole @ self.moment, whole)
        return np.asarray(np.maximum(self.energy - 2 * mixed + own, 0.0))

    def linear(self, rank: int) -> LowRankMap:
        """Return the map of a rank with the least weighed error."""
        up, down = reduced_rank(self.scales[:, None] * self.cross, self.inverse, rank)
        return self._centred(up / self.scales[:, None], down, self.mean)

    def rectified(self, rank: int, bias: Array) -> LowRankMap:
        """Return the map of a rank that is best behind a ReLU.

        Parameters
        ----------
        rank : int
        bias : ndarray of shape (n,)
            The layer's; responses and what is returned are without it.
        """
        assert self.samples is not None and self.prior is not None
        centred, features = self.samples
        offset = (self.mean + bias).astype(np.float32)
        target = np.maximum(centred + offset, 0)
        up, down = reduced_rank(self.cross, self.inverse, rank)
        current = best = LowRankMap(up, down, self.mean + bias)
        mapped = _applied(current, features)
        lowest = _rectified_loss(target, mapped)
        for penalty, turns in SCHEDULE:
            before = np.inf
            for _ in range(turns):
                auxiliary = rectified_step(target, mapped, penalty)
                current = self._regress(auxiliary, features, rank)
                mapped = _applied(current, features)
                reached = _rectified_loss(target, mapped)
                if reached < lowest:
                    best, lowest = current, reached
                if before - reached < SETTLED * reached:
                    break
                before = reached
        return self._centred(best.up, best.down, best.shift - bias)

    def _regress(self, wanted: Values, features: Values, rank: int) -> LowRankMap:
        mean = wanted.mean(axis=0, dtype=np.float64)
        cross = (wanted - mean.astype(np.float32)).T @ features / np.float32(len(features))
        mixed = self.weight * cross.astype(np.float64) + self.prior
        up, down = reduced_rank(mixed, self.inverse, rank)
        return LowRankMap(up, down, mean)

    def _centred(self, up: Array, down: Array, mean: Array) -> LowRankMap:
        """Return a map of features with their means, from one of features without."""
        return LowRankMap(up, down, mean - up @ (down @ self.mean_features))


def rectified_step(target: Values, mapped: Values, penalty: float) -> Values:
    """Return the z that minimise ``(r(y) − r(z))² + λ (z − y')²``, value by value.

    Parameters
    ----------
    target : ndarray
        r(y).
    mapped : ndarray of the same shape
        y' = M f + b.
    penalty : float
        λ.
    """
    # The best z is (r(y) + λ y') / (1 + λ) where it is on and min(y', 0) where it is off. What they
    # lose, λ (r(y) − y')² / (1 + λ) and r(y)², is equal where y' is −r(y) (√(1 + 1/λ) − 1).
    chosen: Values = target / (1.0 + penalty)
    chosen += mapped * (penalty / (1.0 + penalty))
    edge = target * (1.0 - sqrt(1.0 + 1.0 / penalty))
    np.copyto(chosen, mapped, where=mapped < edge)
    return chosen


def _applied(found: LowRankMap, features: Values) -> Values:
    """Map features in float32, the small matrix first."""
    up: Values = found.up.astype(np.float32)
    down: Values = found.down.astype(np.float32)
    shift: Values = found.shift.astype(np.float32)
    narrow = len(down) < len(up)
    mapped = features @ down.T @ up.T if narrow else features @ (up @ down).T
    return np.asarray(mapped + shift, np.float32)


def _rectified_loss(target: Values, mapped: Values) -> float:
    off = target - np.maximum(mapped, 0)
    return float(np.einsum("ij,ij->", off, off, dtype=np.float64))
