"""Ways to a target of the whole net that exclude each other: each is tried, the better net stays.

Methods that change layers one by one are weighed against each other layer by layer. Channels
couple layers, so that they stand against all of these together: which way is better shows on the
nets that were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from caffe_scnn.decompose.auto import Auto
from caffe_scnn.decompose.channel_groups import ChannelGroup
from caffe_scnn.decompose.channels import ChannelSelection
from caffe_scnn.decompose.curves import Probe
from caffe_scnn.decompose.fit import Setting
from caffe_scnn.decompose.prune import choose_groups
from caffe_scnn.decompose.recipe import Goal, Recipe
from caffe_scnn.decompose.search import Check, Fitted, Plan, Search
from caffe_scnn.decompose.select import select
from caffe_scnn.errors import ModelError
from caffe_scnn.passes.channels import Channels

Result = TypeVar("Result")


def rivals(setting: Setting, recipe: Recipe) -> list[Recipe]:
    """Return recipes for the same target: the one that is given, and for auto one for channels.

    What channels cost shows on images alone; and where layers are named, only channels go that are
    between these.
    """
    auto = isinstance(recipe.goal_of_all.method, Auto) and not recipe.overrides
    if not auto or setting.calibration is None:
        return [recipe]
    channels = replace(recipe, goal_of_all=Goal(ChannelSelection()))
    try:
        groups = choose_groups(Channels(setting.net), replace(channels, layers=None))
    except ModelError:
        return [recipe]
    if recipe.layers is None:
        return [recipe, channels]
    named = {layer.name for target in select(setting.net, recipe) for layer in target.layers}
    between = [one.group for one in groups if named.issuperset(_changed(one.group))]
    makers = tuple(layer.name for group in between for layer in group.makers)
    return [recipe, replace(channels, layers=makers)] if makers else [recipe]


def _changed(group: ChannelGroup) -> Iterator[str]:
    """Name the layers whose weights change when channels of a group go."""
    yield from (layer.name for layer in group.makers)
    yield from (layer.name for readers in group.readers for layer in readers)


def best_net(
    setting: Setting, recipe: Recipe, check: Check | None = None, threads: int | None = None
) -> Fitted:
    """Return the net that reaches the target and loses least; for ``max_drop`` the cheapest.

    Raises
    ------
    ModelError
        The target is out of reach, whichever way.
    """
    reached = _reached(setting, recipe, check, threads, Search.run)
    if len(reached) == 1:
        return reached[0][1]
    if recipe.max_drop is not None:
        return min(reached, key=lambda pair: pair[0].share(pair[1]))[1]
    return min(reached, key=lambda pair: _lost(setting, pair[1]))[1]


def best_plan(setting: Setting, recipe: Recipe, threads: int | None = None) -> Plan:
    """Return the plan with the least expected loss (``max_drop``: cost); nothing is made.

    Raises
    ------
    ModelError
        The target is out of reach, whichever way.
    """
    plans = [plan for _, plan in _reached(setting, recipe, lambda _: 0.0, threads, Search.plan)]
    if recipe.max_drop is not None:
        return min(plans, key=lambda plan: plan.predicted / plan.whole)
    return min(plans, key=lambda plan: sum(choice.loss for choice in plan.choices))


def _reached(
    setting: Setting,
    recipe: Recipe,
    check: Check | None,
    threads: int | None,
    how: Callable[[Search], Result],
) -> list[tuple[Search, Result]]:
    """Return what each way comes to; the first way's refusal, if all refuse."""
    found: list[tuple[Search, Result]] = []
    refusals: list[ModelError] = []
    for way in rivals(setting, recipe):
        try:
            search = Search(setting, way, check, threads)
            found.append((search, how(search)))
        except ModelError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return found


def _lost(setting: Setting, fitted: Fitted) -> float:
    """Return how far the answers moved, on the images that judge."""
    assert setting.calibration is not None
    key = "answers " + fitted.recipe.text()
    numbers = setting.journal.numbers(key)
    if numbers is None:
        probe = Probe(setting.net, setting.calibration.halves()[1])
        numbers = {"lost": probe.of(fitted.net)}
        setting.journal.keep_numbers(key, numbers)
    return float(numbers["lost"])
