"""Dense weights with vectors along output channels (``scnn_dense`` in ``kernels/scnn.h``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import DenseConvolution
from caffe_scnn.engine.choose import Tile
from caffe_scnn.engine.packing import Finish, Float32, Taps


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
        are left out.
    """
    groups = len(taps.offset)
    width = tile.vectors * tile.lanes
    per_group = len(weights) // groups
    start, offsets, values, biases = [0], [], [], []
    first = [
        begin
        for group in range(groups)
        for begin in range(group * per_group, (group + 1) * per_group, width)
    ]
    count = [min(width, per_group - begin % per_group) for begin in first]
    bias = np.zeros(len(weights), np.float32) if finish.bias is None else finish.bias
    for begin, channels in zip(first, count, strict=True):
        block = weights[begin : begin + channels]
        used = np.flatnonzero(block.any(axis=0))
        start.append(start[-1] + len(used))
        offsets.append(taps.offset[begin // per_group, used])
        values.append(np.pad(block[:, used], ((0, width - channels), (0, 0))).T)
        biases.append(np.pad(bias[begin : begin + channels], (0, width - channels)))
    weight = np.ascontiguousarray(np.concatenate(values), np.float32).ravel()
    offset = np.concatenate(offsets).astype(np.int32)
    kernel = DenseConvolution(
        isa,
        tile.rows,
        tile.vectors,
        np.array(start, np.int64),
        offset,
        weight,
        np.concatenate(biases).astype(np.float32),
        _each(finish.slope, len(weights)),
        np.array(first, np.int32),
        np.array(count, np.int32),
        base,
        finish.low,
        finish.high,
    )
    return kernel, weight.nbytes + offset.nbytes


def _each(slope: Float32 | float | None, channels: int) -> NDArray[np.float32] | None:
    """Give every channel its slope."""
    return None if slope is None else np.broadcast_to(np.float32(slope), channels).copy()
