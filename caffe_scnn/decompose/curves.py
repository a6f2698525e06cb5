"""What layers lose and cost as they get smaller, measured.

A layer's error is measured at a few densities (the candidate's own, on responses if it is
calibrated), and so is what the layer costs then. What an error of some size does to the net's
answers is probed layer by layer and method by method, on images that the layer was not fitted to:
a classifier of low rank errs where it matters, in the class of a picture that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from caffe_scnn.calibrate import Calibration
from caffe_scnn.calibrate.agreement import answer, divergence
from caffe_scnn.decompose.allocate import Curve
from caffe_scnn.decompose.auto import alternatives
from caffe_scnn.decompose.base import Candidate, Decomposition, Edit
from caffe_scnn.decompose.costs import RESOURCES, Cost, Meter, Resource
from caffe_scnn.decompose.evidence import Evidence, surroundings
from caffe_scnn.decompose.fit import Setting
from caffe_scnn.decompose.observe import alone
from caffe_scnn.decompose.recipe import Goal
from caffe_scnn.decompose.select import Target
from caffe_scnn.decompose.sparsify import Array, Mask
from caffe_scnn.errors import CaffeScnnError
from caffe_scnn.model.net import Net

# Fractions of a layer's non-zeros at which its error and cost are measured, and between which they
# are interpolated; the answers are probed at two of them, and at one with any other method.
MEASURED = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85)
PROBED = (0.3, 0.7)
PROBED_AGAIN = (0.5,)
STEPS = 200
IMAGES = 96

# Layers whose inputs are looked at in one pass: they share the memory for samples.
TOGETHER = 8

# The answers' divergence is a power of the layer's error; for small errors the square. Of errors
# that are rounding nothing follows, and of one that is small not what larger ones do.
LEAST_POWER, MOST_POWER = 1.0, 4.0
ROUNDING, SMALL = 1e-4, 0.01

# Divergences that are told apart; answers that are no numbers any more are worse than all others.
LEAST_LOSS, MOST_LOSS = 1e-9, 1e6


def curves(
    setting: Setting, net: Net, targets: Sequence[Target], seed: int, meter: Meter, of: Resource
) -> list[Curve]:
    """Measure targets in the net as it is; what the journal has is not measured again.

    Parameters
    ----------
    setting : Setting
        Half of its calibration images fit, the other half judges. Without calibration every
        relative error counts alike.
    net : Net
        Holds the targets' layers.
    targets : sequence of Target
    seed : int
    meter : Meter
    of : {"macs", "time", "size"}
        What is going to be bought; auto tries more methods for time.
    """
    keys = {target.name: f"curves {of} {target.name} {target.goal.method}" for target in targets}
    found = {name: setting.journal.numbers(key) for name, key in keys.items()}
    missing = [target for target in targets if found[target.name] is None]
    measure = Measure(setting, net, missing, seed, meter)
    for target, tried, evidence in measure.evidence(of):
        setting.progress.tell(target.name)
        measured = measure.numbers(target, tried, evidence)
        setting.journal.keep_numbers(keys[target.name], measured)
        found[target.name] = measured
    return [
        _curve(target, alternatives(target.goal.method, target.layers[0], of), numbers)
        for target in targets
        if (numbers := found[target.name])
    ]


class Measure:
    """Measures targets one after the other."""

    def __init__(
        self, setting: Setting, net: Net, targets: Sequence[Target], seed: int, meter: Meter
    ) -> None:
        self._targets = targets
        self._seed = seed
        self._meter = meter
        self._known = surroundings(net, [target.layers[0] for target in targets])
        self._net = net
        # What a layer loses shows on images it was not fitted to: small layers learn theirs.
        self._fit: Calibration | None = None
        self._judge: Calibration | None = None
        if setting.calibration is not None:
            self._fit, self._judge = setting.calibration.halves()

    @cached_property
    def _probe(self) -> Probe | None:
        return None if self._judge is None else Probe(self._net, self._judge)

    def evidence(self, of: Resource) -> Iterator[tuple[Target, list[Decomposition], Evidence]]:
        """Yield every target with the methods to try and what they may know, a few at a time."""
        for start in range(0, len(self._targets), TOGETHER):
            part = self._targets[start : start + TOGETHER]
            tried = {t.name: alternatives(t.goal.method, t.layers[0], of) for t in part}
            known = {t.name: self._known[t.name] for t in part}
            if self._fit is not None:
                for sampled in (False, True):
                    some = [
                        replace(target, goal=Goal(method))
                        for target in part
                        for method in tried[target.name]
                        if method.calibrated and method.sampled is sampled
                    ]
                    once = list({target.name: target for target in some}.values())
                    for target, seen in zip(once, alone(self._net, once, self._fit), strict=True):
                        known[target.name] = known[target.name].given(seen)
            for target in part:
                yield target, tried[target.name], known[target.name]

    def numbers(
        self, target: Target, tried: Sequence[Decomposition], evidence: Evidence
    ) -> dict[str, Any]:
        """Measure one target: plain numbers, for the journal."""
        methods: list[dict[str, Any]] = []
        for at, method in enumerate(tried):
            try:
                candidate = method.prepare(
                    target.layers, self._seed, None if self._fit is None else evidence
                )
            except CaffeScnnError:
                if len(tried) == 1:
                    raise
                continue  # one of several methods that does not take this layer
            points = self._points(target, candidate)
            probed = [
                points[MEASURED.index(fraction)]
                for fraction in (PROBED_AGAIN if methods else PROBED)
                if self._probe is not None
            ]
            methods.append(
                {
                    "at": at,
                    "points": [point.numbers() for point in points],
                    "whole": len(candidate.outline(points[-1].keep)[0][1]) == 1,
                    "errors": [point.error for point in probed],
                    "losses": [self._lost(candidate, point) for point in probed],
                }
            )
        as_is = self._meter.of_chains([(layer, [layer]) for layer in target.layers])
        return {"methods": methods, "as_is": _numbers(as_is)}

    def _lost(self, candidate: Candidate, point: Point) -> float:
        """Return what the answers lose."""
        assert self._probe is not None
        return self._probe.lost(candidate.edits(point.keep))

    def _points(self, target: Target, candidate: Candidate) -> list[Point]:
        present = int(np.count_nonzero(target.layers[0].blobs[0]))
        points = []
        for fraction in MEASURED:
            keep = candidate.choose(max(0, round(fraction * present) - candidate.fixed))
            cost = self._meter.of_chains(candidate.outline(keep))
            reached = candidate.size(keep) / max(1, present)
            points.append(Point(reached, candidate.error(keep), cost, keep))
        return points


@dataclass(frozen=True, eq=False)
class Point:
    """A layer of so many of its non-zeros, as a fraction."""

    fraction: float
    error: float
    cost: Cost
    keep: Mask

    def numbers(self) -> dict[str, float]:
        """Return all but the choice."""
        return {"fraction": self.fraction, "error": self.error, **_numbers(self.cost)}


def _numbers(cost: Cost) -> dict[str, float]:
    return {name: float(getattr(cost, name)) for name in RESOURCES}


def _curve(target: Target, tried: Sequence[Decomposition], numbers: dict[str, Any]) -> Curve:
    weights = target.layers[0].blobs[0]
    present = np.count_nonzero(weights) / weights.size
    first = numbers["methods"][0]
    law = Law.through(first["errors"], first["losses"])
    single = []
    for method in numbers["methods"]:
        own = law if method is first else law.like(method["errors"], method["losses"])
        known = _known(method["points"], numbers["as_is"])
        fractions, errors, costs = _interpolated(known, method["whole"])
        densities = fractions * present
        densities[-1] = 1.0
        which = np.zeros(len(fractions), np.int64)
        single.append(Curve((tried[method["at"]],), which, densities, own(errors), costs))
    return Curve.joined(single)


@dataclass(frozen=True)
class Law:
    """What the net loses for a layer's error: ``factor · error^power``."""

    factor: float = 1.0
    power: float = 2.0

    @classmethod
    def through(cls, errors: Sequence[float], losses: Sequence[float]) -> Law:
        """Fit two probes, the larger error first; the square of the error where there is none."""
        told = np.asarray(errors) >= ROUNDING
        if not np.any(told):
            return cls()
        e, lost, power = np.asarray(errors)[told], np.asarray(losses)[told], 2.0
        if e[0] > 1.01 * e[-1]:
            slope = np.log(lost[0] / lost[-1]) / np.log(e[0] / e[-1])
            power = float(np.clip(slope, LEAST_POWER, MOST_POWER))
        return cls(float(np.exp(np.mean(np.log(lost) - power * np.log(e)))), power)

    def like(self, errors: Sequence[float], losses: Sequence[float]) -> Law:
        """Return a law of the same power through one probe, if that costs more than by this one.

        One probe does not tell what errors of another size cost: of small losses nothing follows.
        """
        if not errors or errors[0] < SMALL:
            return self
        return Law(max(self.factor, losses[0] / errors[0] ** self.power), self.power)

    def __call__(self, errors: Array) -> Array:
        """Return losses."""
        return np.asarray(self.factor * errors**self.power)


def _known(
    points: Sequence[dict[str, float]], as_is: dict[str, float]
) -> dict[float, dict[str, float]]:
    """Return what was measured by fraction, ascending, the layer as it is behind it.

    A method may not reach every size: of equal ones the best counts, those above 1 do not.
    """
    known: dict[float, dict[str, float]] = {1.0: {"error": 0.0, **as_is}}
    for point in points:
        at = point["fraction"]
        if at < 1.0 and (at not in known or point["error"] < known[at]["error"]):
            known[at] = point
    return dict(sorted(known.items()))


def _interpolated(
    known: dict[float, dict[str, float]], whole: bool
) -> tuple[Array, Array, dict[Resource, Array]]:
    """Return fractions from the least size to 1, the layer as it is, with errors and costs.

    What replaces the layer by several does not become it as it grows: behind its largest size
    comes nothing but the layer as it is.
    """
    reached = list(known)
    if len(reached) == 1:
        return np.ones(1), np.zeros(1), {name: np.array([known[1.0][name]]) for name in RESOURCES}
    # Errors never rise with density, whatever the search for a support found.
    falling = np.maximum.accumulate([known[at]["error"] for at in reversed(reached)])[::-1]
    fractions = np.linspace(reached[0], 1.0, STEPS)
    if not whole:
        fractions = np.append(fractions[fractions <= reached[-2]], 1.0)
    costs: dict[Resource, Array] = {
        name: np.interp(fractions, reached, [known[at][name] for at in reached])
        for name in RESOURCES
    }
    errors = np.maximum(PchipInterpolator(reached, falling)(fractions), 0.0)
    return fractions, errors, costs


class Probe:
    """Measures how far a net's answers move when one layer is changed."""

    def __init__(self, net: Net, calibration: Calibration) -> None:
        self._net = net
        # Pictures often come sorted by class: the first ones would be of one kind.
        self._calibration = calibration.few(IMAGES)
        self._blob, self._softmax = answer(net)
        self._before = self._calibration.outputs(net, self._blob, IMAGES)

    def lost(self, edits: Sequence[Edit]) -> float:
        """Return the divergence of the answers after some edits, never quite zero."""
        probed = self._net.copy()
        by_name = {layer.name: layer for layer in probed}
        for edit in edits:
            replace(edit, layer=by_name[edit.layer.name]).apply(probed)
        return self.of(probed)

    def of(self, net: Net) -> float:
        """Return the divergence of another net's answers, never quite zero."""
        after = self._calibration.outputs(net, self._blob, IMAGES)
        lost = divergence(self._before, after, self._softmax)
        return float(np.clip(lost, LEAST_LOSS, MOST_LOSS)) if np.isfinite(lost) else MOST_LOSS
