"""Keep zeros: weights that are zero stay zero, the others are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from caffe_scnn.finetune.bridge import NetModule
from caffe_scnn.finetune.methods.base import Constraint, Step
from caffe_scnn.finetune.methods.weights import Weights, choose
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class Keep:
    """Train what is not zero, for nets that are sparse already.

    In a dense net that is everything.
    """

    name: ClassVar[str] = "keep"

    def prepare(self, net: Net) -> Net:
        """Train the net as it is."""
        return net

    def attach(self, module: NetModule, layers: Sequence[str] | None) -> Constraint:
        """Remember the zeros; by default those of all layers with weights."""
        return FixedSupport(choose(module, layers, lambda layer: True))


class FixedSupport(Constraint):
    """Weights that stay zero.

    Parameters
    ----------
    weights : sequence of Weights
        Their zeros as they are now.
    """

    def __init__(self, weights: Sequence[Weights]) -> None:
        self._weights = weights
        self._zeros = [own.parameter.detach() == 0 for own in weights]

    def after_step(self, step: Step) -> None:
        """Undo what the optimiser did to zeros."""
        for own, zeros in zip(self._weights, self._zeros, strict=True):
            own.parameter.data.masked_fill_(zeros, 0.0)

    def describe(self) -> dict[str, float]:
        """Return the share of non-zeros."""
        return {"density": density(self._weights)}


def density(weights: Sequence[Weights]) -> float:
    """Return non-zeros over weights, of some layers together."""
    total = sum(own.parameter.numel() for own in weights)
    return sum(int(torch.count_nonzero(own.parameter)) for own in weights) / total
