"""A net made smaller by a recipe: select, take apart, choose what to keep, write, check, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from caffe_scnn.calibrate import Calibration
from caffe_scnn.decompose.allocate import OnLayer, allocate, budget_of, curves
from caffe_scnn.decompose.base import Candidate, Counts, Edit, LayerReport
from caffe_scnn.decompose.evidence import Evidence, surroundings
from caffe_scnn.decompose.observe import Observer, alone
from caffe_scnn.decompose.recipe import Goal, Recipe
from caffe_scnn.decompose.select import Target, select
from caffe_scnn.decompose.sparsify import Mask, for_budget, for_error
from caffe_scnn.errors import ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.shapes import Shapes, infer_shapes
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import check_shapes


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


def compress(
    net: Net,
    recipe: Recipe,
    *,
    calibration: Calibration | None = None,
    on_layer: OnLayer | None = None,
) -> Compression:
    """Return a smaller net.

    Parameters
    ----------
    net : Net
        A net with its blobs, of one phase.
    recipe : Recipe
        What to do.
    calibration : Calibration, optional
        Images for methods that look at responses; without them they assume uncorrelated inputs
        of unit variance, so that response errors are weight errors.
    on_layer : callable, optional
        Told ``(index, total, name)`` before each layer.

    Raises
    ------
    ModelError
        A layer cannot be compressed as asked; :func:`~caffe_scnn.decompose.select.select` lists
        why. Also an error that the method's parameters put out of reach, a density that the
        method's own fixed weights exceed, a budget out of reach, and names that are taken.
    """
    smaller = net.copy()
    targets = select(smaller, recipe)
    # One BLAS thread: the matrices are small, and sums must not depend on the machine's load.
    with threadpool_limits(limits=1, user_api="blas"):
        known = surroundings(smaller, [target.layers[0] for target in targets])
        work = Work(net, smaller, recipe, known, calibration, on_layer)
        if recipe.macs is not None:
            work.recipe = _resolved(work, targets)
            targets = select(smaller, work.recipe)
        if calibration is not None:
            work.observer = Observer(net, targets, calibration)
        before = infer_shapes(smaller)
        edits = _edits(work, targets)
    check_shapes(net, smaller, "compress")
    after = infer_shapes(smaller)
    reports = [_report(edit, before, after, work.recipe) for edit in edits]
    names = tuple(edit.layer.name for edit in edits)
    resolved = replace(work.recipe, layers=names, done=tuple(reports))
    return Compression(smaller, reports, resolved)


@dataclass(eq=False)
class Work:
    """What is being done: ``smaller`` is ``original`` with the edits made so far."""

    original: Net
    smaller: Net
    recipe: Recipe
    known: dict[str, Evidence]
    calibration: Calibration | None
    on_layer: OnLayer | None
    observer: Observer | None = None

    def prepare(self, target: Target) -> Candidate:
        """Take a layer apart, given the net as it is by now."""
        method, layers = target.goal.method, target.layers
        evidence = None
        if method.calibrated and self.observer is not None:
            seen = self.observer.beside(self.smaller, target)
            evidence = self.known[target.name].given(seen)
        return method.prepare(layers, self.recipe.seed, evidence)

    def apply(self, edits: Sequence[Edit]) -> None:
        """Put the edits into the net."""
        _refuse_taken_names(self.smaller, edits)
        for edit in edits:
            edit.apply(self.smaller)

    def tell(self, index: int, total: int, name: str) -> None:
        """Report progress."""
        if self.on_layer is not None:
            self.on_layer(index, total, name)


def _resolved(work: Work, targets: Sequence[Target]) -> Recipe:
    """Share a budget of the whole net out: the recipe with a density for every layer."""
    recipe = work.recipe
    assert recipe.macs is not None
    evidence: list[Evidence | None] = [None] * len(targets)
    judge = None
    if work.calibration is not None:
        # What a layer loses shows on images it was not fitted to: small layers learn theirs.
        fit, judge = work.calibration.halves()
        seen = alone(work.smaller, targets, fit)
        evidence = [work.known[t.name].given(s) for t, s in zip(targets, seen, strict=True)]
    candidates = [
        target.goal.method.prepare(target.layers, recipe.seed, found)
        for target, found in zip(targets, evidence, strict=True)
    ]
    found = curves(work.smaller, targets, candidates, judge, work.on_layer)
    densities = allocate(found, budget_of(work.smaller, targets, recipe.macs))
    overrides = {
        layer.name: Goal(target.goal.method, density)
        for target, density in zip(targets, densities, strict=True)
        if density < 1
        for layer in target.layers
    }
    return replace(recipe, macs=None, layers=tuple(overrides), overrides=overrides)


def _edits(work: Work, targets: Sequence[Target]) -> list[Edit]:
    edits: dict[int, list[Edit]] = {}
    together: dict[int, Candidate] = {}
    for i, target in enumerate(targets):
        work.tell(i, len(targets), target.name)
        candidate = work.prepare(target)
        if work.recipe.across_layers and _shares_budget(target.goal, work.recipe):
            together[i] = candidate
        else:
            edits[i] = candidate.edits(_choose(target, candidate))
            work.apply(edits[i])
    if together:
        members = [targets[i] for i in together]
        keeps = _choose_together(members, list(together.values()), work.recipe)
        for (i, candidate), keep in zip(together.items(), keeps, strict=True):
            edits[i] = candidate.edits(keep)
            work.apply(edits[i])
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
    return candidate.choose(budget)


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
        response_error=edit.response_error,
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
