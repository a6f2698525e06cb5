"""Layers with weights: convolutions, inner products, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caffe_scnn.errors import UnsupportedLayer
from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.layers.base import canonical_axis, refuse
from caffe_scnn.layers.convolution import Convolution as ConvolutionType
from caffe_scnn.layers.geometry import convolution_window
from caffe_scnn.model.net import Layer

MOST_AXES = 3  # that PyTorch convolves over


class Convolution(LayerModule):
    """Cross-correlation over one to three axes; several bottoms share the weights."""

    types: ClassVar[tuple[str, ...]] = (
        "Convolution",
        "ConvolutionDepthwise",
        "DepthwiseConvolution",
    )
    OPERATIONS: ClassVar[tuple[Callable[..., Tensor], ...]] = (F.conv1d, F.conv2d, F.conv3d)

    def __init__(self, layer: Layer, blobs: Sequence[nn.Parameter]) -> None:
        super().__init__(layer, blobs)
        self.axes = len(self.shapes[0]) - 2
        if self.axes > MOST_AXES:
            raise UnsupportedLayer(
                str(refuse(layer, f"PyTorch convolves over {MOST_AXES} axes, not {self.axes}"))
            )
        self.window = convolution_window(layer, self.axes)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Convolve each bottom."""
        self.infer(bottoms)
        return [self._convolved(bottom) for bottom in bottoms]

    def _convolved(self, x: Tensor) -> Tensor:
        param, window = self.layer.proto.convolution_param, self.window
        axis = canonical_axis(self.layer, param.axis, x.ndim)
        flat = x.reshape(-1, *x.shape[axis:])
        bias = self.blob(1) if param.bias_term else None
        assert isinstance(self.kind, ConvolutionType)
        group = self.kind.group(self.layer, x.shape[axis])
        if not self.axes:  # one pixel: a convolution of length one
            y = F.conv1d(flat[..., None], self.blob(0)[..., None], bias, groups=group)[..., 0]
        else:
            y = self._slide(flat, bias, group, window.stride, window.pad, window.dilation)
        return y.reshape(*x.shape[:axis], *y.shape[1:])

    def _slide(
        self,
        x: Tensor,
        bias: Tensor | None,
        group: int,
        stride: tuple[int, ...],
        pad: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Tensor:
        return self.OPERATIONS[self.axes - 1](x, self.blob(0), bias, stride, pad, dilation, group)


class Deconvolution(Convolution):
    """The transpose of a convolution."""

    types: ClassVar[tuple[str, ...]] = ("Deconvolution",)
    OPERATIONS: ClassVar[tuple[Callable[..., Tensor], ...]] = (
        F.conv_transpose1d,
        F.conv_transpose2d,
        F.conv_transpose3d,
    )

    def _slide(
        self,
        x: Tensor,
        bias: Tensor | None,
        group: int,
        stride: tuple[int, ...],
        pad: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Tensor:
        return self.OPERATIONS[self.axes - 1](
            x, self.blob(0), bias, stride, pad, 0, group, dilation
        )


class InnerProduct(LayerModule):
    """``y = x Wᵀ + b``."""

    types: ClassVar[tuple[str, ...]] = ("InnerProduct",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Multiply."""
        x, param = bottoms[0], self.layer.proto.inner_product_param
        (shape,) = self.infer(bottoms)
        weights = self.blob(0).T if param.transpose else self.blob(0)
        bias = self.blob(1) if param.bias_term else None
        return (F.linear(x.reshape(-1, weights.shape[1]), weights, bias).reshape(shape),)


class Embed(LayerModule):
    """Rows of a learnt table."""

    types: ClassVar[tuple[str, ...]] = ("Embed",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Look up."""
        index = bottoms[0].long()
        if bool(((index < 0) | (index >= len(self.blob(0)))).any()):
            raise refuse(self.layer, f"an index lies outside 0 … {len(self.blob(0)) - 1}")
        rows = F.embedding(index, self.blob(0))
        return (rows + self.blob(1) if self.layer.proto.embed_param.bias_term else rows,)


class Im2col(LayerModule):
    """The patches of a convolution as channels."""

    types: ClassVar[tuple[str, ...]] = ("Im2col",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Stack the taps behind each channel."""
        x = bottoms[0]
        window = convolution_window(self.layer, x.ndim - 2)
        (shape,) = self.infer(bottoms)
        padded = F.pad(x, [p for pad in reversed(window.pad) for p in (pad, pad)])
        taps = [padded[tap] for tap in window.tap_slices(shape[2:])]
        return (torch.stack(taps, dim=2).reshape(shape),)
