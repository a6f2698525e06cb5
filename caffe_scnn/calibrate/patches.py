"""The rows that a layer multiplies with its weights, at sampled output positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from caffe_scnn.errors import ModelError
from caffe_scnn.layers.base import refuse
from caffe_scnn.layers.geometry import Window, convolution_window
from caffe_scnn.model.net import Blob, Layer

Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Patches:
    """How to cut a layer's input into rows.

    For a convolution a row is the receptive field of one output pixel, (m/g)·k_h·k_w values for
    each of g groups, in the order of the weights; zeros where it reaches over the border. For
    an InnerProduct it is the flattened input.
    """

    layer: Layer
    window: Window | None

    @classmethod
    def of(cls, layer: Layer) -> Patches:
        """Read the layer's geometry.

        Raises
        ------
        ModelError
            The layer has no rows: not a convolution or InnerProduct, or unusual axes.
        """
        if layer.type == "InnerProduct":
            return cls(layer, None)
        if layer.type not in ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution"):
            raise refuse(layer, "only convolutions and InnerProduct layers can be calibrated")
        if layer.proto.convolution_param.axis != 1:
            raise refuse(layer, "calibration needs axis 1")
        return cls(layer, convolution_window(layer, layer.blobs[0].ndim - 2))

    @property
    def group(self) -> int:
        """Number of groups."""
        return groups(self.layer)

    def positions(self, bottom: Sequence[int]) -> int:
        """Count the output positions of one image, for a bottom's shape."""
        if self.window is None:
            return self._flat(bottom)[1]
        return prod(self.window.floor_output(bottom[2:]))

    def rows(self, bottom: NDArray[Any], positions: Sequence[NDArray[np.int64]]) -> Rows:
        """Cut out rows.

        Parameters
        ----------
        bottom : ndarray of shape (N, C, …)
        positions : sequence of int ndarray
            For every image the (flat) output positions.

        Returns
        -------
        float32 ndarray of shape (group, rows, d)
        """
        image = np.repeat(np.arange(len(positions)), [len(p) for p in positions])
        at = np.concatenate(positions)
        if self.window is None:
            images, per_image, size = self._flat(bottom.shape)
            return np.ascontiguousarray(bottom.reshape(images, per_image, size)[image, at])[None]
        windows = self._windows(bottom)
        where = np.unravel_index(at, windows.shape[2 : 2 + len(self.window.kernel)])
        index: tuple[Any, ...] = (image, slice(None), *where)
        split = windows[index].reshape(len(at), self.group, -1)
        return np.ascontiguousarray(split.swapaxes(0, 1), np.float32)

    def _windows(self, bottom: NDArray[Any]) -> NDArray[Any]:
        """Return a view (N, C, output…, kernel…) of the padded input."""
        assert self.window is not None
        window = self.window
        axes = tuple(range(2, bottom.ndim))
        padded = np.pad(bottom, [(0, 0), (0, 0), *((p, p) for p in window.pad)])
        view = sliding_window_view(padded, window.extent(), axis=axes)
        steps = (1, 1, *window.stride, *window.dilation)
        return view[tuple(slice(None, None, step) for step in steps)]

    def _flat(self, bottom: Sequence[int]) -> tuple[int, int, int]:
        """Images, rows of each, and values of a row of an InnerProduct's bottom."""
        axis = self.layer.proto.inner_product_param.axis % len(bottom)
        if axis == 0:
            raise ModelError(f'layer "{self.layer.name}": axis 0 mixes images')
        return bottom[0], prod(bottom[1:axis]), prod(bottom[axis:])


def groups(layer: Layer) -> int:
    """Return the number of groups of a convolution; 1 for other layers."""
    if layer.type == "InnerProduct":
        return 1
    if layer.type in ("DepthwiseConvolution", "ConvolutionDepthwise"):
        return int(len(layer.blobs[0]) // layer.blobs[0].shape[1])
    return int(layer.proto.convolution_param.group)


def rows_shape(layer: Layer) -> tuple[int, int, int]:
    """Return the shape of a layer's weights as rows: (group, n/group, d)."""
    weights = layer.blobs[0]
    transposed = layer.type == "InnerProduct" and layer.proto.inner_product_param.transpose
    outputs = weights.shape[1] if transposed else len(weights)
    count = groups(layer)
    return count, outputs // count, weights.size // outputs


def weight_rows(layer: Layer) -> NDArray[np.float64]:
    """Return a layer's weights as float64 (group, n/group, d), ready to multiply rows."""
    return grouped_rows(layer, layer.blobs[0])


def grouped_rows(layer: Layer, weights: Blob) -> NDArray[np.float64]:
    """Return weights of the layer's shape as float64 (group, n/group, d)."""
    if layer.type == "InnerProduct" and layer.proto.inner_product_param.transpose:
        weights = weights.T
    count = groups(layer)
    return weights.astype(np.float64).reshape(count, len(weights) // count, -1)


def as_blob(layer: Layer, rows: NDArray[np.float64]) -> Blob:
    """Turn (group, n/group, d) back into a blob of the layer's shape: undoes `weight_rows`."""
    flat = rows.reshape(-1, rows.shape[2])
    if layer.type == "InnerProduct" and layer.proto.inner_product_param.transpose:
        return np.ascontiguousarray(flat.T, np.float32)
    return flat.reshape(layer.blobs[0].shape).astype(np.float32)
