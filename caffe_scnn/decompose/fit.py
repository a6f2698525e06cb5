"""A resolved recipe carried out: layer by layer from the bottom up, every layer with its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from caffe_scnn.calibrate import Calibration
from caffe_scnn.decompose.base import Candidate, Edit
from caffe_scnn.decompose.evidence import Evidence, surroundings
from caffe_scnn.decompose.journal import Journal
from caffe_scnn.decompose.observe import Observer
from caffe_scnn.decompose.recipe import Goal, Recipe
from caffe_scnn.decompose.select import Target, select
from caffe_scnn.decompose.sparsify import Mask, for_budget, for_error
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Net
from caffe_scnn.passes.base import check_shapes

OnLayer = Callable[[int, int, str], None]

# Halvings of the range of sizes, for a calibrated layer that is to keep within an error.
HALVINGS = 10


class Progress:
    """Counts the layers that are done, and tells about each.

    Parameters
    ----------
    on_layer : callable, optional
        Told ``(index, total, name)`` before each layer; a layer that is measured and later fitted
        counts twice, and the total grows where a search goes on.
    """

    def __init__(self, on_layer: OnLayer | None = None) -> None:
        self._on_layer = on_layer
        self._done = 0
        self._total = 0

    def expect(self, layers: int) -> None:
        """Announce more work."""
        self._total = max(self._total, self._done + layers)

    def tell(self, name: str) -> None:
        """Report that work on a layer begins."""
        if self._on_layer is not None:
            self._on_layer(self._done, max(self._total, self._done + 1), name)
        self._done += 1


@dataclass(frozen=True, eq=False)
class Setting:
    """What stays the same however often a net is fitted.

    Attributes
    ----------
    net : Net
        The original.
    calibration : Calibration, optional
    progress : Progress
    journal : Journal
        Keeps what is finished.
    """

    net: Net
    calibration: Calibration | None = None
    progress: Progress = field(default_factory=Progress)
    journal: Journal = field(default_factory=Journal)


def fit(setting: Setting, recipe: Recipe) -> tuple[Net, list[Edit]]:
    """Carry out a recipe that has a size for every layer.

    Returns
    -------
    net : Net
        The smaller one.
    edits : list of Edit
        What was done, in file order.

    Raises
    ------
    ModelError
        As :func:`~caffe_scnn.decompose.compress.compress` says.
    """
    smaller = setting.net.copy()
    targets = select(smaller, recipe)
    known = surroundings(smaller, [target.layers[0] for target in targets])
    observer = None
    if setting.calibration is not None:
        observer = Observer(setting.net, smaller, targets, setting.calibration)
    edits = Fitting(setting, recipe, smaller, known, observer).edits(targets)
    check_shapes(setting.net, smaller, "compress")
    return smaller, edits


@dataclass(eq=False)
class Fitting:
    """One recipe being carried out: ``smaller`` is the net with the edits made so far."""

    setting: Setting
    recipe: Recipe
    smaller: Net
    known: dict[str, Evidence]
    observer: Observer | None

    def edits(self, targets: Sequence[Target]) -> list[Edit]:
        """Edit ``smaller`` layer by layer; those that share a budget at the end."""
        edits: dict[int, list[Edit]] = {}
        together: dict[int, Candidate] = {}
        self.setting.progress.expect(len(targets))
        for i, target in enumerate(targets):
            self.setting.progress.tell(target.name)
            if self.recipe.across_layers and _shares_budget(target.goal, self.recipe):
                together[i] = self.prepare(target)
            else:
                edits[i] = self._edits_of(target)
                self._apply(edits[i])
        if together:
            members = [targets[i] for i in together]
            keeps = _choose_together(members, list(together.values()), self.recipe)
            for (i, candidate), keep in zip(together.items(), keeps, strict=True):
                edits[i] = candidate.edits(keep)
                self._apply(edits[i])
        return [edit for i in range(len(targets)) for edit in edits[i]]

    def _edits_of(self, target: Target) -> list[Edit]:
        """Return the edits of one target; of the journal where it has them."""
        key = f"{self.recipe.text()}\n{target.name}"
        found = self.setting.journal.edits(key, target.layers)
        if found is None:
            candidate = self.prepare(target)
            found = candidate.edits(_choose(target, candidate))
            self.setting.journal.keep_edits(key, found)
        elif target.goal.method.calibrated and self.observer is not None:
            self.observer.pass_by(target)
        return found

    def prepare(self, target: Target) -> Candidate:
        """Take a layer apart, given the net as it is by now."""
        method, layers = target.goal.method, target.layers
        evidence = None
        if method.calibrated and self.observer is not None:
            evidence = self.known[target.name].given(self.observer.beside(target))
        return method.prepare(layers, self.recipe.seed, evidence)

    def _apply(self, edits: Sequence[Edit]) -> None:
        _refuse_taken_names(self.smaller, edits)
        for edit in edits:
            edit.apply(self.smaller)


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
    if candidate.priced:
        keep = for_error(candidate.offer, candidate.error, limit)
    else:
        keep = _smallest_within(candidate, target.size, limit)
    if keep is None:
        least = candidate.error(np.ones_like(candidate.offer.gains, bool))
        raise ModelError(
            f'layer "{target.name}": a relative error of {limit:g} is out of reach: with '
            f"{target.goal.method.name} everything kept leaves {least:.3g}, what the layers before "
            f"it hand on included; allow a larger one"
        )
    return keep


def _smallest_within(candidate: Candidate, size: int, limit: float) -> Mask | None:
    """Return the smallest choice within an error, the support found anew for every size."""
    low, high = 0, size - candidate.fixed
    best = candidate.choose(high)
    if candidate.error(best) > limit:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) // 2
        keep = candidate.choose(middle)
        if candidate.error(keep) <= limit:
            high, best = middle, keep
        else:
            low = middle
    return best


def _choose_together(
    targets: Sequence[Target], candidates: Sequence[Candidate], recipe: Recipe
) -> Sequence[Mask | None]:
    goal = recipe.goal_of_all
    if goal.density is None or goal.dense:
        return [None] * len(targets)
    budget = _budget(targets, candidates, goal.density)
    keeps = for_budget([candidate.offer.relative() for candidate in candidates], budget)
    # Where prices do not tell all, a better support of the same size is found, of the pattern.
    return [
        keep if candidate.priced else candidate.choose(candidate.size(keep) - candidate.fixed)
        for candidate, keep in zip(candidates, keeps, strict=True)
    ]


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
