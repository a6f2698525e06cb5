"""Convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    ConvolutionSpec,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    Param,
    ReferenceSpec,
    Shape,
    canonical_axis,
    constant_fill,
    count,
    refuse,
)
from caffe_scnn.layers.geometry import Window, convolution_window
from caffe_scnn.model.net import Layer


class Convolution(LayerType):
    """Cross-correlation with learnt kernels (BVLC ``base_conv_layer.cpp``, ``conv_layer.cpp``).

    Any number of spatial axes; several bottoms are convolved with the same weights.
    """

    type: ClassVar[str] = "Convolution"
    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops: ClassVar[tuple[int, int | None]] = (1, None)

    def group(self, layer: Layer, channels: int) -> int:
        """Return the number of groups."""
        return int(layer.proto.convolution_param.group)

    def output_size(self, window: Window, size: Sequence[int]) -> Shape:
        """Count the windows that lie wholly inside the padded input."""
        return window.floor_output(size)

    def weight_shape(self, outputs: int, channels: int, group: int) -> tuple[int, int]:
        """Output channels first."""
        return outputs, channels // group

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Windows that lie wholly inside the padded input, for every bottom."""
        if len(layer.tops) != len(bottoms):
            raise refuse(layer, f"has {len(bottoms)} bottoms and {len(layer.tops)} tops")
        axis = canonical_axis(layer, layer.proto.convolution_param.axis, len(bottoms[0]))
        if any(shape != bottoms[0] for shape in bottoms):
            raise refuse(layer, f"its bottoms differ in shape: {list(bottoms)}")
        window = self._window(layer, bottoms[0])
        self._check(layer, bottoms[0][axis])
        size = self.output_size(window, bottoms[0][axis + 1 :])
        outputs = int(layer.proto.convolution_param.num_output)
        return [(*shape[:axis], outputs, *size) for shape in bottoms]

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """Weights (num_output, channels / group, kernel…) and a bias (num_output)."""
        param = layer.proto.convolution_param
        axis = canonical_axis(layer, param.axis, len(bottoms[0]))
        channels = bottoms[0][axis]
        window = self._window(layer, bottoms[0])
        group = self.group(layer, channels)
        weights = self.weight_shape(int(param.num_output), channels, group)
        blobs = [Param((*weights, *window.kernel), constant_fill(param.weight_filler))]
        if param.bias_term:
            blobs.append(Param((param.num_output,), constant_fill(param.bias_filler)))
        return blobs

    def macs(self, layer: Layer, bottoms: Sequence[Shape]) -> int:
        """One a weight and output pixel."""
        axis = canonical_axis(layer, layer.proto.convolution_param.axis, len(bottoms[0]))
        weights = count(self.params(layer, bottoms)[0].shape)
        return sum(
            weights * count(top[:axis]) * count(top[axis + 1 :])
            for top in self.infer(layer, bottoms)
        )

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Sum over taps of (weights of the tap) · (input shifted to the tap)."""
        axis = canonical_axis(layer, layer.proto.convolution_param.axis, bottoms[0].ndim)
        window = self._window(layer, bottoms[0].shape)
        weights = layer.blobs[0].astype(np.float64)
        group = self.group(layer, bottoms[0].shape[axis])
        tops = []
        for x, shape in zip(bottoms, self.infer(layer, [b.shape for b in bottoms]), strict=True):
            flat = x.reshape(-1, *x.shape[axis:])
            y = np.zeros((len(flat), *shape[axis:]))
            taps = window.taps(flat, shape[axis + 1 :])
            kernels = weights.reshape(*weights.shape[:2], -1)
            for out, part, kernel in zip(
                np.split(y, group, 1), _groups(taps, group), np.split(kernels, group), strict=True
            ):
                for index, tap in enumerate(part):
                    out += np.moveaxis(np.tensordot(kernel[:, :, index], tap, (1, 1)), 0, 1)
            if layer.proto.convolution_param.bias_term:
                y += layer.blobs[1].reshape(-1, *[1] * len(window.kernel))
            tops.append(y.reshape(shape))
        return tops

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Two spatial axes and one bottom have kernels."""
        if len(bottoms) != 1 or len(bottoms[0]) != 4 or layer.proto.convolution_param.axis % 4 != 1:
            return ReferenceSpec()
        window = self._window(layer, bottoms[0])
        return ConvolutionSpec(
            layer.blobs[0],
            layer.blobs[1] if layer.proto.convolution_param.bias_term else None,
            (window.stride[0], window.stride[1]),
            (window.pad[0], window.pad[1]),
            (window.dilation[0], window.dilation[1]),
            self.group(layer, bottoms[0][1]),
        )

    def coupling(self, layer: Layer) -> Coupling:
        """Make new channels."""
        return Coupling.PRODUCES

    def examples(self) -> list[Example]:
        """Show groups, rectangles, dilation, one and three axes."""
        return [
            Example(
                "convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 2 }",
                ((2, 4, 7, 6),),
            ),
            Example(
                "convolution_param { num_output: 3 kernel_h: 1 kernel_w: 3 stride_h: 2 stride_w: 1 "
                "dilation: 2 bias_term: false }",
                ((1, 2, 8, 9),),
            ),
            Example("convolution_param { num_output: 3 kernel_size: 2 }", ((1, 2, 5),)),
            Example("convolution_param { num_output: 2 kernel_size: 2 }", ((1, 2, 3, 4, 3),)),
        ]

    def _window(self, layer: Layer, shape: Shape) -> Window:
        axis = canonical_axis(layer, layer.proto.convolution_param.axis, len(shape))
        return convolution_window(layer, len(shape) - axis - 1)

    def _check(self, layer: Layer, channels: int) -> None:
        outputs = int(layer.proto.convolution_param.num_output)
        group = self.group(layer, channels)
        if outputs < 1:
            raise refuse(layer, f"num_output is {outputs}; it must be positive")
        if group < 1 or channels % group:
            raise refuse(layer, f"group {group} does not divide its {channels} input channels")
        if outputs % group:
            raise refuse(layer, f"group {group} does not divide num_output {outputs}")


class DepthwiseConvolution(Convolution):
    """Convolution with as many groups as input channels (fork yonghenglh6/DepthwiseConvolution).

    The fork's prototxts give ``group`` as well; without it the input channels count.
    """

    type: ClassVar[str] = "DepthwiseConvolution"
    stock: ClassVar[bool] = False

    def group(self, layer: Layer, channels: int) -> int:
        """Return the given number of groups, or one for each channel."""
        param = layer.proto.convolution_param
        return int(param.group) if param.HasField("group") else channels

    def examples(self) -> list[Example]:
        """Multiplier one and two."""
        return [
            Example("convolution_param { num_output: 4 kernel_size: 3 pad: 1 }", ((2, 4, 5, 5),)),
            Example("convolution_param { num_output: 8 kernel_size: 3 group: 4 }", ((1, 4, 5, 5),)),
        ]


class ConvolutionDepthwise(DepthwiseConvolution):
    """The same under its other name (fork farmingyard/ShuffleNet)."""

    type: ClassVar[str] = "ConvolutionDepthwise"


def _groups(taps: list[Array], group: int) -> list[list[Array]]:
    """Deal the channels of every tap out to the groups."""
    return [list(parts) for parts in zip(*(np.split(tap, group, 1) for tap in taps), strict=True)]
