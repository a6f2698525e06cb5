"""Vertical filters that a layer's kernels are put together from, and horizontal ones behind them.

With the kernel ``W(n, c, i, j)`` as a matrix A of (c, i) by (n, j), a product A ≈ V H of rank r is
a k_h×1 layer of r filters and a 1×k_w layer (Jaderberg, Vedaldi, Zisserman, BMVC 2014, scheme 2).
The best V in closed form, in the norm that inputs of covariance C ≈ C_v ⊗ C_h give the responses::

    min ‖ C_v^½ (A − V H) (C_h^½ ⊗ diag(scales)) ‖

is the truncated SVD of ``C_v^½ A (C_h^½ ⊗ diag(scales))`` with the first factor taken back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from caffe_scnn.calibrate import Samples
from caffe_scnn.decompose.sparsify import Array


@dataclass(frozen=True, eq=False)
class VerticalFilters:
    """The vertical filters of one group, best first.

    Attributes
    ----------
    filters : ndarray of shape (c·k_h, full)
        V of full rank; its first columns are V of a lower rank.
    gains : ndarray of shape (full,)
        The squared norm that each column explains.
    """

    filters: Array
    gains: Array

    @classmethod
    def of(cls, weights: Array, scales: Array, columns: Array, rows: Array) -> VerticalFilters:
        """Split kernels.

        Parameters
        ----------
        weights : ndarray of shape (n, c, k_h, k_w)
        scales : ndarray of shape (n,)
            Of the outputs' errors.
        columns : ndarray of shape (c·k_h, c·k_h)
            C_v, positive definite.
        rows : ndarray of shape (k_w, k_w)
            C_h, positive semidefinite.
        """
        n, c, height, width = weights.shape
        values, vectors = np.linalg.eigh(rows)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        scaled = np.tensordot(weights * scales[:, None, None, None], root, (3, 0))
        matrix = scaled.transpose(1, 2, 0, 3).reshape(c * height, n * width)
        lower = np.linalg.cholesky(columns)
        weighed = lower.T @ matrix
        full = min(matrix.shape)
        left, values, _ = scipy.linalg.svd(weighed, full_matrices=False)
        signs = np.where(left[np.abs(left).argmax(axis=0), np.arange(full)] < 0, -1.0, 1.0)
        filters = scipy.linalg.solve_triangular(lower, left * signs, trans="T", lower=True)
        return cls(filters, np.square(values))


def covariances(samples: Samples | None, group: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return C_v and C_h of a group's inputs.

    Parameters
    ----------
    samples : Samples, optional
        None: uncorrelated inputs of unit variance.
    group : int
    shape : tuple of int
        Of a receptive field: (c, k_h, k_w).
    """
    c, height, width = shape
    if samples is None:
        return np.eye(c * height), np.eye(width)
    drawn, variance = samples.prior(group)
    rows = samples.rows[group]
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    taps = centred.reshape(-1, c * height, width)
    across = np.einsum("nij,nik->jk", taps, taps, optimize=True) / (len(rows) * c * height)
    flat = np.ascontiguousarray(taps.swapaxes(1, 2)).reshape(-1, c * height).astype(np.float64)
    down = flat.T @ flat / len(flat)
    # The least ridge keeps inputs that never change from making C_v singular.
    drawn = max(drawn, 1e-9)
    ridge = variance or 1.0
    return (
        (1 - drawn) * down + drawn * ridge * np.eye(c * height),
        (1 - drawn) * across / ridge + drawn * np.eye(width),
    )
