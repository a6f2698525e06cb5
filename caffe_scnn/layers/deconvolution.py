"""Deconvolution: the transpose of a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    ConvolutionSpec,
    Example,
    InterleaveSpec,
    OpSpec,
    ReferenceSpec,
    Shape,
    Step,
    StepsSpec,
    Weights,
    count,
)
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
        """Compute each phase of the output as a convolution of stride 1, then weave them.

        With stride s, pad p and dilation d, output pixel ``y = s·q + r - p`` meets tap k iff
        ``k·d = s·m + r``, at input pixel ``q - m``: a convolution over m for each phase r.
        """
        param = layer.proto.convolution_param
        if len(bottoms) != 1 or len(bottoms[0]) != 4 or param.axis % 4 != 1:
            return ReferenceSpec()
        window, top = self._window(layer, bottoms[0]), self.infer(layer, bottoms)[0]
        group = self.group(layer, bottoms[0][1])
        weights = _phases(layer.blobs[0], window, group)
        reach = [n - 1 for n in weights.shape[2:]]
        skipped = [min(p // s, m) for p, s, m in zip(window.pad, window.stride, reach, strict=True)]
        pad = reach[0] - skipped[0], reach[1] - skipped[1]
        phases = count(window.stride)
        bias = np.repeat(layer.blobs[1], phases) if param.bias_term else None
        convolution = ConvolutionSpec(weights, bias, (1, 1), pad, (1, 1), group)
        begin = tuple(p - q * s for p, q, s in zip(window.pad, skipped, window.stride, strict=True))
        size = [n + 2 * p - m for n, p, m in zip(bottoms[0][2:], pad, reach, strict=True)]
        shape = (top[0], len(weights), *size)
        if phases == 1 and shape == top:
            return convolution
        weave = InterleaveSpec((window.stride[0], window.stride[1]), (begin[0], begin[1]))
        return StepsSpec((Step(convolution, (0,), (shape,)), Step(weave, (1,), (top,))))

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
            Example(
                "convolution_param { num_output: 2 kernel_h: 5 kernel_w: 3 stride_h: 2 stride_w: 3 "
                "pad_h: 3 pad_w: 2 dilation: 2 bias_term: false }",
                ((2, 3, 4, 3),),
            ),
            Example("convolution_param { num_output: 3 kernel_size: 3 pad: 1 }", ((1, 2, 5, 4),)),
            Example(
                "convolution_param { num_output: 2 kernel_size: 2 stride: 2 pad: 3 }",
                ((1, 2, 7, 6),),
            ),
        ]


def _phases(weights: Weights, window: Window, group: int) -> Weights:
    """Return the weights of the convolution: s_y·s_x outputs for each one of the deconvolution.

    ``weights`` are (channels, outputs / group, k_y, k_x); tap (t_y, t_x) of the result meets m =
    reach - t, so that a cross-correlation runs through the input in the right order.
    """
    (s_y, s_x), (d_y, d_x) = window.stride, window.dilation
    channels, outputs, k_y, k_x = weights.shape
    reach_y, reach_x = (k_y - 1) * d_y // s_y, (k_x - 1) * d_x // s_x
    result = np.zeros(
        (group, outputs, s_y, s_x, channels // group, reach_y + 1, reach_x + 1), np.float32
    )
    by_group = weights.reshape(group, channels // group, outputs, k_y, k_x).swapaxes(1, 2)
    for y, x in np.ndindex(k_y, k_x):
        (m_y, r_y), (m_x, r_x) = divmod(y * d_y, s_y), divmod(x * d_x, s_x)
        result[:, :, r_y, r_x, :, reach_y - m_y, reach_x - m_x] = by_group[..., y, x]
    return result.reshape(-1, *result.shape[4:])
