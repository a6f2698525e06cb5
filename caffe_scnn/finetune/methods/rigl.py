"""RigL: a sparse net from the first step, whose zeros move to where the gradient wants weights.

Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020: every ΔT steps a share
of each layer's weights, the smallest, is dropped, and as many come to life, at zero, where the
gradient of the loss is largest. The share falls to nothing on a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from caffe_scnn.decompose.base import require
from caffe_scnn.finetune.bridge import NetModule
from caffe_scnn.finetune.methods.base import Constraint, Step
from caffe_scnn.finetune.methods.masks import Masks
from caffe_scnn.finetune.methods.weights import Weights, choose, is_pointwise
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class RigL:
    """Drop small weights and grow others where the gradient is large, at a fixed density.

    Attributes
    ----------
    density : float
        Non-zeros over weights of every chosen layer; a layer that is sparser stays so. A denser
        one loses its smallest weights at once.
    share : float
        Weights that are exchanged at first, over those that live.
    every : int
        Steps from one exchange to the next.
    end : float
        Share of the training after which nothing moves any more.
    """

    name: ClassVar[str] = "rigl"

    density: float = field(default=0.2, metadata={"help": "non-zeros over weights"})
    share: float = field(default=0.3, metadata={"help": "share of the weights exchanged at first"})
    every: int = field(default=100, metadata={"help": "steps from one exchange to the next"})
    end: float = field(default=0.75, metadata={"help": "share of the training where it ends"})

    def __post_init__(self) -> None:
        require(0 < self.density <= 1, f"density must be in (0, 1], not {self.density}")
        require(0 <= self.share < 1, f"share must be in [0, 1), not {self.share}")
        require(0 < self.end <= 1, f"end must be in (0, 1], not {self.end}")
        require(self.every >= 1, f"every must be at least 1 step, not {self.every}")

    def prepare(self, net: Net, layers: Sequence[str] | None = None) -> Net:
        """Train the net as it is."""
        return net

    def attach(self, module: NetModule, layers: Sequence[str] | None) -> Constraint:
        """Make the chosen layers sparse."""
        return Exchange(self, choose(module, layers, is_pointwise))


class Exchange(Masks):
    """Masks of a constant number of weights."""

    def __init__(self, method: RigL, weights: Sequence[Weights]) -> None:
        super().__init__(weights)
        self._method = method
        for index, own in enumerate(weights):
            living = int(torch.count_nonzero(self.masks[index]))
            count = min(living, round(method.density * own.parameter.numel()))
            self.masks[index] = _top(own.parameter.detach().abs(), count)
        self.apply()

    def before_step(self, step: Step) -> None:
        """Exchange weights when it is time, while the gradients of the dead are known."""
        method = self._method
        if step.number % method.every or step.number > method.end * step.total:
            return
        time = step.number / (method.end * step.total)
        share = method.share / 2 * (1 + math.cos(math.pi * time))
        for index, own in enumerate(self.weights):
            gradient = own.parameter.grad
            if gradient is None:
                continue
            self.masks[index], grown = _exchanged(
                own.parameter.detach(), gradient, self.masks[index], share
            )
            _forget(step, own, grown)
        self.apply()


def _exchanged(
    weights: Tensor, gradient: Tensor, mask: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Return the new mask, and what has come to life."""
    living = int(torch.count_nonzero(mask))
    count = min(round(share * living), mask.numel() - living)
    kept = _top(weights.abs().masked_fill(~mask, -1.0), living - count)
    grown = _top(gradient.abs().masked_fill(kept, -1.0), count)
    return kept | grown, grown & ~mask


def _forget(step: Step, own: Weights, grown: Tensor) -> None:
    """Let what has come to life begin without momentum, and without a gradient of its past."""
    for value in step.optimizer.state.get(own.parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == grown.shape:
            value.masked_fill_(grown, 0.0)


def _top(values: Tensor, count: int) -> Tensor:
    """Mark the largest ``count`` values; of equal ones the first."""
    order = torch.argsort(values.reshape(-1), descending=True, stable=True)[:count]
    mask = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    mask[order] = True
    return mask.view_as(values)
