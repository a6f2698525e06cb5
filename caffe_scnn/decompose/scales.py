"""The size of a layer's output channels, as its weights show it."""

from __future__ import annotations

import numpy as np

from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.model.net import Blob


def channel_scales(weights: Blob, scaled: bool) -> Array:
    """Return the norm of every output channel's weights, or ones.

    Where BatchNorm was folded (or follows), the size of a channel's weights says nothing about
    its importance; dividing by these norms makes channels comparable.

    Parameters
    ----------
    weights : ndarray of shape (n, ...)
        A layer's weights.
    scaled : bool
        False: ones.

    Returns
    -------
    ndarray of shape (n,)
        Nothing is zero: an empty channel gets 1.
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    norms = np.linalg.norm(rows, axis=1) if scaled else np.ones(len(rows))
    return np.asarray(np.where(norms > 0, norms, 1.0))
