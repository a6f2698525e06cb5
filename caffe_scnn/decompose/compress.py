"""A net made smaller by a recipe: select, take apart, choose what to keep, write, check, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from caffe_scnn.decompose.base import Candidate, Counts, Edit, LayerReport
from caffe_scnn.decompose.recipe import Goal, Recipe
from caffe_scnn.decompose.select import Target, select
from caffe_scnn.decompose.sparsify import Mask, for_budget, for_error
from caffe_scnn.errors import ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.shapes import Shapes, infer_shapes
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import check_shapes

OnLayer = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Compression:
    """A compressed net and what was done to it.

    Attributes
    ----------
    net : Net
        The new net; the one that was given is unchanged.
    reports : list of LayerReport
        One per compressed layer, in file order.
    recipe : Recipe
        The resolved recipe: the same net and this recipe give the same bytes.
    """

    net: Net
    reports: list[LayerReport]
    recipe: Recipe


def compress(net: Net, recipe: Recipe, *, on_layer: OnLayer | None = None) -> Compression:
    """Return a smaller net.

    Parameters
    ----------
    net : Net
        A net with its blobs, of one phase.
    recipe : Recipe
        What to do.
    on_layer : callable, optional
        Told ``(index, total, name)`` before each layer.

    Raises
    ------
    ModelError
        A layer cannot be compressed as asked; :func:`~caffe_scnn.decompose.select.select` lists
        why. Also an error that the method's parameters put out of reach, a density that the
        method's own fixed weights exceed, and names that are taken.
    """
    smaller = net.copy()
    targets = select(smaller, recipe)
    # One BLAS thread: the matrices are small, and sums must not depend on the machine's load.
    with threadpool_limits(limits=1, user_api="blas"):
        edits = _edits(targets, recipe, on_layer)
    _refuse_taken_names(net, edits)
    before = infer_shapes(smaller)
    for edit in edits:
        edit.apply(smaller)
    check_shapes(net, smaller, "compress")
    after = infer_shapes(smaller)
    reports = [_report(edit, before, after, recipe) for edit in edits]
    names = tuple(edit.layer.name for edit in edits)
    resolved = replace(recipe, layers=names, done=tuple(reports))
    return Compression(smaller, reports, resolved)


def _edits(targets: Sequence[Target], recipe: Recipe, on_layer: OnLayer | None) -> list[Edit]:
    edits: dict[int, list[Edit]] = {}
    together: dict[int, Candidate] = {}
    for i, target in enumerate(targets):
        if on_layer is not None:
            on_layer(i, len(targets), target.name)
        candidate = target.goal.method.prepare(target.layers, recipe.seed)
        if recipe.across_layers and _shares_budget(target.goal, recipe):
            together[i] = candidate
        else:
            edits[i] = candidate.edits(_choose(target, candidate))
    if together:
        members = [targets[i] for i in together]
        keeps = _choose_together(members, list(together.values()), recipe)
        for (i, candidate), keep in zip(together.items(), keeps, strict=True):
            edits[i] = candidate.edits(keep)
    return [edit for i in range(len(targets)) for edit in edits[i]]


def _shares_budget(goal: Goal, recipe: Recipe) -> bool:
    return goal.density == recipe.goal_of_all.density


def _choose(target: Target, candidate: Candidate) -> Mask | None:
    """Return what one layer keeps; None: everything."""
    goal = target.goal
    if goal.error is not None:
        return _within_error(target, candidate, goal.error)
    if goal.density is None or goal.dense:
        return None
    budget = _budget([target], [candidate], goal.density)
    return for_budget([candidate.offer], budget)[0]


def _within_error(target: Target, candidate: Candidate, limit: float) -> Mask:
    keep = for_error(candidate.offer, candidate.error, limit)
    if keep is None:
        least = candidate.error(np.ones_like(candidate.offer.gains, bool))
        raise ModelError(
            f'layer "{target.name}": a relative weight error of {limit:g} is out of reach: with '
            f"{target.goal.method} everything kept leaves {least:.3g}; allow more bases"
        )
    return keep


def _choose_together(
    targets: Sequence[Target], candidates: Sequence[Candidate], recipe: Recipe
) -> Sequence[Mask | None]:
    goal = recipe.goal_of_all
    if goal.density is None or goal.dense:
        return [None] * len(targets)
    budget = _budget(targets, candidates, goal.density)
    return for_budget([candidate.offer.relative() for candidate in candidates], budget)


def _budget(targets: Sequence[Target], candidates: Sequence[Candidate], density: float) -> int:
    """Return the non-zeros left to choose, after those that are written anyway."""
    allowed = round(density * sum(target.size for target in targets))
    fixed = sum(candidate.fixed for candidate in candidates)
    if fixed > allowed:
        names = ", ".join(f'"{target.name}"' for target in targets)
        raise ModelError(
            f"layer {names}: P alone has {fixed} non-zeros, and a density of {density:g} allows "
            f'{allowed}; use p = "identity" or a higher density'
        )
    return allowed - fixed


def _refuse_taken_names(net: Net, edits: Sequence[Edit]) -> None:
    layers = {layer.name for layer in net}
    blobs = {top for layer in net for top in layer.tops}
    for edit in edits:
        for part in edit.chain:
            new_tops = set(part.tops) - set(edit.layer.tops)
            if (part.name in layers and part.name != edit.layer.name) or new_tops & blobs:
                raise ModelError(
                    f'layer "{edit.layer.name}": the name "{part.name}" that its decomposition '
                    "would take is already in use; rename the layer or blob that has it"
                )


def _report(edit: Edit, before: Shapes, after: Shapes, recipe: Recipe) -> LayerReport:
    return LayerReport(
        layer=edit.layer.name,
        method=recipe.goal(edit.layer.name).method.name,
        written=tuple(part.name for part in edit.chain),
        before=_counts([edit.layer], before),
        after=_counts(edit.chain, after),
        weight_error=edit.weight_error,
    )


def _counts(layers: Sequence[Layer], shapes: Shapes) -> Counts:
    weights = [layer.blobs[0] for layer in layers]
    kinds = [(layer, layer_type(layer), shapes.bottoms[layer]) for layer in layers]
    return Counts(
        macs=sum(kind.nonzero_macs(layer, bottoms) for layer, kind, bottoms in kinds),
        dense_macs=sum(kind.macs(layer, bottoms) for layer, kind, bottoms in kinds),
        nonzeros=sum(int(np.count_nonzero(blob)) for blob in weights),
        parameters=sum(blob.size for blob in weights),
    )
