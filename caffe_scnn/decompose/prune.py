"""Channels taken out of a net: chosen group by group, readers fitted anew from the bottom up.

Nothing becomes smaller before the end. Until then the weights that read a channel which goes are
zero, so that blobs of the original and of the new net can be compared; last, the channels are
removed everywhere at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from caffe_scnn.calibrate import Calibration
from caffe_scnn.calibrate.patches import as_blob, grouped_rows, weight_rows
from caffe_scnn.decompose.base import Edit, relative_error
from caffe_scnn.decompose.channel_groups import ChannelGroup, channel_groups
from caffe_scnn.decompose.channel_order import Order
from caffe_scnn.decompose.channels import ChannelSelection, column_numbers
from caffe_scnn.decompose.correct import correct
from caffe_scnn.decompose.evidence import surroundings
from caffe_scnn.decompose.fit import Setting
from caffe_scnn.decompose.recipe import Goal, Recipe
from caffe_scnn.decompose.select import check_net, check_weights
from caffe_scnn.decompose.sparsify import Mask
from caffe_scnn.decompose.write import rewritten
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.channels import Channels
from caffe_scnn.passes.narrow import balanced, cut

# Inputs of a row of weights; beyond it the covariance alone would take more than 800 MB.
WIDEST = 10_000


@dataclass(frozen=True, eq=False)
class Chosen:
    """A group of channels, and what is asked of it."""

    group: ChannelGroup
    goal: Goal

    @property
    def method(self) -> ChannelSelection:
        """The goal's method."""
        assert isinstance(self.goal.method, ChannelSelection)
        return self.goal.method


def takes_channels(recipe: Recipe) -> bool:
    """Tell whether a recipe is about channels.

    Raises
    ------
    ModelError
        It is, but about something else, too.
    """
    goals = (recipe.goal_of_all, *recipe.overrides.values())
    kinds = {isinstance(goal.method, ChannelSelection) for goal in goals}
    if len(kinds) > 1:
        raise ModelError("channels cannot stand beside other methods in one recipe; compress twice")
    return kinds == {True}


def choose_groups(channels: Channels, recipe: Recipe) -> list[Chosen]:
    """Return the groups whose makers a recipe names; without names all that can go.

    Raises
    ------
    ModelError
        A name fits no maker of channels, or one whose channels cannot go; goals of layers that go
        together differ; nothing is left.
    """
    check_net(channels.net)
    for layer in (*channels.linear, *channels.depthwise):
        check_weights(layer)
    groups, refused = channel_groups(channels)
    groups, refused = _without_wide(groups, refused)
    names = [layer.name for group in groups for layer in group.makers]
    asked = (*(recipe.layers or ()), *recipe.overrides)
    for glob in asked:
        if not any(_matches(name, glob) for name in names):
            raise _no_match(glob, names, refused)
    chosen = []
    for group in groups:
        makers = [layer.name for layer in group.makers]
        if recipe.layers is not None and not any(_matches(m, g) for m in makers for g in asked):
            continue
        goals = {recipe.overrides[name] for name in makers if name in recipe.overrides}
        if len(goals) > 1:
            raise ModelError(f"layers {', '.join(makers)} share channels, but their goals differ")
        chosen.append(Chosen(group, goals.pop() if goals else recipe.goal_of_all))
    if not chosen:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ModelError(f"there are no channels that could go: {reasons or 'no such layers'}")
    return chosen


def prune(setting: Setting, recipe: Recipe) -> tuple[Net, list[Edit]]:
    """Carry out a recipe about channels that has a size for every group.

    Returns
    -------
    net : Net
        The smaller one.
    edits : list of Edit
        Of every layer with weights that became smaller, in file order.

    Raises
    ------
    ModelError
        As :func:`choose_groups` says, or a layer has no weights.
    """
    net = setting.net
    channels = Channels(net)
    chosen = choose_groups(channels, recipe)
    setting.progress.expect(2 * len(chosen))
    gone = np.zeros(channels.count, bool)
    for one in chosen:
        setting.progress.tell(one.group.name)
        order = order_of(setting, channels, one, setting.calibration)
        gone[_given_up(one, order)] = True
    gone, _ = balanced(channels, gone)
    smaller, errors = _refit(setting, channels, chosen, gone)
    if setting.calibration is not None:
        correct(net, smaller, setting.calibration, errors.keys())
    result = cut(Channels(smaller), gone).net
    return result, _edits(channels, smaller, result, gone, errors)


def order_of(
    setting: Setting, channels: Channels, chosen: Chosen, calibration: Calibration | None
) -> Order:
    """Return the order in which channels of a group go; of the journal where it has it."""
    group, method = chosen.group, chosen.method
    part = (
        "none" if calibration is None else "all" if calibration is setting.calibration else "half"
    )
    key = f"channels {group.name} {method} {part}"
    known = setting.journal.numbers(key)
    if known is None:
        layers = [readers[0] for readers in group.readers]
        evidence = surroundings(channels.net, layers)
        if calibration is not None:
            statistics = calibration.of_layers(channels.net, layers)
            evidence = {name: one.given(statistics[name]) for name, one in evidence.items()}
        order = method.order(channels, group, evidence)
        known = {"channels": list(order.channels), "errors": order.errors.tolist()}
        setting.journal.keep_numbers(key, known)
    return Order(tuple(known["channels"]), np.array(known["errors"]))


def _given_up(chosen: Chosen, order: Order) -> list[int]:
    """Return the channels that go."""
    goal, group = chosen.goal, chosen.group
    if goal.error is not None:
        within = np.flatnonzero(order.errors <= len(group.readers) * goal.error**2)
        return list(order.channels[: within[-1]])
    density = 1.0 if goal.density is None else goal.density
    going: list[int] = []
    for cell in group.cells:
        spare = len(cell) - max(1, round(density * len(cell)))
        going += [number for number in order.channels if number in set(cell.tolist())][:spare]
    return going


def _refit(
    setting: Setting, channels: Channels, chosen: list[Chosen], gone: Mask
) -> tuple[Net, dict[str, float]]:
    """Fit every reader anew, from the bottom up; returns the net and response errors."""
    smaller = setting.net.copy()
    errors: dict[str, float] = {}
    readers = {readers[0]: (readers, one.method) for one in chosen for readers in one.group.readers}
    if setting.calibration is not None:
        walks = setting.calibration.walk(setting.net), setting.calibration.walk(smaller)
    for first in [layer for layer in channels.net.layers if layer in readers]:
        layers, method = readers[first]
        kept = np.asarray(~gone[column_numbers(channels, first)])
        if kept.all():
            continue
        setting.progress.tell(first.name)
        fitted, shift = np.where(kept[:, None], weight_rows(first), 0.0), None
        if setting.calibration is not None:
            statistics = setting.calibration.of_pair(*walks, layers)
            fitted = method.refitted(first, statistics, kept)
            shift = statistics.bias_shift(weight_rows(first), fitted)
            error = statistics.relative_error(weight_rows(first), fitted)
            errors |= dict.fromkeys([layer.name for layer in layers], error)
        new = rewritten(layers, as_blob(first, fitted), shift)
        for old, layer in zip(layers, new, strict=True):
            smaller.replace(smaller.layer(old.name), layer)
    return smaller, errors


def _edits(
    channels: Channels, fitted: Net, result: Net, gone: Mask, errors: dict[str, float]
) -> list[Edit]:
    """Say what became of every layer with weights: errors as if what went were zero."""
    full = {layer.name: layer for layer in fitted}
    edits = []
    for layer in channels.net.layers:
        if layer not in channels.linear and layer not in channels.depthwise:
            continue
        new = result.layer(layer.name)
        if new.blobs[0].shape == layer.blobs[0].shape:
            continue
        rows = ~gone[channels.tops(layer)[0]]
        weights = grouped_rows(layer, full[layer.name].blobs[0])
        left = weights * rows.reshape(*weights.shape[:2], 1)
        error = relative_error(weight_rows(layer), left)
        edits.append(Edit(layer, (new,), error, errors.get(layer.name)))
    return edits


def _without_wide(
    groups: list[ChannelGroup], refused: dict[str, str]
) -> tuple[list[ChannelGroup], dict[str, str]]:
    kept, refused = [], dict(refused)
    for group in groups:
        layers = [layer for readers in group.readers for layer in readers]
        wide = [layer for layer in layers if _row_size(layer) > WIDEST]
        if not wide:
            kept.append(group)
            continue
        reason = (
            f'"{wide[0].name}" reads them with {_row_size(wide[0]):,} weights an output, '
            f"more than {WIDEST:,}"
        )
        refused |= dict.fromkeys([layer.name for layer in group.makers], reason)
    return kept, refused


def _row_size(layer: Layer) -> int:
    """Count the weights of one row."""
    return int(layer.blobs[0].size // _outputs(layer))


def _outputs(layer: Layer) -> int:
    if layer.type == "InnerProduct":
        return int(layer.proto.inner_product_param.num_output)
    return int(layer.proto.convolution_param.num_output)


def _matches(name: str, glob: str) -> bool:
    return name == glob or fnmatchcase(name, glob)


def _no_match(glob: str, names: list[str], refused: dict[str, str]) -> ModelError:
    for name, reason in refused.items():
        if _matches(name, glob):
            return ModelError(f'the channels of layer "{name}" cannot go: {reason}')
    return ModelError(
        f'"{glob}" matches no layer whose channels could go; there are {", ".join(names)}'
    )
