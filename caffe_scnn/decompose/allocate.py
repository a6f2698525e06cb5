"""How small every layer becomes, for a budget of the whole net.

A layer's error is measured at a few densities (the candidate's own, on responses if it is
calibrated). What an error of this size does to the net's answers is probed layer by layer, on a few
images. Then the densities are those at which one more multiply-accumulate would buy the same
everywhere: a common price, found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import PchipInterpolator

from caffe_scnn.calibrate import Calibration
from caffe_scnn.calibrate.agreement import answer, divergence
from caffe_scnn.decompose.base import Candidate
from caffe_scnn.decompose.select import Target
from caffe_scnn.decompose.sparsify import BISECTIONS, Array, Mask
from caffe_scnn.errors import ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.layers.summary import summarize
from caffe_scnn.model.net import Net

OnLayer = Callable[[int, int, str], None]

# Fractions of a layer's non-zeros at which its error is measured, and between which it is
# interpolated; the answers are probed at PROBE, one of them.
MEASURED = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85)
PROBE = 0.5
STEPS = 200
IMAGES = 96


@dataclass(frozen=True, eq=False)
class Curve:
    """What a layer loses as it gets smaller.

    Attributes
    ----------
    densities : ndarray
        Non-zeros over weights; rising, the last is the layer as it is.
    losses : ndarray
        What the net loses at each.
    macs : ndarray
        Multiply-accumulates at each.
    """

    densities: Array
    losses: Array
    macs: Array

    def at_price(self, price: float) -> int:
        """Return the index of the density that is best at a price per multiply-accumulate."""
        return int(np.argmin(self.losses + price * self.macs))


def allocate(curves: Sequence[Curve], budget: float) -> list[float]:
    """Return the density of every layer, within a budget of multiply-accumulates.

    Parameters
    ----------
    curves : sequence of Curve
    budget : float
        For the layers together.

    Raises
    ------
    ModelError
        Out of reach even at the lowest densities.
    """
    least = sum(curve.macs[0] for curve in curves)
    if least > budget:
        raise ModelError(
            f"the layers that are compressed cannot get below {least:.0f} multiply-accumulates "
            f"together, and {max(budget, 0):.0f} are left for them; name more layers (--layers)"
        )
    scale = max(float(curve.losses.max() / curve.macs.max()) for curve in curves)
    low, high = -60.0, 60.0  # of the logarithm of the price, relative to a typical one
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        price = scale * np.exp(middle)
        if sum(curve.macs[curve.at_price(price)] for curve in curves) <= budget:
            high = middle
        else:
            low = middle
    price = scale * np.exp(high)
    return [float(curve.densities[curve.at_price(price)]) for curve in curves]


def curves(
    net: Net,
    targets: Sequence[Target],
    candidates: Sequence[Candidate],
    calibration: Calibration | None,
    on_layer: OnLayer | None = None,
) -> list[Curve]:
    """Measure what the targets lose; without calibration every relative error counts alike."""
    shapes = infer_shapes(net)
    probe = None if calibration is None else Probe(net, calibration)
    found = []
    for i, (target, candidate) in enumerate(zip(targets, candidates, strict=True)):
        if on_layer is not None:
            on_layer(i, len(targets), target.name)
        weights = target.layers[0].blobs[0]
        present = int(np.count_nonzero(weights))
        keeps = [candidate.choose(max(0, round(f * present) - candidate.fixed)) for f in MEASURED]
        errors = [candidate.error(keep) for keep in keeps]
        sizes = [candidate.size(keep) / max(1, present) for keep in keeps]
        fractions, losses = _interpolated(sizes, errors)
        if probe is not None:
            at = MEASURED.index(PROBE)
            losses = losses * (probe.lost(candidate, keeps[at]) / max(errors[at] ** 2, 1e-12))
        macs = sum(
            layer_type(layer).nonzero_macs(layer, shapes.bottoms[layer]) for layer in target.layers
        )
        densities = fractions * present / weights.size
        densities[-1] = 1.0
        found.append(Curve(densities, losses, macs * fractions))
    return found


def _interpolated(sizes: Sequence[float], errors: Sequence[float]) -> tuple[Array, Array]:
    """Return fractions from the least size to 1, the layer as it is, and squared errors there."""
    # A method may not reach every size: of equal ones the best counts, those above 1 do not.
    points = {1.0: 0.0}
    for size, error in zip(sizes, errors, strict=True):
        if size < 1.0:
            points[size] = min(error, points.get(size, error))
    known = sorted(points)
    # Errors never rise with density, whatever the search for a support found.
    falling = np.maximum.accumulate([points[size] for size in reversed(known)])[::-1]
    if len(known) == 1:
        return np.ones(1), np.zeros(1)
    fractions = np.linspace(known[0], 1.0, STEPS)
    return fractions, np.square(PchipInterpolator(known, falling)(fractions))


class Probe:
    """Measures how far a net's answers move when one layer is changed."""

    def __init__(self, net: Net, calibration: Calibration) -> None:
        self._net = net
        self._calibration = calibration
        self._blob, self._softmax = answer(net)
        self._before = calibration.outputs(net, self._blob, IMAGES)

    def lost(self, candidate: Candidate, keep: Mask) -> float:
        """Return the divergence of the answers, never quite zero."""
        probed = self._net.copy()
        by_name = {layer.name: layer for layer in probed}
        for edit in candidate.edits(keep):
            replace(edit, layer=by_name[edit.layer.name]).apply(probed)
        after = self._calibration.outputs(probed, self._blob, IMAGES)
        return max(divergence(self._before, after, self._softmax), 1e-9)


def budget_of(net: Net, targets: Sequence[Target], macs: float) -> float:
    """Return the multiply-accumulates left for the targets, for a fraction of the whole net's."""
    shapes = infer_shapes(net)
    theirs = {layer.name for target in targets for layer in target.layers}
    fixed = sum(
        layer_type(layer).nonzero_macs(layer, shapes.bottoms[layer])
        for layer in net
        if layer.name not in theirs
    )
    return macs * summarize(net).total.nonzero_macs - fixed
