"""Caffe's losses: one number for a batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.layers.loss import LOG_FLOOR, TINY, normalizer
from caffe_scnn.proto import caffe_pb2 as pb


class Loss(LayerModule):
    """Base of the losses."""

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Compute the loss."""
        self.infer(bottoms)
        return [self.loss(*bottoms)][: len(self.layer.tops)]

    @abstractmethod
    def loss(self, *bottoms: Tensor) -> Tensor:
        """Return the loss of a batch."""

    def mean(self, total: Tensor, items: int, positions: int, valid: int) -> Tensor:
        """Divide as ``loss_param`` says."""
        return total / normalizer(self.layer, items, positions, valid)


class SoftmaxWithLoss(Loss):
    """``−mean log p(label)``; items of ``ignore_label`` do not count."""

    types: ClassVar[tuple[str, ...]] = ("SoftmaxWithLoss",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Compute the loss and, for a second top, the probabilities."""
        self.infer(bottoms)
        axis = self.layer.proto.softmax_param.axis
        return [self.loss(*bottoms), F.softmax(bottoms[0], axis)][: len(self.layer.tops)]

    def loss(self, *bottoms: Tensor) -> Tensor:
        """Take the logarithm of the label's probability, at least that of Caffe's floor."""
        scores, labels = _rows(bottoms[0], self.layer.proto.softmax_param.axis), _labels(bottoms[1])
        kept = torch.ones_like(labels, dtype=torch.bool)
        if self.layer.proto.loss_param.HasField("ignore_label"):
            kept = labels != self.layer.proto.loss_param.ignore_label
        p = F.softmax(scores[kept], 1).gather(1, labels[kept, None])
        items = len(bottoms[0])
        total = -p.clamp(min=TINY).log().sum()
        return self.mean(total, items, len(labels) // items, int(kept.sum()))


class EuclideanLoss(Loss):
    """``Σ (a − b)² / 2N``."""

    types: ClassVar[tuple[str, ...]] = ("EuclideanLoss",)

    def loss(self, *bottoms: Tensor) -> Tensor:
        """Sum over everything."""
        a, b = bottoms
        return (a.reshape(-1) - b.reshape(-1)).square().sum() / len(a) / 2


class SigmoidCrossEntropyLoss(Loss):
    """Cross entropy of sigmoid(x) and targets in [0, 1]; by default over the batch size."""

    types: ClassVar[tuple[str, ...]] = ("SigmoidCrossEntropyLoss",)

    def loss(self, *bottoms: Tensor) -> Tensor:
        """Use the form that does not overflow."""
        x, target = bottoms[0].reshape(-1), bottoms[1].reshape(-1)
        param = self.layer.proto.loss_param
        kept = torch.ones_like(x, dtype=torch.bool)
        if param.HasField("ignore_label"):
            kept = target.long() != param.ignore_label
        total = F.binary_cross_entropy_with_logits(x[kept], target[kept], reduction="sum")
        items = len(bottoms[0])
        if not (param.HasField("normalization") or param.HasField("normalize")):
            return total / items
        return self.mean(total, items, len(x) // items, int(kept.sum()))


class HingeLoss(Loss):
    """``Σ max(0, 1 − t·x)``, once or squared, over N."""

    types: ClassVar[tuple[str, ...]] = ("HingeLoss",)

    def loss(self, *bottoms: Tensor) -> Tensor:
        """Take t = 1 for the label's class, −1 for the others."""
        x = bottoms[0].flatten(1)
        sign = 1 - 2 * F.one_hot(_labels(bottoms[1]), x.shape[1]).to(x.dtype)
        margin = F.relu(1 + sign * x)
        squared = self.layer.proto.hinge_loss_param.norm == pb.HingeLossParameter.L2
        return (margin.square() if squared else margin).sum() / len(x)


class MultinomialLogisticLoss(Loss):
    """``−mean log p(label)`` of probabilities."""

    types: ClassVar[tuple[str, ...]] = ("MultinomialLogisticLoss",)

    def loss(self, *bottoms: Tensor) -> Tensor:
        """Keep the logarithm finite."""
        p = bottoms[0].flatten(1).gather(1, _labels(bottoms[1])[:, None])
        return -p.clamp(min=LOG_FLOOR).log().sum() / len(p)


class InfogainLoss(Loss):
    """``−mean Σ H(label, k) log p(k)``; H is the third bottom."""

    types: ClassVar[tuple[str, ...]] = ("InfogainLoss",)

    def loss(self, *bottoms: Tensor) -> Tensor:
        """Take the probabilities from a softmax of the scores."""
        p = F.softmax(_rows(bottoms[0], self.layer.proto.infogain_loss_param.axis), 1)
        labels = _labels(bottoms[1])
        gain = bottoms[2].reshape(p.shape[1], p.shape[1])[labels]
        items = len(bottoms[0])
        total = -(gain * p.clamp(min=LOG_FLOOR).log()).sum()
        return self.mean(total, items, len(labels) // items, len(labels))


class ContrastiveLoss(Loss):
    """``Σ y d² + (1 − y) max(margin − d, 0)²`` over 2N; the legacy form takes d² for d."""

    types: ClassVar[tuple[str, ...]] = ("ContrastiveLoss",)

    def loss(self, *bottoms: Tensor) -> Tensor:
        """Take the distance of pairs."""
        param = self.layer.proto.contrastive_loss_param
        a, b, same = bottoms
        square = (a - b).flatten(1).square().sum(1)
        if param.legacy_version:
            far = F.relu(param.margin - square)
        else:
            # The root's slope at 0 is infinite: Caffe adds a little there, too.
            far = F.relu(param.margin - square.clamp(min=1e-16).sqrt()).square()
        return torch.where(same.reshape(-1) != 0, square, far).sum() / len(a) / 2


def _rows(scores: Tensor, axis: int) -> Tensor:
    return scores.movedim(axis, -1).flatten(0, -2)


def _labels(values: Tensor) -> Tensor:
    return values.reshape(-1).long()
