"""Strided convolutions: the input as one plane for each position within the stride.

Then every tap is a constant offset again, as in a convolution of stride 1.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import Phases
from caffe_scnn.engine.tensor import Border, Tensor
from caffe_scnn.layers.base import ConvolutionSpec


def phase_planes(
    spec: ConvolutionSpec, items: int, channels: int, height: int, width: int
) -> Tensor:
    """Return the tensor of the phase planes: phase p of channel c is its channel c·P + p.

    Parameters
    ----------
    spec : ConvolutionSpec
    items, channels : int
    height : int
        Of the result.
    width : int
        Of the phase planes.
    """
    rows = height + (spec.weights.shape[2] - 1) * spec.dilation[0] // spec.stride[0]
    return Tensor((items, channels * len(_offsets(spec)), rows, width), Border(aligned=True))


def split_into(planes: Tensor, spec: ConvolutionSpec, isa: str) -> Phases:
    """Describe the split of an input into phase planes."""
    size = planes.height, planes.width, planes.plane
    return Phases(isa, _offsets(spec), spec.stride, spec.pad, *size)


def _offsets(spec: ConvolutionSpec) -> NDArray[np.int32]:
    """List the (row, column) phases that some tap reads."""
    axes = [
        sorted({tap * dilation % stride for tap in range(size)})
        for size, dilation, stride in zip(
            spec.weights.shape[2:], spec.dilation, spec.stride, strict=True
        )
    ]
    return np.array(list(product(*axes)), np.int32)


def phase_taps(spec: ConvolutionSpec, planes: Tensor) -> NDArray[np.int64]:
    """Offsets of one channel's taps in its phase planes."""
    number = {tuple(offset): index for index, offset in enumerate(_offsets(spec).tolist())}
    (sy, sx), (dy, dx) = spec.stride, spec.dilation
    return np.array(
        [
            number[y * dy % sy, x * dx % sx] * planes.plane
            + (y * dy // sy) * planes.pitch
            + x * dx // sx
            for y, x in np.ndindex(*spec.weights.shape[2:])
        ],
        np.int64,
    )
