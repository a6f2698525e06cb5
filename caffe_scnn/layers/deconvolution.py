"""Deconvolution: the transpose of a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array, Example, OpSpec, ReferenceSpec, Shape, count
from caffe_scnn.layers.convolution import Convolution
from caffe_scnn.layers.geometry import Window
from caffe_scnn.model.net import Layer


class Deconvolution(Convolution):
    """Every input pixel adds its kernel to the output (``deconv_layer.cpp``).

    Weights are (channels, num_output / group, kernel…): those of the convolution it transposes.
    """

    type: ClassVar[str] = "Deconvolution"

    def output_size(self, window: Window, size: Sequence[int]) -> Shape:
        """Size whose convolution has the bottom's size."""
        return tuple(
            s * (n - 1) + e - 2 * p
            for n, s, e, p in zip(size, window.stride, window.extent(), window.pad, strict=True)
        )

    def weight_shape(self, outputs: int, channels: int, group: int) -> tuple[int, int]:
        """Input channels first."""
        return channels, outputs // group

    def macs(self, layer: Layer, bottoms: Sequence[Shape]) -> int:
        """One a weight and input pixel."""
        weights = count(self.params(layer, bottoms)[0].shape)
        axis = layer.proto.convolution_param.axis % len(bottoms[0])
        return sum(weights * count(b[:axis]) * count(b[axis + 1 :]) for b in bottoms)

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Scatter-add, tap by tap, into the padded output."""
        axis = layer.proto.convolution_param.axis % bottoms[0].ndim
        window = self._window(layer, bottoms[0].shape)
        group = self.group(layer, bottoms[0].shape[axis])
        weights = layer.blobs[0].astype(np.float64)
        kernels = np.split(weights.reshape(*weights.shape[:2], -1), group)
        tops = []
        for x, shape in zip(bottoms, self.infer(layer, [b.shape for b in bottoms]), strict=True):
            flat = x.reshape(-1, *x.shape[axis:])
            size = [n + 2 * p for n, p in zip(shape[axis + 1 :], window.pad, strict=True)]
            padded = np.zeros((len(flat), shape[axis], *size))
            for out, part, kernel in zip(
                np.split(padded, group, 1), np.split(flat, group, 1), kernels, strict=True
            ):
                for index, tap in enumerate(window.tap_slices(x.shape[axis + 1 :])):
                    out[tap] += np.moveaxis(np.tensordot(kernel[:, :, index], part, (0, 1)), 0, 1)
            inner = tuple(slice(p, n - p) for n, p in zip(size, window.pad, strict=True))
            y = padded[(slice(None), slice(None), *inner)]
            if layer.proto.convolution_param.bias_term:
                y = y + layer.blobs[1].reshape(-1, *[1] * len(window.kernel))
            tops.append(y.reshape(shape))
        return tops

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """No kernel yet."""
        return ReferenceSpec()

    def examples(self) -> list[Example]:
        """Upsampling, groups, gaps."""
        return [
            Example(
                "convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 }",
                ((2, 4, 3, 5),),
            ),
            Example(
                "convolution_param { num_output: 4 kernel_size: 2 stride: 3 group: 2 }",
                ((1, 4, 3, 3),),
            ),
        ]
