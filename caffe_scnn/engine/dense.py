"""Dense weights with vectors along output channels (``scnn_dense`` in ``kernels/scnn.h``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import DenseConvolution
from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.packing import Finish, Float32, Taps, block_channels
from caffe_scnn.engine.tile import Tile


def dense_convolution(
    isa: str,
    tile: Tile,
    weights: Float32,
    taps: Taps,
    finish: Finish,
    base: int,
) -> tuple[DenseConvolution, int]:
    """Make the kernel object of a dense convolution; return it and the bytes of its weights.

    Parameters
    ----------
    weights : float32 ndarray of shape (channels, columns)
        Group after group; columns are those of the group. Columns that are zero in a whole block
        are left out, and filters that are all zero share blocks of their own.
    """
    groups = len(taps.offset)
    width = tile.vectors * tile.lanes
    per_group = len(weights) // groups
    start, offsets, values = [0], [], []
    channel = block_channels(weights, groups, width, np.zeros(len(weights), bool))
    for block in channel:
        filters = np.where((block >= 0)[:, None], weights[block], np.float32(0))
        used = np.flatnonzero(filters.any(axis=0))
        start.append(start[-1] + len(used))
        offsets.append(taps.offset[block[0] // per_group, used])
        values.append(filters[:, used].T)
    bias = np.zeros(len(weights), np.float32) if finish.bias is None else finish.bias
    weight = _on_cache_lines(np.concatenate(values))
    offset = np.concatenate(offsets).astype(np.int32)
    kernel = DenseConvolution(
        isa,
        tile.rows,
        tile.vectors,
        np.array(start, np.int64),
        offset,
        weight,
        np.where(channel >= 0, bias[channel], 0).astype(np.float32).ravel(),
        _each(finish.slope, len(weights)),
        channel.ravel(),
        base,
        finish.low,
        finish.high,
    )
    return kernel, weight.nbytes + offset.nbytes


def _on_cache_lines(weight: Float32) -> Float32:
    """Copy weights to where none of their vectors crosses a cache line."""
    memory = allocate(weight.size)[: weight.size]
    memory[:] = weight.ravel()
    return memory


def _each(slope: Float32 | float | None, channels: int) -> NDArray[np.float32] | None:
    """Give every channel its slope."""
    return None if slope is None else np.broadcast_to(np.float32(slope), channels).copy()
