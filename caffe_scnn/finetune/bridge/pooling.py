"""Pooling and spatial pyramids, with Caffe's windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.layers.base import refuse
from caffe_scnn.layers.geometry import Window
from caffe_scnn.layers.pooling import AVE, LOWEST, MAX
from caffe_scnn.layers.pooling import Pooling as PoolingType
from caffe_scnn.layers.spp import SPP as SPPType
from caffe_scnn.model.net import Layer


class Pooling(LayerModule):
    """Maximum or average of a sliding window that may hang over the lower and right edge."""

    types: ClassVar[tuple[str, ...]] = ("Pooling",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Pool."""
        return pool(self.layer, bottoms[0])


class SPP(LayerModule):
    """Pooling to 1×1, 2×2, 4×4 … bins, flattened side by side."""

    types: ClassVar[tuple[str, ...]] = ("SPP",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Pool each level as a Pooling layer does."""
        x = bottoms[0]
        self.infer(bottoms)
        levels = SPPType().levels(self.layer, tuple(x.shape))
        tops = [pool(level, x)[0] for level in levels]
        return tops if len(tops) == 1 else (torch.cat([top.flatten(1) for top in tops], 1),)


def pool(layer: Layer, x: Tensor) -> list[Tensor]:
    """Pool (N, C, H, W) as ``pooling_param`` says; max pooling may have the positions as well."""
    kind = PoolingType()
    shape = tuple(x.shape)
    window, size = kind.window(layer, shape), kind.infer(layer, [shape])[0][2:]
    method = layer.proto.pooling_param.pool
    if method not in (MAX, AVE):
        raise refuse(layer, "stochastic pooling does not run on a CPU")
    # Padding on the left; on the right what the last window needs, which may be less than nothing.
    border = [
        (p, (out - 1) * s + k - n - p)
        for n, out, k, s, p in zip(
            shape[2:], size, window.kernel, window.stride, window.pad, strict=True
        )
    ]
    if method == AVE:
        return [_average(x, window, size, border)]
    padded = _padded(x, border, LOWEST)
    if len(layer.tops) == 1:
        return [F.max_pool2d(padded, window.kernel, window.stride)]
    y, at = F.max_pool2d(padded, window.kernel, window.stride, return_indices=True)
    width = padded.shape[3]
    row, column = at // width - window.pad[0], at % width - window.pad[1]
    mask = torch.where(y == LOWEST, -1, row * shape[3] + column)
    return [y, mask.to(x.dtype)]


def _padded(x: Tensor, border: list[tuple[int, int]], value: float) -> Tensor:
    (top, bottom), (left, right) = border
    if not any((top, bottom, left, right)):
        return x
    return F.pad(x, (left, right, top, bottom), value=value)


def _average(
    x: Tensor, window: Window, size: Sequence[int], border: list[tuple[int, int]]
) -> Tensor:
    """Divide each sum by its window's area within the padded image."""
    if window.kernel == tuple(x.shape[2:]) and not any(window.pad):
        return x.mean((2, 3), keepdim=True)
    total = F.avg_pool2d(_padded(x, border, 0.0), window.kernel, window.stride, divisor_override=1)
    height, width = (
        [min(i * s - p + k, n + p) - (i * s - p) for i in range(out)]
        for n, out, k, s, p in zip(
            x.shape[2:], size, window.kernel, window.stride, window.pad, strict=True
        )
    )
    area = torch.tensor(height)[:, None] * torch.tensor(width)
    return total / area.to(x)
