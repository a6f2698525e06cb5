"""A resolved recipe carried out, by whichever way its method works on a net."""

from __future__ import annotations

from collections.abc import Sequence

from caffe_scnn.decompose.base import Edit
from caffe_scnn.decompose.fit import Setting, fit
from caffe_scnn.decompose.prune import choose_groups, prune, takes_channels
from caffe_scnn.decompose.recipe import Recipe
from caffe_scnn.model.net import Net
from caffe_scnn.passes.channels import Channels


def carry_out(setting: Setting, recipe: Recipe) -> tuple[Net, list[Edit]]:
    """Return the net that a recipe with a size for every layer makes, and what was done.

    Raises
    ------
    ModelError
        As :func:`~caffe_scnn.decompose.compress.compress` says.
    """
    return prune(setting, recipe) if takes_channels(recipe) else fit(setting, recipe)


def chosen_layers(net: Net, recipe: Recipe, edits: Sequence[Edit]) -> tuple[str, ...]:
    """Return the layers that a recipe was about; for channels those that make them."""
    if not takes_channels(recipe):
        return tuple(edit.layer.name for edit in edits)
    groups = [one.group for one in choose_groups(Channels(net), recipe)]
    return tuple(layer.name for group in groups for layer in group.makers)
