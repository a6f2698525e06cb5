"""Weights that are held at zero while the others are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_scnn.finetune.methods.base import Constraint, Step
from caffe_scnn.finetune.methods.weights import Weights


class Masks(Constraint):
    """Masks over the weights of some layers; the base keeps the zeros that it finds.

    Attributes
    ----------
    weights : list of Weights
    masks : list of bool Tensor
        True where a weight lives; in the shape of its parameter.
    """

    def __init__(self, weights: Sequence[Weights]) -> None:
        self.weights = list(weights)
        self.masks: list[Tensor] = [own.parameter.detach() != 0 for own in weights]

    def after_step(self, step: Step) -> None:
        """Undo what the optimiser did to the others."""
        self.apply()

    def apply(self) -> None:
        """Set to zero what does not live."""
        for own, mask in zip(self.weights, self.masks, strict=True):
            own.parameter.data.masked_fill_(~mask, 0.0)

    def describe(self) -> dict[str, float]:
        """Return the share of weights that live."""
        total = sum(mask.numel() for mask in self.masks)
        return {"density": sum(int(torch.count_nonzero(mask)) for mask in self.masks) / total}

    def state(self) -> dict[str, Any]:
        """Return the masks."""
        return {"masks": self.masks}

    def restore(self, state: dict[str, Any]) -> None:
        """Take masks back."""
        self.masks = [
            mask.to(own.parameter.device)
            for own, mask in zip(self.weights, state["masks"], strict=True)
        ]
