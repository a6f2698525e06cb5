"""A resolved recipe carried out, by whichever way its method works on a net."""

from __future__ import annotations

from collections.abc import Sequence

from caffe_scnn.decompose.base import Edit
from caffe_scnn.decompose.correct import correct
from caffe_scnn.decompose.fit import Setting, fit
from caffe_scnn.decompose.prune import choose_groups, prune, takes_channels
from caffe_scnn.decompose.recipe import Recipe
from caffe_scnn.decompose.select import Target, select
from caffe_scnn.model.net import Net
from caffe_scnn.passes.channels import Channels


def carry_out(setting: Setting, recipe: Recipe) -> tuple[Net, list[Edit]]:
    """Return the net that a recipe with a size for every layer makes, and what was done.

    Raises
    ------
    ModelError
        As :func:`~caffe_scnn.decompose.compress.compress` says.
    """
    if takes_channels(recipe):
        return prune(setting, recipe)
    smaller, edits = fit(setting, recipe)
    goals = (recipe.goal_of_all, *recipe.overrides.values())
    if setting.calibration is not None and any(goal.method.calibrated for goal in goals):
        fitted = {part.name for edit in edits for part in edit.chain}
        correct(setting.net, smaller, setting.calibration, fitted)
    return smaller, edits


def targets_of(net: Net, recipe: Recipe) -> list[Target]:
    """Return what a recipe is about: layers, or sets of layers that make channels together.

    Raises
    ------
    ModelError
        As :func:`~caffe_scnn.decompose.select.select` and
        :func:`~caffe_scnn.decompose.prune.choose_groups` say.
    """
    if not takes_channels(recipe):
        return select(net, recipe)
    groups = choose_groups(Channels(net), recipe)
    return [Target(one.group.makers, one.goal) for one in groups]


def chosen_layers(net: Net, recipe: Recipe, edits: Sequence[Edit]) -> tuple[str, ...]:
    """Return the layers that a recipe was about; for channels those that make them."""
    if not takes_channels(recipe):
        return tuple(edit.layer.name for edit in edits)
    return tuple(layer.name for target in targets_of(net, recipe) for layer in target.layers)
