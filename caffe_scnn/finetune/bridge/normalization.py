"""Normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caffe_scnn.finetune.bridge.base import LayerModule, per_channel
from caffe_scnn.layers.bn import BN as BNType
from caffe_scnn.layers.bn import SEGNET_EPS
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb


class BatchNorm(LayerModule):
    """``(x − mean) / √(var + eps)`` per channel; mean and variance are sums over a factor.

    Attributes
    ----------
    batch_statistics : bool
        While the module trains, normalise with the batch's statistics and add them to the stored
        ones, as Caffe does in its TRAIN phase (unless the layer says ``use_global_stats``). False,
        the default, keeps the stored ones: small batches make poor statistics.
    """

    types: ClassVar[tuple[str, ...]] = ("BatchNorm",)
    statistics: ClassVar[tuple[int, ...]] = (0, 1, 2)

    def __init__(self, layer: Layer, blobs: Sequence[nn.Parameter]) -> None:
        super().__init__(layer, blobs)
        self.batch_statistics = False

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Normalise with the stored statistics, or with the batch's own."""
        x, param = bottoms[0], self.layer.proto.batch_norm_param
        stored = not (self.training and self.batch_statistics)
        if param.HasField("use_global_stats"):
            stored = param.use_global_stats
        if stored:
            factor = self.blob(2)
            scale = torch.where(factor == 0, 0.0, 1 / factor)
            mean, variance = self.blob(0) * scale, self.blob(1) * scale
        else:
            axes = (0, *range(2, x.ndim))
            mean, variance = x.mean(axes), x.var(axes, correction=0)
            if self.training:
                self._accumulate(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        deviation = (variance + param.eps).sqrt()
        return ((x - per_channel(mean, x.ndim)) / per_channel(deviation, x.ndim),)

    @torch.no_grad()
    def _accumulate(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Let the sums fade and add the batch's, the variance without bias."""
        fading = self.layer.proto.batch_norm_param.moving_average_fraction
        unbiased = variance * (count / (count - 1) if count > 1 else 1.0)
        for blob, value in zip(self.blobs, (mean, unbiased, 1.0), strict=True):
            blob.mul_(fading).add_(value)


class BN(LayerModule):
    """Batch normalisation of two forks: slope, bias, mean, variance; or scale and shift."""

    types: ClassVar[tuple[str, ...]] = ("BN",)

    @classmethod
    def gradient_free(cls, layer: Layer) -> tuple[int, ...]:
        """Of four blobs the last two are statistics."""
        return (2, 3) if len(layer.blobs) == 4 else ()

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Normalise, then scale and shift."""
        x = bottoms[0]
        assert isinstance(self.kind, BNType)
        if len(self.blobs) == 4:
            mean, variance = self.blob(2), self.blob(3)
            x = (x - _like(mean, x)) / (_like(variance, x) + self.layer.proto.bn_param.eps).sqrt()
        elif self.layer.proto.bn_param.bn_mode == pb.BNParameter.LEARN:
            axes = (0, *range(2, x.ndim))
            variance = x.var(axes, keepdim=True, correction=0)
            x = (x - x.mean(axes, keepdim=True)) / (variance + SEGNET_EPS).sqrt()
        return (x * _like(self.blob(0), x) + _like(self.blob(1), x),)


class LRN(LayerModule):
    """Local response normalisation across channels or in a window."""

    types: ClassVar[tuple[str, ...]] = ("LRN",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Divide by the norm of the neighbourhood; within a channel Caffe ignores k."""
        self.infer(bottoms)
        x, param = bottoms[0], self.layer.proto.lrn_param
        size = int(param.local_size)
        if param.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
            return (F.local_response_norm(x, size, param.alpha, param.beta, param.k),)
        mean = F.avg_pool2d(x.square(), size, 1, size // 2)
        return (x * (1 + param.alpha * mean) ** -param.beta,)


class MVN(LayerModule):
    """Mean removed and, if asked, variance divided out."""

    types: ClassVar[tuple[str, ...]] = ("MVN",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Normalise per channel, or with across_channels per item; eps joins the deviation."""
        x, param = bottoms[0], self.layer.proto.mvn_param
        axes = tuple(range(1 if param.across_channels else 2, x.ndim))
        y = x - x.mean(axes, keepdim=True)
        if param.normalize_variance:
            y = y / (y.square().mean(axes, keepdim=True).sqrt() + param.eps)
        return (y,)


def _like(values: Tensor, x: Tensor) -> Tensor:
    return per_channel(values.reshape(-1), x.ndim)
