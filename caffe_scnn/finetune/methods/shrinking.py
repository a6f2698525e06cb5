"""Training under a penalty that makes weights zero, then without it on those that are left.

Until ``end`` (a share of the training) a penalty shrinks weights after every step. With a
``density`` it is moderate, small groups feel it more than large ones (adaptive group lasso, Wang
and Leng 2008; reweighted l1, Candès, Wakin, Boyd 2008), and the cubic schedule of gradual pruning
(Zhu and Gupta 2017) is kept: where more is left than it wants, the groups go that the penalty
would put to zero next. A λ that had to become as strong as the schedule demands would shrink what
is to stay, too. At ``end`` what is zero stays zero, and the rest is polished: the penalty has made
it smaller than the loss alone would have it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
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
SETTLE = 0.8  # of the time until ``end``: the schedule is done, and what is left settles
MODERATE = 1.0  # share of a typical group that the penalty alone would take until ``end``
FADE = 0.97  # of λ in a step that would have removed more than is wanted
ADAPTIVE = 2.0  # power by which small groups count more than large ones
MOST_ADAPTIVE = 8.0
FAINT = 1e-3  # of the typical norm: smaller groups count no more than these
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
    adaptive : float, optional
        Each group counts (typical norm / its own norm) to this power, and layers count alike: what
        is small goes, what is large is hardly shrunk. 0 is the papers' penalty. By default 2, or 0
        where ``strength`` is set.
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
    adaptive: float | None = field(
        default=None, metadata={"help": "power by which small groups count more [2]"}
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
            self.adaptive is None or 0 <= self.adaptive <= MOST_ADAPTIVE,
            f"adaptive must be in [0, {MOST_ADAPTIVE}], not {self.adaptive}",
        )
        require(
            self.form in ("proximal", "subgradient"),
            f'form must be "proximal" or "subgradient", not "{self.form}"',
        )

    @property
    def power(self) -> float:
        """By which small groups count more than large ones."""
        if self.adaptive is not None:
            return self.adaptive
        return ADAPTIVE if self.strength is None else 0.0


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
        self._sizes = [_rms(own.parameter.detach()) for own in self.weights]
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
    def cut(self, values: Sequence[Tensor], amount: float) -> list[Tensor]:
        """Return values without the groups that a step of this amount would put to zero.

        Unlike :meth:`shrunk` it looks at each family of groups alone, and leaves others as large
        as they are.
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

    def emphasis(self, size: float, norms: Tensor, count: int) -> Tensor:
        """Return what groups count more than by the number of their weights.

        Layers are penalised alike, whatever the size of their weights: ``r (r √n / ‖w_g‖)^power``
        for groups of n weights, in a layer whose weights had the root mean square r at the start.

        Parameters
        ----------
        size : float
            r.
        norms : Tensor
            Norms of groups.
        count : int
            n.
        """
        power = self._method.power
        if not power:
            return torch.ones_like(norms)
        typical = size * math.sqrt(count)
        tiny = torch.finfo(norms.dtype).tiny
        return size * (typical / norms.detach().clamp(min=max(FAINT * typical, tiny))) ** power

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
            values = [own * (own.abs() >= ZEROUT) for own in self._values()]
        else:
            values = self._stepped(step, rates)
        if self._method.strength is None:
            values = self._cut_to(values, self._wanted(step))
        self._put(values)
        self.constrain()
        if step.number >= max(1, round(self._method.end * step.total)):
            self._freeze()

    def _values(self) -> list[Tensor]:
        return [own.parameter.detach() for own in self.weights]

    def _put(self, values: Sequence[Tensor]) -> None:
        for own, value in zip(self.weights, values, strict=True):
            own.parameter.data.copy_(value)

    def _begin(self, step: Step, rates: Sequence[float]) -> None:
        """Find a moderate strength."""
        if self._start is None:
            self._start = self.left(self._values())
        if not self.strength and max(rates) > 0:
            self.strength = MODERATE * self.typical() / (max(rates) * self._steps(step))

    def _steps(self, step: Step) -> float:
        return max(1.0, self._method.end * step.total)

    def _wanted(self, step: Step) -> float:
        """Return what is to be left after a step."""
        assert self._start is not None
        time = min(1.0, step.number / (SETTLE * self._steps(step)))
        final = min(self._method.density, self._start)
        return final + (self._start - final) * (1 + math.cos(math.pi * time)) / 2

    def _stepped(self, step: Step, rates: Sequence[float]) -> list[Tensor]:
        """Take a proximal step; one that would remove too much is made weaker."""
        values = self.shrunk([self.strength * rate for rate in rates])
        if self._method.strength is None and max(rates) > 0:
            least = min(self._wanted(step), self.left(self._values()))
            if self.left(values) < least:
                weak, _ = self._between(
                    lambda strength: self.shrunk([strength * rate for rate in rates]),
                    self.strength,
                    least,
                )
                self.strength *= FADE
                return self.shrunk([weak * rate for rate in rates])
        return values

    def _cut_to(self, values: list[Tensor], wanted: float) -> list[Tensor]:
        """Drop the groups that are nearest to zero, if more is left than is wanted."""
        if self.left(values) <= wanted:
            return values
        both = [self.cut(values, amount) for amount in self._amounts(values, wanted)]
        # Whichever is nearer: a block may hold more than is wanted of a step.
        return min(both, key=lambda some: abs(self.left(some) - wanted))

    def _amounts(self, values: list[Tensor], wanted: float) -> tuple[float, float]:
        """Return cuts that leave at least and at most what is wanted."""
        strong = self.typical() or 1.0
        while self.left(self.cut(values, strong)) > wanted:
            strong *= 2
        return self._between(lambda amount: self.cut(values, amount), strong, wanted)

    def _between(
        self, shrink: Callable[[float], list[Tensor]], strong: float, wanted: float
    ) -> tuple[float, float]:
        """Narrow two amounts that leave at least and at most what is wanted."""
        weak, most, least = 0.0, 1.0, 0.0
        for _ in range(HALVINGS):
            middle = (weak + strong) / 2
            left = self.left(shrink(middle))
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
            self._put(self.cut(values, self._amounts(values, wanted)[1]))
        self._masks = Masks(self.weights)
        self.constrain()

    def describe(self) -> dict[str, float]:
        """Return what is left, and λ while it acts."""
        left = self.left(self._values())
        return {"density": left, "strength": 0.0 if self.settled else self.strength}

    def state(self) -> dict[str, Any]:
        """Return λ, what was there at the start, and the masks."""
        masks = None if self._masks is None else self._masks.state()
        return {
            "strength": self.strength,
            "start": self._start,
            "sizes": self._sizes,
            "masks": masks,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.strength, self._start = state["strength"], state["start"]
        self._sizes = state["sizes"]
        if state["masks"] is not None:
            self._masks = Masks(self.weights)
            self._masks.restore(state["masks"])


def _rms(values: Tensor) -> float:
    """Return the root of the mean of the squares."""
    return float(values.square().mean().sqrt())


def median(values: Sequence[Tensor]) -> float:
    """Return the median of all positive values; 0 if there are none."""
    found = torch.cat([value.flatten() for value in values])
    found = found[found > 0]
    return float(found.median()) if found.numel() else 0.0
