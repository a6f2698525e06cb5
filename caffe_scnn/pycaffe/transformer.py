"""``caffe.io.Transformer``: from a picture to the values of an input blob, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_scnn.pycaffe.blob import Values
from caffe_scnn.pycaffe.images import resize_image


class Transformer:
    """Formats pictures for the inputs of a net.

    Steps of :meth:`preprocess`: resize, transpose, swap channels, raw scale, mean, input scale.
    A step that was not set is left out.

    Parameters
    ----------
    inputs : mapping of str to shape
        Input blob → its shape (N, C, H, W).
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, tuple[int, ...]] = {}
        self.channel_swap: dict[str, tuple[int, ...]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, Values] = {}
        self.input_scale: dict[str, float] = {}

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of axes, (2, 0, 1) from (H, W, C) to (C, H, W)."""
        self._check(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise ValueError(
                f'"{in_}" has {len(self.inputs[in_]) - 1} axes besides N, not {tuple(order)}'
            )
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of channels, (2, 1, 0) between RGB and BGR."""
        self._check(in_)
        if len(order) != self.inputs[in_][1]:
            raise ValueError(f'"{in_}" has {self.inputs[in_][1]} channels, not {len(order)}')
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set the factor before the mean is subtracted: 255 for a mean of pixels in 0 … 255."""
        self._check(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: ArrayLike) -> None:
        """Set what is subtracted.

        Parameters
        ----------
        in_ : str
            The input.
        mean : ndarray of shape (C,), (H, W) or (C, H, W)
            Channels in the net's order; a picture of another size is resized to the input's.
        """
        self._check(in_)
        values = np.asarray(mean, np.float32)
        channels, *size = self.inputs[in_][1:]
        if values.ndim == 1:
            values = values[:, None, None]
        elif values.ndim == 2:
            values = values[None]
        if values.ndim != 3 or values.shape[0] not in (1, channels):
            raise ValueError(
                f'a mean of shape {np.shape(mean)} does not fit "{in_}" of {self.inputs[in_]}'
            )
        if values.shape[1:] not in ((1, 1), tuple(size)):
            values = resize_image(values.transpose(1, 2, 0), size).transpose(2, 0, 1)
        self.mean[in_] = values

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set the factor after the mean is subtracted."""
        self._check(in_)
        self.input_scale[in_] = scale

    def preprocess(self, in_: str, data: NDArray[Any]) -> Values:
        """Return a picture (H, W, C) as values for an input, (C, H, W)."""
        self._check(in_)
        values = np.asarray(data, np.float32)
        size = self.inputs[in_][2:]
        if values.shape[:2] != size:
            values = resize_image(values, size)
        if in_ in self.transpose:
            values = values.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            values = values[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            values = values * np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            values = values - self.mean[in_]
        if in_ in self.input_scale:
            values = values * np.float32(self.input_scale[in_])
        return values

    def deprocess(self, in_: str, data: NDArray[Any]) -> Values:
        """Return values of an input as the picture they came from, at the input's size."""
        self._check(in_)
        values = np.array(data, np.float32).squeeze()
        if values.ndim == 2:
            values = values[None]
        if in_ in self.input_scale:
            values = values / np.float32(self.input_scale[in_])
        if in_ in self.mean:
            values = values + self.mean[in_]
        if in_ in self.raw_scale:
            values = values / np.float32(self.raw_scale[in_])
        if in_ in self.channel_swap:
            values = values[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            values = values.transpose(np.argsort(self.transpose[in_]))
        return values

    def _check(self, in_: str) -> None:
        if in_ not in self.inputs:
            known = ", ".join(self.inputs)
            raise ValueError(f'"{in_}" is not one of the net\'s inputs: {known}')
