"""From what the whole net is to reach to a size for every layer: predict, fit, measure, correct.

Curves say what every layer would lose and cost (:mod:`~caffe_scnn.decompose.curves`), a budget
decides among them (:mod:`~caffe_scnn.decompose.allocate`), and the net that comes of it is made and
measured. Where the whole differs from the sum of its parts the budget is corrected and the net
made again. The result is a recipe with a size for every layer; carrying it out needs no search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from caffe_scnn.decompose.allocate import NAMES, Curve, allocate, least
from caffe_scnn.decompose.base import Edit
from caffe_scnn.decompose.carry_out import carry_out
from caffe_scnn.decompose.channel_curves import ChannelCurves
from caffe_scnn.decompose.costs import Cost, Meter, Resource
from caffe_scnn.decompose.curves import curves
from caffe_scnn.decompose.fit import Setting
from caffe_scnn.decompose.prune import choose_groups, takes_channels
from caffe_scnn.decompose.ranked import RankedMethod
from caffe_scnn.decompose.ranks import ranked_curves
from caffe_scnn.decompose.recipe import Goal, Recipe
from caffe_scnn.decompose.select import Target, select
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Net
from caffe_scnn.passes.channels import Channels

# A net's drop against the original, in percent points, on images kept for this.
Check = Callable[[Net], float]

# Nets that are made for one target at most: while correcting, and while looking for a drop.
CORRECTIONS, TRIALS = 5, 7
# Of a target; a net that stays within it by less than this is not corrected any more.
SLACK = 0.03


@dataclass(frozen=True)
class Choice:
    """What is planned for one layer.

    Attributes
    ----------
    layer : str
        And those that share its weights.
    goal : Goal, optional
        None: it stays as it is.
    before, after : float
        What it costs, of the resource that counts.
    loss : float
        What the net is expected to lose by it, in the divergence of its answers (without images:
        the squared relative error).
    """

    layer: str
    goal: Goal | None
    before: float
    after: float
    loss: float


@dataclass(frozen=True, eq=False)
class Plan:
    """What every layer is to become.

    Attributes
    ----------
    recipe : Recipe
        Resolved: with a goal for every layer that changes.
    choices : tuple of Choice
        One per layer that could be compressed, in file order.
    resource : {"macs", "time", "size"}
    whole, predicted : float
        What the whole net costs, and what it would.
    """

    recipe: Recipe
    choices: tuple[Choice, ...]
    resource: Resource
    whole: float
    predicted: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """A net made by a resolved recipe."""

    recipe: Recipe
    net: Net
    edits: list[Edit]


class Search:
    """Looks for the sizes of a net's layers.

    Parameters
    ----------
    setting : Setting
    recipe : Recipe
        With a target of the whole net.
    check : callable, optional
        For ``max_drop``: see :data:`Check`.
    threads : int, optional
        Threads of the engine, where time is measured.
    """

    def __init__(
        self,
        setting: Setting,
        recipe: Recipe,
        check: Check | None = None,
        threads: int | None = None,
    ) -> None:
        if recipe.max_drop is not None and check is None:
            raise ModelError("max_drop needs images to check on")
        self._setting = setting
        self._recipe = recipe
        self._check = check
        self._resource = recipe.resource
        self._net = setting.net.copy()
        self._meter = Meter(self._net, self._resource == "time", threads)
        self._targets, self._curves = self._measured_targets()
        self._whole = self._measured("whole", self._net)
        self._theirs = sum(float(curve.costs[self._resource][-1]) for curve in self._curves)
        # Layers alone can take longer than in the net, where others leave them warm caches.
        self._rest = max(self._whole - self._theirs, 0.0)

    def _measured_targets(self) -> tuple[list[Target], list[Curve]]:
        """Return what may become smaller, and what the net loses and costs then."""
        setting, recipe, net = self._setting, self._recipe, self._net
        fits = TRIALS if recipe.max_drop is not None else 1
        if takes_channels(recipe):
            channels = Channels(net)
            chosen = choose_groups(channels, recipe)
            setting.progress.expect((1 + fits) * len(chosen))
            found = ChannelCurves(setting, channels, chosen, self._meter).curves()
            return [Target(one.group.makers, one.goal) for one in chosen], found
        targets = select(net, recipe)
        setting.progress.expect((1 + fits) * len(targets))
        given = setting, net, targets, recipe.seed, self._meter
        method = recipe.goal_of_all.method
        if isinstance(method, RankedMethod) and method.ranks != "answers":
            return targets, ranked_curves(*given, method.ranks)
        return targets, curves(*given, self._resource)

    def plan(self) -> Plan:
        """Return what would be tried first: for ``max_drop`` half of what can be saved."""
        return self._plan(self._first_budget())

    def run(self) -> Fitted:
        """Return the best net that reaches the target.

        Raises
        ------
        ModelError
            The target is out of reach.
        """
        if self._recipe.max_drop is not None:
            return self._within_drop(self._recipe.max_drop)
        return self._within_budget()

    @property
    def _limit(self) -> float:
        """What the whole net may cost."""
        recipe = self._recipe
        if recipe.speedup is not None:
            return self._whole / recipe.speedup
        return float(recipe.size) if recipe.size is not None else self._whole * (recipe.macs or 1.0)

    def _first_budget(self) -> float:
        if self._recipe.max_drop is None:
            return self._limit - self._rest
        return (least(self._curves, self._resource) + self._theirs) / 2

    def _within_budget(self) -> Fitted:
        """Correct the budget until the net that is made costs what it may."""
        limit, budget = self._limit, self._first_budget()
        lowest = least(self._curves, self._resource)
        tried = [(self._theirs, self._whole)]
        best, best_cost = None, 0.0
        for _ in range(CORRECTIONS):
            fitted = self._fit(self._plan(budget).recipe)
            cost = self._cost(fitted)
            if best_cost < cost <= limit:
                best, best_cost = fitted, cost
            if limit * (1 - SLACK) <= cost <= limit or budget <= lowest:
                break
            tried.append((budget, cost))
            budget = _next_budget(tried, limit, lowest)
        if best is None:
            raise ModelError(
                f"the target was missed: {limit:.5g} {NAMES[self._resource]} were wanted, and the "
                f"last net that was made needs {cost:.5g}; name more layers (--layers), or ask "
                "for less"
            )
        return best

    def _within_drop(self, limit: float) -> Fitted:
        """Halve the range between the cheapest net and the original."""
        assert self._check is not None
        low = least(self._curves, self._resource)
        high = self._theirs
        best, drops = None, []
        for _ in range(TRIALS):
            budget = (low + high) / 2
            fitted = self._fit(self._plan(budget).recipe)
            drops.append(self._drop(fitted))
            if drops[-1] <= limit:
                best, high = fitted, budget
            else:
                low = budget
        if best is None:
            raise ModelError(
                f"no net within a drop of {limit:g} points was found: the nearest to the original "
                f"that was made lost {min(drops):.3g}; calibrate on more images, or allow more"
            )
        return best

    def _plan(self, budget: float) -> Plan:
        points = allocate(self._curves, budget, self._resource)
        choices = tuple(
            _choice(target, curve, point, self._resource)
            for target, curve, point in zip(self._targets, self._curves, points, strict=True)
        )
        overrides = {
            layer.name: choice.goal
            for target, choice in zip(self._targets, choices, strict=True)
            if choice.goal is not None
            for layer in target.layers
        }
        if not overrides:
            raise ModelError(
                "the net is there already: nothing has to be compressed to reach the target"
            )
        recipe = replace(
            self._recipe.without_target(), layers=tuple(overrides), overrides=overrides
        )
        predicted = self._rest + sum(choice.after for choice in choices)
        return Plan(recipe, choices, self._resource, self._whole, predicted)

    def _fit(self, recipe: Recipe) -> Fitted:
        return Fitted(recipe, *carry_out(self._setting, recipe))

    def share(self, fitted: Fitted) -> float:
        """Return what a net costs over what the original does, measured in turns."""
        return self._cost(fitted) / self._whole

    def _cost(self, fitted: Fitted) -> float:
        """Measure a net that was made; for time in turns with the original."""
        if self._resource != "time":
            return self._measured("cost " + fitted.recipe.text(), fitted.net)
        key = "speedup " + fitted.recipe.text()
        numbers = self._setting.journal.numbers(key)
        if numbers is None:
            numbers = {"speedup": self._meter.speedup(self._setting.net, fitted.net)}
            self._setting.journal.keep_numbers(key, numbers)
        return float(self._whole / numbers["speedup"])

    def _drop(self, fitted: Fitted) -> float:
        assert self._check is not None
        key = "drop " + fitted.recipe.text()
        numbers = self._setting.journal.numbers(key)
        if numbers is None:
            numbers = {"drop": self._check(fitted.net)}
            self._setting.journal.keep_numbers(key, numbers)
        return float(numbers["drop"])

    def _measured(self, name: str, net: Net) -> float:
        key = f"{self._resource} {name}"
        numbers = self._setting.journal.numbers(key)
        if numbers is None:
            cost: Cost = self._meter.of_net(net)
            numbers = {"cost": float(getattr(cost, self._resource))}
            self._setting.journal.keep_numbers(key, numbers)
        return float(numbers["cost"])


def _next_budget(tried: Sequence[tuple[float, float]], limit: float, lowest: float) -> float:
    """Choose the next budget of those between which the limit lies.

    Measured times are noisy, and a line through two of them may point anywhere: between a budget
    that is enough and one that is not the next one keeps off both (little of the former, which
    may be as good as there), and without one that is enough it goes at most halfway to the least
    there is.
    """
    (x0, y0), (x1, y1) = tried[-2:]
    wanted = limit * (1 - SLACK / 2)
    guess = x1 + (wanted - y1) * (x1 - x0) / (y1 - y0) if y1 != y0 else x1 * wanted / y1
    missed = min((budget for budget, cost in tried if cost > limit), default=tried[0][0])
    met = [budget for budget, cost in tried if cost <= limit and budget < missed]
    least_next = max(met, default=(missed + lowest) / 2)
    room = (missed - least_next) / 10
    away = min(room, limit * SLACK / 2) if met else 0.0
    return min(max(guess, least_next + away), missed - room)


def _choice(target: Target, curve: Curve, point: int, resource: Resource) -> Choice:
    costs = curve.costs[resource]
    return Choice(
        target.name,
        curve.goal(point),
        float(costs[-1]),
        float(costs[point]),
        float(curve.losses[point]),
    )
