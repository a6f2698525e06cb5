"""A convolution's kernel as filters per input channel, and back from P, Q and S.

Filters have the shape (m, n/g, d): for every one of the m input channels the n/g filters of its
group that read it, flattened to d = k_h·k_w taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.model.net import Blob


def compose(blobs: Sequence[Blob], channels: int, group: int) -> Array:
    """Multiply the blobs of [P,] Q and S out to one kernel.

    Parameters
    ----------
    blobs : sequence of ndarray
        (m, m/g, 1, 1) if there is a P, then (m·q, 1, k_h, k_w) and (n, (m/g)·q, 1, 1).
    channels : int
        Input channels m.
    group : int
        Group of P and S.

    Returns
    -------
    float64 ndarray of shape (n, m/g, k_h, k_w)
    """
    *mixing, q_blob, s_blob = (blob.astype(np.float64) for blob in blobs)
    per_group = channels // group
    bases = q_blob.reshape(group, per_group, len(q_blob) // channels, -1)
    codes = s_blob.reshape(group, len(s_blob) // group, per_group, -1)
    filters = np.einsum("gjiq,giqd->gijd", codes, bases, optimize=True)
    for p in mixing:
        filters = np.einsum(
            "gkjd,gki->gijd", filters, p.reshape(group, per_group, -1), optimize=True
        )
    return np.asarray(filters.swapaxes(1, 2).reshape(len(s_blob), per_group, *q_blob.shape[2:]))


def by_channel(weights: NDArray[Any], group: int) -> Array:
    """Turn (n, m/g, k_h, k_w) into (m, n/g, d): the filters that read each channel."""
    n, per_group = weights.shape[:2]
    filters = weights.astype(np.float64).reshape(group, n // group, per_group, -1)
    return filters.swapaxes(1, 2).reshape(group * per_group, n // group, -1)


def channel_pca(filters: Array, group: int) -> Array:
    """Return P of every group, (g, m/g, m/g): rows are principal directions over channels.

    Orthogonal up to the rounding to float32, in which it will be written.
    """
    stacked = filters.reshape(group, len(filters) // group, -1)
    _, vectors = np.linalg.eigh(stacked @ stacked.swapaxes(1, 2))
    mixing = vectors[:, :, ::-1].swapaxes(1, 2)
    return np.asarray(mixing.astype(np.float32).astype(np.float64))


def unmix(filters: Array, mixing: Array | None, group: int) -> Array:
    """Return R, the filters on the mixed channels: ``Pᵀ R = K`` for every group."""
    if mixing is None:
        return filters
    stacked = filters.reshape(group, len(filters) // group, -1)
    return np.asarray(np.linalg.solve(mixing.swapaxes(1, 2), stacked)).reshape(filters.shape)


def compact(coefficients: Array, bases: Array) -> tuple[Array, Array]:
    """Move every channel's used bases to the front, clear the others, cut q to the largest q_i."""
    used = np.asarray(coefficients.any(axis=1))
    q = max(1, int(used.sum(axis=1).max(initial=0)))
    order = np.argsort(~used, axis=1, kind="stable")[:, :q]
    bases = np.where(used[..., None], bases, 0.0)
    return (
        np.take_along_axis(coefficients, order[:, None], axis=2),
        np.take_along_axis(bases, order[..., None], axis=1),
    )
