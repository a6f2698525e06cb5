"""Sparse least squares: which weights to keep, and their values, given second moments.

Minimised is, over weights Ŵ with few non-zeros,

    f(Ŵ) = Σ_i v_i (ŵ_i H ŵ_iᵀ − 2 g_i ŵ_iᵀ)

the response error of a linear layer up to a constant: H is the second moment of its inputs, g_i
= w_i C with C the moment of the wanted responses' inputs with them, v_i the weight of output i.

The support is found by operator splitting (ADMM), as in Meng et al., "ALPS: Improved Optimization
for Highly Sparse One-Shot Pruning", NeurIPS 2024: one copy of the weights fits the responses, the
other has the wanted pattern, and a growing penalty makes them meet. The values are then the exact
least squares on the support.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from caffe_scnn.decompose.pattern import Pattern
from caffe_scnn.decompose.sparsify import Array, Mask

STEPS = 60
# Penalty on the copies' difference: relative to H with a diagonal of ones, and its growth, which
# is the slower the less the support changes (the schedule of the paper's appendix, coarsened).
PENALTY = 0.1
EVERY = 3
SETTLED = 5e-4
# Multiplications of a least-squares solution up to which supports are compared and polished.
POLISH = 2e9
POLISH_STEPS = 10
GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))


@dataclass(frozen=True, eq=False)
class Regression:
    """A least-squares problem in the weights of one group of a layer.

    Attributes
    ----------
    moment : ndarray of shape (d, d)
        H, damped so that it is positive definite.
    target : ndarray of shape (n, d)
        g_i as rows.
    importance : ndarray of shape (n,)
        v_i, positive.
    """

    moment: Array
    target: Array
    importance: Array

    @cached_property
    def dense(self) -> Array:
        """The minimum with all weights kept: (n, d)."""
        factor = scipy.linalg.cho_factor(self.moment)
        return np.asarray(scipy.linalg.cho_solve(factor, self.target.T)).T

    @cached_property
    def inverse(self) -> Array:
        """H⁻¹."""
        return np.asarray(scipy.linalg.inv(self.moment))

    def losses(self, weights: Array) -> Array:
        """How far weights are above the dense minimum: ``v_i (ŵ_i − w*_i) H (ŵ_i − w*_i)ᵀ``."""
        off = weights - self.dense
        return np.asarray(self.importance * np.einsum("ij,ij->i", off @ self.moment, off))

    def solve(self, keep: Mask) -> Array:
        """Return the minimum among weights that are zero outside the support: (n, d).

        A row costs the cube of what it keeps or of what it drops, whichever is less: dropping
        weights P of the dense solution w* leaves ``w* − H⁻¹[:, P] (H⁻¹[P, P])⁻¹ w*_P``.
        """
        weights = np.zeros_like(self.target)
        size = self.target.shape[1]
        for i, support in enumerate(keep):
            at = np.flatnonzero(support)
            if 2 * len(at) > size:
                gone = np.flatnonzero(~support)
                weights[i] = self._without(i, gone)
            elif len(at):
                system = self.moment[np.ix_(at, at)]
                weights[i, at] = scipy.linalg.solve(system, self.target[i, at], assume_a="pos")
        return weights

    def _without(self, row: int, gone: NDArray[np.int64]) -> Array:
        weights: Array = self.dense[row].copy()
        if len(gone):
            system = self.inverse[np.ix_(gone, gone)]
            price = scipy.linalg.solve(system, weights[gone], assume_a="pos")
            weights -= price @ self.inverse[gone]
            weights[gone] = 0.0
        return weights


def find_support(problem: Regression, count: int, pattern: Pattern) -> Mask:
    """Choose ``count`` weights to keep (fewer where the pattern wants it).

    Parameters
    ----------
    problem : Regression
    count : int
        Non-zeros over all rows.
    pattern : Pattern
        Which weights go together.

    Returns
    -------
    bool ndarray of shape (n, d)
    """
    spread = np.sqrt(np.diag(problem.moment))
    rows = np.sqrt(problem.importance)[:, None]
    # In units in which every input has unit energy and every output the same importance.
    eigenvalues, vectors = np.linalg.eigh(problem.moment / np.outer(spread, spread))
    target = problem.target * rows / spread
    kept = problem.dense * rows * spread
    start = kept
    mask = pattern.largest(kept, count)
    kept = kept * mask
    multiplier = np.zeros_like(kept)
    penalty, last = PENALTY, mask
    for step in range(1, STEPS + 1):
        wanted = target + penalty * kept - multiplier
        fitted = (wanted @ vectors / (eigenvalues + penalty)) @ vectors.T
        moved = fitted + multiplier / penalty
        mask = pattern.largest(moved, count)
        kept = moved * mask
        multiplier += penalty * (fitted - kept)
        if step % EVERY == 0:
            changed = float((mask != last).sum()) / max(1.0, float(mask.sum()))
            if changed < SETTLED:
                break
            penalty *= next(growth for above, growth in GROWTH if changed >= above)
            last = mask
    return _polished(problem, [pattern.largest(start, count), mask], count, pattern)


def _polished(problem: Regression, masks: list[Mask], count: int, pattern: Pattern) -> Mask:
    """Return the best of some supports, after steps of hard thresholding while these help.

    A step moves every weight to the minimum along its own axis and takes the largest (Foucart,
    "Hard Thresholding Pursuit", 2011). Each support costs a least-squares solution, which large
    layers are spared: their last support is returned.
    """
    rows = len(problem.target)
    if rows * (count / rows) ** 3 > POLISH:
        return masks[-1]
    solved = [(problem.solve(mask), mask) for mask in masks]
    best, mask = min(solved, key=lambda pair: float(problem.losses(pair[0]).sum()))
    lowest = float(problem.losses(best).sum())
    units = np.sqrt(problem.importance[:, None] * np.diag(problem.moment))
    for _ in range(POLISH_STEPS):
        slope = (problem.target - best @ problem.moment) / np.diag(problem.moment)
        other = pattern.largest((best + slope) * units, count)
        weights = problem.solve(other)
        reached = float(problem.losses(weights).sum())
        if reached >= lowest:
            break
        best, mask, lowest = weights, other, reached
    return mask
