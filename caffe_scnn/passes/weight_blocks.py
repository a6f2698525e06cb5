"""What the rows of a convolution or InnerProduct do with the channels that they read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.layers.base import Array
from caffe_scnn.model.net import Blob, Layer
from caffe_scnn.passes.channels import Channels, is_transposed

Flags = NDArray[np.bool_]


def unread(channels: Channels, layer: Layer) -> Flags:
    """Return the columns, indices of what a layer reads, that have no weight but zeros."""
    flags = [~block.any(axis=(0, 2)) for _, _, block in _blocks(channels, layer)]
    return np.concatenate(flags)


def rows_without(channels: Channels, layer: Layer, columns: Flags) -> Flags:
    """Return the rows that have no weight but zeros for some columns."""
    flags = []
    for _, part, block in _blocks(channels, layer):
        chosen = columns[part]
        flags.append(~(block if chosen.all() else block[:, chosen]).any(axis=(1, 2)))
    return np.concatenate(flags)


def summed(channels: Channels, layer: Layer, constants: Array) -> Array:
    """Return what every row makes of a constant in every channel, where no border is seen.

    Parameters
    ----------
    channels : Channels
    layer : Layer
    constants : ndarray of shape (columns,)
        0 where there is none.

    Returns
    -------
    ndarray of shape (rows,)
        Without the bias.
    """
    total = []
    for _, part, block in _blocks(channels, layer):
        used = np.flatnonzero(constants[part])
        taps = block[:, used].astype(np.float64).sum(axis=2)
        total.append(taps @ constants[part][used])
    return np.concatenate(total)


def unrounded(values: Array) -> Blob:
    """Let a blob be float64 for a while: rounding it waits until the net has been checked."""
    return cast(Blob, values)


def _blocks(channels: Channels, layer: Layer) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Yield rows, columns and weights (rows, columns, taps) of every group."""
    weights = layer.blobs[0]
    if layer.type == "InnerProduct":
        rows = weights.T if is_transposed(layer) else weights
        yield slice(0, len(rows)), slice(0, rows.shape[1]), rows[..., None]
        return
    flat = weights.reshape(*weights.shape[:2], -1)
    inputs = len(channels.bottoms(layer)[0])
    group = inputs if layer in channels.depthwise else channels.linear[layer].group
    for i, block in enumerate(np.split(flat, group)):
        part = block.swapaxes(0, 1) if is_transposed(layer) else block
        n, m = part.shape[:2]
        yield slice(i * n, (i + 1) * n), slice(i * m, (i + 1) * m), part
