"""Gradual magnitude pruning: the smallest weights go, a few at a time, while the rest adapts.

Zhu and Gupta, "To prune, or not to prune", 2017: from the density at the start to the one that is
wanted, fast at first and slowly at the end; the density above the final one falls with the cube
of the time that is left. Elsen et al., "Fast Sparse ConvNets", CVPR 2020, prune only 1×1
convolutions this way, single weights or blocks along the output channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from caffe_scnn.decompose.base import require
from caffe_scnn.decompose.pattern import Pattern
from caffe_scnn.finetune.bridge import NetModule
from caffe_scnn.finetune.methods.base import Constraint, Step
from caffe_scnn.finetune.methods.masks import Masks
from caffe_scnn.finetune.methods.weights import Weights, choose, is_pointwise
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class Gradual:
    """Prune by magnitude on a cubic schedule; by default the 1×1 convolutions.

    Attributes
    ----------
    density : float
        Non-zeros over weights of every chosen layer at the end.
    begin, end : float
        Shares of the training at which pruning begins and ends.
    every : int
        Steps from one pruning to the next.
    pattern : str
        ``1x1``, ``2x1``, ``4x1``, ``16x1``: weights of so many neighbouring output channels go
        together; ``2:4``: at most two of four neighbouring inputs are kept.
    """

    name: ClassVar[str] = "gradual"

    density: float = field(default=0.2, metadata={"help": "non-zeros over weights at the end"})
    begin: float = field(default=0.0, metadata={"help": "share of the training where it begins"})
    end: float = field(default=0.6, metadata={"help": "share of the training where it ends"})
    every: int = field(default=10, metadata={"help": "steps from one pruning to the next"})
    pattern: str = field(default="1x1", metadata={"help": "1x1, 2x1, 4x1, 16x1 or N:M"})

    def __post_init__(self) -> None:
        require(0 < self.density <= 1, f"density must be in (0, 1], not {self.density}")
        require(
            0 <= self.begin < self.end <= 1,
            f"begin and end must be 0 <= begin < end <= 1, not {self.begin} and {self.end}",
        )
        require(self.every >= 1, f"every must be at least 1 step, not {self.every}")
        Pattern.parse(self.pattern)

    def prepare(self, net: Net, layers: Sequence[str] | None = None) -> Net:
        """Train the net as it is."""
        return net

    def attach(self, module: NetModule, layers: Sequence[str] | None) -> Constraint:
        """Begin with the zeros that are there."""
        return Pruning(self, choose(module, layers, is_pointwise))


class Pruning(Masks):
    """Masks that lose weights as time goes by."""

    def __init__(self, method: Gradual, weights: Sequence[Weights]) -> None:
        super().__init__(weights)
        self._method = method
        self._pattern = Pattern.parse(method.pattern)
        self._start = [float(mask.float().mean()) for mask in self.masks]

    @property
    def settled(self) -> bool:
        """Every layer has got its final density."""
        return all(
            int(torch.count_nonzero(mask)) <= round(self._method.density * mask.numel())
            for mask in self.masks
        )

    def after_step(self, step: Step) -> None:
        """Prune when it is time."""
        self.apply()
        method = self._method
        last = round(method.end * step.total)
        due = step.number % method.every == 0 and step.number > method.begin * step.total
        if (due and step.number < last) or step.number == max(last, 1):
            time = min(1.0, (step.number / step.total - method.begin) / (method.end - method.begin))
            for index, own in enumerate(self.weights):
                self.masks[index] = self._largest(own, self._wanted(index, time))
            self.apply()

    def _wanted(self, index: int, time: float) -> float:
        start, final = self._start[index], self._method.density
        return final + max(0.0, start - final) * (1 - time) ** 3

    def _largest(self, own: Weights, density: float) -> torch.Tensor:
        """Return a mask of the largest weights; with a pattern they go together."""
        weights = own.matrix().cpu().numpy().astype(np.float64)
        keep = self._pattern.largest(weights, round(density * weights.size))
        mask = torch.zeros_like(own.parameter, dtype=torch.bool)
        own.matrix(mask).copy_(torch.from_numpy(keep))
        return mask
