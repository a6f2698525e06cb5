"""Training under a penalty that makes weights zero, then without it on those that are left.

Until ``end`` (a share of the training) a penalty shrinks weights after every step. With a
``density`` its strength λ is found on the way: λ grows while more is left than the cubic schedule
of gradual pruning (Zhu and Gupta 2017) wants at that time, fades while less is, and no step goes
farther beyond the schedule than it must, groups being whole. At ``end`` what is zero stays zero,
and the rest is polished: the penalty has made it smaller than the loss alone would have it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from caffe_scnn.decompose.base import require
from caffe_scnn.finetune.methods.base import Constraint, Step
from caffe_scnn.finetune.methods.masks import Masks
from caffe_scnn.finetune.methods.weights import Weights

# Caffe's forks of both papers put values below this to zero after each sub-gradient step.
ZEROUT = 1e-4
SETTLE = 0.8  # of the time until ``end``: the schedule is done, and the strength settles
GROWTH = 50.0  # λ grows up to e^(GROWTH · LARGEST) times as strong until ``end``
LARGEST = 0.1  # error of the density that counts
FADE = 0.97  # of λ in a step that would have removed more than is wanted
HALVINGS = 24  # of the interval in which a strength is looked for: groups may be almost equal
NEAR = 1e-3  # two strengths that leave so nearly the same are as good as one


@dataclass(frozen=True)
class Shrinking:
    """What methods with a penalty have in common.

    Attributes
    ----------
    density : float
        What is to be left at ``end``; each method says of what.
    strength : float, optional
        λ itself, instead of a density.
    end : float
        Share of the training after which zeros stay zero and the rest is trained without penalty.
    form : {"proximal", "subgradient"}
        How the penalty acts: by proximal steps, or as the papers' authors do, by sub-gradients and
        a threshold of 1e-4 after every step.
    """

    density: float = field(default=0.1, metadata={"help": "what is to be left at the end"})
    strength: float | None = field(
        default=None, metadata={"help": "strength of the penalty, instead of a density"}
    )
    end: float = field(
        default=0.6, metadata={"help": "share of the training where zeros become final"}
    )
    form: Literal["proximal", "subgradient"] = field(
        default="proximal", metadata={"help": "proximal steps, or sub-gradients and a threshold"}
    )

    def __post_init__(self) -> None:
        require(0 < self.density <= 1, f"density must be in (0, 1], not {self.density}")
        require(
            self.strength is None or self.strength > 0,
            f"strength must be positive, not {self.strength}",
        )
        require(0 < self.end <= 1, f"end must be in (0, 1], not {self.end}")
        require(
            self.form in ("proximal", "subgradient"),
            f'form must be "proximal" or "subgradient", not "{self.form}"',
        )


class Shrinker(Constraint):
    """Weights that a penalty shrinks; methods say which penalty, and what is counted.

    Parameters
    ----------
    method : Shrinking
    weights : sequence of Weights
    """

    def __init__(self, method: Shrinking, weights: Sequence[Weights]) -> None:
        self.weights = list(weights)
        self.strength = method.strength or 0.0
        self._method = method
        self._start: float | None = None
        self._masks: Masks | None = None

    @abstractmethod
    def shrunk(self, amounts: Sequence[float]) -> list[Tensor]:
        """Return the weights after a proximal step.

        Parameters
        ----------
        amounts : sequence of float
            λ times the length of the step, for each of the weights.
        """

    @abstractmethod
    def left(self, values: Sequence[Tensor]) -> float:
        """Return what is left if the weights are these: what ``density`` speaks of."""

    @abstractmethod
    def cost(self) -> Tensor:
        """Return the penalty of strength 1, for sub-gradients."""

    @abstractmethod
    def typical(self) -> float:
        """Return the amount that would put about half of the weights to zero."""

    def constrain(self) -> None:
        """Do what holds after every step, with or without a penalty."""

    @property
    def settled(self) -> bool:
        """Zeros have become final."""
        return self._masks is not None

    def penalty(self) -> Tensor | None:
        """Return λ times the penalty, if it acts by sub-gradients."""
        if self._method.form == "proximal" or self.settled or not self.strength:
            return None
        return self.strength * self.cost()

    def after_step(self, step: Step) -> None:
        """Shrink; from ``end`` on, undo what the optimiser did to zeros."""
        if self._masks is not None:
            self._masks.apply()
            self.constrain()
            return
        rates = [step.rate(own.parameter) for own in self.weights]
        self._begin(step, rates)
        if self._method.form == "subgradient":
            self._put([own * (own.abs() >= ZEROUT) for own in self._values()])
            self._adapt(self.left(self._values()), step)
        else:
            self._shrink(step, rates)
        self.constrain()
        if step.number >= max(1, round(self._method.end * step.total)):
            self._freeze()

    def _values(self) -> list[Tensor]:
        return [own.parameter.detach() for own in self.weights]

    def _put(self, values: Sequence[Tensor]) -> None:
        for own, value in zip(self.weights, values, strict=True):
            own.parameter.data.copy_(value)

    def _begin(self, step: Step, rates: Sequence[float]) -> None:
        """Find a strength to start with: one that alone would halve the weights until the end."""
        if self._start is None:
            self._start = self.left(self._values())
        if not self.strength and max(rates) > 0:
            self.strength = self.typical() / (max(rates) * self._steps(step))

    def _steps(self, step: Step) -> float:
        return max(1.0, self._method.end * step.total)

    def _wanted(self, step: Step) -> float:
        """Return what is to be left after a step."""
        assert self._start is not None
        time = min(1.0, step.number / (SETTLE * self._steps(step)))
        final = min(self._method.density, self._start)
        return final + (self._start - final) * (1 - time) ** 3

    def _shrink(self, step: Step, rates: Sequence[float]) -> None:
        """Take a proximal step; one that would remove too much is taken as near as can be."""
        values = self.shrunk([self.strength * rate for rate in rates])
        if self._method.strength is None:
            left, wanted = self.left(values), self._wanted(step)
            if left < wanted and max(rates) > 0:
                found = self._between(0.0, self.strength, wanted, rates)
                both = [self.shrunk([strength * rate for rate in rates]) for strength in found]
                # Whichever is nearer: a block may hold more than is wanted of a step.
                values = min(both, key=lambda some: abs(self.left(some) - wanted))
            self._adapt(left, step)
        self._put(values)

    def _adapt(self, left: float, step: Step) -> None:
        """Make λ stronger or weaker for the next step."""
        if self._method.strength is not None:
            return
        error = left - self._wanted(step)
        if error < 0:
            self.strength *= FADE
        else:
            self.strength *= math.exp(GROWTH * min(error, LARGEST) / self._steps(step))

    def _between(
        self, weak: float, strong: float, wanted: float, rates: Sequence[float]
    ) -> tuple[float, float]:
        """Narrow two strengths that leave at least and less than is wanted."""
        most, least = 1.0, 0.0
        for _ in range(HALVINGS):
            middle = (weak + strong) / 2
            left = self.left(self.shrunk([middle * rate for rate in rates]))
            if left < wanted:
                strong, least = middle, left
            else:
                weak, most = middle, left
            if most - least <= NEAR:
                break
        return weak, strong

    def _freeze(self) -> None:
        """Make zeros final; if too much is left, the weakest of it goes as well."""
        values, wanted = self._values(), self._method.density
        if self._method.strength is None and self.left(values) > wanted:
            ones = [1.0] * len(values)
            strong = self.typical() or 1.0
            while self.left(self.shrunk([strong * one for one in ones])) > wanted:
                strong *= 2
            _, strong = self._between(0.0, strong, wanted, ones)
            pattern = self.shrunk([strong * one for one in ones])
            self._put([v * (p != 0) for v, p in zip(values, pattern, strict=True)])
        self._masks = Masks(self.weights)
        self.constrain()

    def describe(self) -> dict[str, float]:
        """Return what is left, and λ while it acts."""
        left = self.left(self._values())
        return {"density": left, "strength": 0.0 if self.settled else self.strength}

    def state(self) -> dict[str, Any]:
        """Return λ, what was there at the start, and the masks."""
        masks = None if self._masks is None else self._masks.state()
        return {"strength": self.strength, "start": self._start, "masks": masks}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.strength, self._start = state["strength"], state["start"]
        if state["masks"] is not None:
            self._masks = Masks(self.weights)
            self._masks.restore(state["masks"])


def median(values: Sequence[Tensor]) -> float:
    """Return the median of all values that are not zero; 0 if there are none."""
    found = torch.cat([value.flatten() for value in values])
    found = found[found != 0]
    return float(found.median()) if found.numel() else 0.0
