"""Element-wise layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caffe_scnn.finetune.bridge.base import LayerModule, per_channel
from caffe_scnn.model.net import Layer


class ReLU(LayerModule):
    """``max(x, 0) + negative_slope · min(x, 0)``."""

    types: ClassVar[tuple[str, ...]] = ("ReLU",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Bend."""
        slope = self.layer.proto.relu_param.negative_slope
        return (F.leaky_relu(bottoms[0], slope) if slope else F.relu(bottoms[0]),)


class PReLU(LayerModule):
    """ReLU with learnt slopes."""

    types: ClassVar[tuple[str, ...]] = ("PReLU",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Bend each channel by its own slope."""
        return (F.prelu(bottoms[0], self.blob(0).reshape(-1)),)


class Clip(LayerModule):
    """``min(max(x, min), max)``; ReLU6 has the bounds 0 and 6."""

    types: ClassVar[tuple[str, ...]] = ("Clip", "ReLU6")

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Clamp."""
        if self.layer.type == "ReLU6":
            return (F.relu6(bottoms[0]),)
        param = self.layer.proto.clip_param
        return (bottoms[0].clamp(param.min, param.max),)


class Smooth(LayerModule):
    """Functions without parameters that PyTorch has."""

    FUNCTIONS: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {
        "AbsVal": torch.abs,
        "BNLL": F.softplus,
        "Sigmoid": torch.sigmoid,
        "TanH": torch.tanh,
    }
    types: ClassVar[tuple[str, ...]] = tuple(FUNCTIONS)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Apply the function."""
        return (self.FUNCTIONS[self.layer.type](bottoms[0]),)


class ELU(LayerModule):
    """``max(x, 0) + alpha · (exp(min(x, 0)) − 1)``."""

    types: ClassVar[tuple[str, ...]] = ("ELU",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Bend negative values."""
        return (F.elu(bottoms[0], self.layer.proto.elu_param.alpha),)


class Swish(LayerModule):
    """``x · sigmoid(beta · x)``."""

    types: ClassVar[tuple[str, ...]] = ("Swish",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Gate x by itself."""
        return (bottoms[0] * torch.sigmoid(self.layer.proto.swish_param.beta * bottoms[0]),)


class Power(LayerModule):
    """``(shift + scale · x) ^ power``."""

    types: ClassVar[tuple[str, ...]] = ("Power",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Raise."""
        param = self.layer.proto.power_param
        return ((param.shift + param.scale * bottoms[0]) ** param.power,)


class Exp(LayerModule):
    """``base ^ (shift + scale · x)``; base −1 stands for e."""

    types: ClassVar[tuple[str, ...]] = ("Exp",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Raise the base."""
        param = self.layer.proto.exp_param
        log_base = 1.0 if param.base == -1 else math.log(param.base)
        return (torch.exp(log_base * (param.shift + param.scale * bottoms[0])),)


class Log(LayerModule):
    """``log_base(shift + scale · x)``; base −1 stands for e."""

    types: ClassVar[tuple[str, ...]] = ("Log",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Take the logarithm."""
        param = self.layer.proto.log_param
        log_base = 1.0 if param.base == -1 else math.log(param.base)
        return (torch.log(param.shift + param.scale * bottoms[0]) / log_base,)


class Softmax(LayerModule):
    """``exp(x − max) / Σ`` along an axis."""

    types: ClassVar[tuple[str, ...]] = ("Softmax",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Normalise."""
        return (F.softmax(bottoms[0], self.layer.proto.softmax_param.axis),)


class Dropout(LayerModule):
    """Values dropped at random while training; the identity at TEST.

    With ``scale_train: false`` training does not scale, so TEST multiplies by the share kept.

    Attributes
    ----------
    drops : bool
        False: the identity while training, too.
    """

    types: ClassVar[tuple[str, ...]] = ("Dropout",)

    def __init__(self, layer: Layer, blobs: Sequence[nn.Parameter]) -> None:
        super().__init__(layer, blobs)
        self.drops = True

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Drop, or pass on."""
        param = self.layer.proto.dropout_param
        keep = 1 - param.dropout_ratio
        if self.training and self.drops:
            dropped = F.dropout(bottoms[0], param.dropout_ratio)
            return (dropped if param.scale_train else dropped * keep,)
        return (bottoms[0] if param.scale_train else bottoms[0] * keep,)


class Affine(LayerModule):
    """Scale and Bias: a learnt factor or summand, or a second bottom, from an axis on."""

    types: ClassVar[tuple[str, ...]] = ("Scale", "Bias")

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Broadcast from the axis on."""
        x = bottoms[0]
        if self.layer.type == "Bias":
            bias = bottoms[1] if len(bottoms) == 2 else self.blob(0)
            return (x + _spread(bias, self.layer.proto.bias_param.axis, x.ndim),)
        param = self.layer.proto.scale_param
        y = x * _spread(bottoms[1] if len(bottoms) == 2 else self.blob(0), param.axis, x.ndim)
        if param.bias_term:
            y = y + _spread(self.blob(len(self.blobs) - 1), param.axis, x.ndim)
        return (y,)


class Axpy(LayerModule):
    """``a·x + y`` with one a for each channel."""

    types: ClassVar[tuple[str, ...]] = ("Axpy",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Scale and add."""
        a, x, y = bottoms
        return (a.reshape(*x.shape[:2], *[1] * (x.ndim - 2)) * x + y,)


class Normalize(LayerModule):
    """``scale · x / √(Σx² + eps)`` over channels or the whole image (forks)."""

    types: ClassVar[tuple[str, ...]] = ("Normalize",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Normalise, then scale."""
        x, param = bottoms[0], self.layer.proto.norm_param
        if not self.blobs:
            return (x / x.square().sum(tuple(range(1, x.ndim)), keepdim=True).sqrt(),)
        axes = tuple(range(1, x.ndim)) if param.across_spatial else (1,)
        norm = (x.square().sum(axes, keepdim=True) + param.eps).sqrt()
        return (per_channel(self.blob(0), x.ndim) * x / norm,)


def _spread(factor: Tensor, axis: int, ndim: int) -> Tensor:
    """Reshape a factor so that it broadcasts from ``axis`` on."""
    if factor.ndim == 0:
        return factor
    axis %= ndim
    return factor.reshape((1,) * axis + tuple(factor.shape) + (1,) * (ndim - axis - factor.ndim))
