"""Ranks of many layers for one budget, without trying any of them on the net.

Zhang, Zou, He, Sun 2016, section 2.4: the accuracy of a net with layers of low rank goes with the
product over the layers of the energy ``E_l`` that each keeps of its responses (their PCA), so the
ranks are those that maximise it within the budget. Its logarithm is a sum over layers, and what a
layer adds to ``−Σ log E_l`` is its loss, with the face of any other: one common price shares the
budget out. The paper's greedy steps find the same ranks, as −log of a concave energy is convex.

Uniform ranks, every layer the same fraction of its cost, are what to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from caffe_scnn.decompose.allocate import Curve
from caffe_scnn.decompose.base import Candidate
from caffe_scnn.decompose.costs import RESOURCES, Cost, Meter
from caffe_scnn.decompose.evidence import surroundings
from caffe_scnn.decompose.fit import Setting
from caffe_scnn.decompose.observe import alone
from caffe_scnn.decompose.ranked import RankedResponses
from caffe_scnn.decompose.select import Target
from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Net

Ranks = Literal["energies", "uniform"]

# Steps at which a layer's cost is measured. In between it is a straight line: the layers are dense,
# and every rank adds the same rows and columns.
MEASURED = 24


def ranked_curves(
    setting: Setting, net: Net, targets: Sequence[Target], seed: int, meter: Meter, ranks: Ranks
) -> list[Curve]:
    """Return what layers lose and cost at every rank; what the journal has is not measured again.

    Parameters
    ----------
    setting : Setting
        All of its images are looked at; without them responses are assumed as for data-free fits.
    net : Net
        Has the targets' layers.
    targets : sequence of Target
        Of low-rank methods.
    seed : int
    meter : Meter
    ranks : {"energies", "uniform"}

    Raises
    ------
    ModelError
        A target's method has no ranks.
    """
    keys = {target.name: f"ranks {ranks} {target.name} {target.goal.method}" for target in targets}
    found = {name: setting.journal.numbers(key) for name, key in keys.items()}
    missing = [target for target in targets if found[target.name] is None]
    known = surroundings(net, [target.layers[0] for target in missing])
    images = setting.calibration
    seen = None if images is None else alone(net, missing, images)
    for target in missing:
        setting.progress.tell(target.name)
        evidence = None if seen is None else known[target.name].given(next(seen))
        candidate = target.goal.method.prepare(target.layers, seed, evidence)
        found[target.name] = _numbers(target, candidate, meter, ranks)
        setting.journal.keep_numbers(keys[target.name], found[target.name] or {})
    return [_curve(target, numbers) for target in targets if (numbers := found[target.name])]


def _numbers(target: Target, candidate: Candidate, meter: Meter, ranks: Ranks) -> dict[str, Any]:
    """Measure one target: plain numbers, for the journal."""
    if not isinstance(candidate, RankedResponses):
        raise ModelError(
            f'layer "{target.name}": {target.goal.method.name} has no ranks; layers that share a '
            "budget by ranks take low-rank methods only"
        )
    sizes = np.array([candidate.size(candidate.prefix(i + 1)) for i in range(candidate.steps)])
    useful = sizes < target.size
    sizes = sizes[useful]
    whole = meter.of_chains([(layer, [layer]) for layer in target.layers])
    numbers: dict[str, Any] = {"densities": [*(sizes / target.size), 1.0]}
    for name, costs in _costs(candidate, sizes, meter).items():
        numbers[name] = [*costs, float(getattr(whole, name))]
    if ranks == "energies":
        losses = energy_losses(candidate)[useful]
    else:
        # Squares in units of the layer's cost: at any price, the same fraction for all layers.
        losses = whole.macs * np.square(1 - np.array(numbers["macs"][:-1]) / whole.macs)
    return {**numbers, "losses": [*losses, 0.0]}


def energy_losses(candidate: RankedResponses) -> Array:
    """Return ``−log E`` of every step, E the fraction of the responses' energy that it keeps."""
    energies = candidate.energies
    if not energies[-1] > 0:
        return np.zeros(len(energies))
    kept: Array = energies / energies[-1]
    return -np.log(np.maximum(kept, np.finfo(np.float64).tiny))


def _costs(candidate: RankedResponses, sizes: Array, meter: Meter) -> dict[str, Array]:
    """Return the costs of the steps of some sizes."""
    if not len(sizes):
        return {name: np.zeros(0) for name in RESOURCES}
    steps = np.unique(np.linspace(0, len(sizes) - 1, MEASURED).round().astype(int))
    outlines = [candidate.outline(candidate.prefix(step + 1)) for step in steps]
    measured: list[Cost] = [meter.of_chains(outline) for outline in outlines]
    return {
        name: np.interp(sizes, sizes[steps], [float(getattr(cost, name)) for cost in measured])
        for name in RESOURCES
    }


def _curve(target: Target, numbers: dict[str, Any]) -> Curve:
    densities = np.array(numbers["densities"])
    return Curve(
        (target.goal.method,),
        np.zeros(len(densities), np.int64),
        densities,
        np.array(numbers["losses"]),
        {name: np.array(numbers[name]) for name in RESOURCES},
    )
