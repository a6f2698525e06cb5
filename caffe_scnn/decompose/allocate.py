"""How small every layer becomes, for a budget of the whole net.

Every layer has a curve: what it could become, what the net loses by it, and what it costs then.
The choice is the one at which one more unit of the budget would buy the same everywhere: a common
price, found by bisection (Lagrange's multiplier of the knapsack problem). Where layers have several
methods, what a price leaves of the budget then goes where it saves most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.decompose.base import Decomposition
from caffe_scnn.decompose.costs import Resource
from caffe_scnn.decompose.recipe import Goal
from caffe_scnn.decompose.sparsify import BISECTIONS, Array
from caffe_scnn.errors import ModelError

NAMES = {"macs": "multiply-accumulates", "time": "milliseconds", "size": "bytes"}


@dataclass(frozen=True, eq=False)
class Curve:
    """What a layer loses as it gets cheaper.

    Attributes
    ----------
    methods : tuple of Decomposition
        What may be done to it.
    which : int ndarray
        For every point the index of its method.
    densities : ndarray
        For every point the density; the last point is the layer as it is.
    losses : ndarray
        What the net loses at each.
    costs : mapping of resource to ndarray
        What the layer costs at each.
    """

    methods: tuple[Decomposition, ...]
    which: NDArray[np.int64]
    densities: Array
    losses: Array
    costs: Mapping[Resource, Array]

    def at_price(self, price: float, resource: Resource) -> int:
        """Return the point that is best at a price per unit."""
        return int(np.argmin(self.losses + price * self.costs[resource]))

    def goal(self, point: int) -> Goal | None:
        """Return what a point asks for; None: that the layer stays as it is."""
        if point == len(self.losses) - 1:
            return None
        return Goal(self.methods[self.which[point]], float(self.densities[point]))

    @classmethod
    def joined(cls, curves: Sequence[Curve]) -> Curve:
        """Return the curve of a layer with several methods; each one's last point is the same."""
        first = curves[0]
        ends = [len(curve.losses) - (curve is not curves[-1]) for curve in curves]
        offsets = np.cumsum([0, *(len(curve.methods) for curve in curves[:-1])])
        parts = list(zip(curves, ends, offsets, strict=True))
        return cls(
            tuple(method for curve in curves for method in curve.methods),
            np.concatenate([curve.which[:end] + offset for curve, end, offset in parts]),
            np.concatenate([curve.densities[:end] for curve, end, _ in parts]),
            np.concatenate([curve.losses[:end] for curve, end, _ in parts]),
            {
                name: np.concatenate([curve.costs[name][:end] for curve, end, _ in parts])
                for name in first.costs
            },
        )


def least(curves: Sequence[Curve], resource: Resource) -> float:
    """Return what the layers cost at least."""
    return sum(float(curve.costs[resource].min()) for curve in curves)


def allocate(curves: Sequence[Curve], budget: float, resource: Resource = "macs") -> list[int]:
    """Return the point of every layer's curve, within a budget.

    Parameters
    ----------
    curves : sequence of Curve
    budget : float
        For the layers together.
    resource : {"macs", "time", "size"}
        What the budget is of.

    Raises
    ------
    ModelError
        Out of reach even where every layer is cheapest.
    """
    lowest = least(curves, resource)
    if lowest > budget:
        raise ModelError(
            f"the layers that are compressed cannot get below {lowest:.5g} {NAMES[resource]} "
            f"together, and {max(budget, 0):.5g} are left for them; name more layers (--layers)"
        )
    scale = max(
        float(curve.losses.max() / (curve.costs[resource].max() or 1.0)) for curve in curves
    )
    low, high = -60.0, 60.0  # of the logarithm of the price, relative to a typical one
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        price = scale * np.exp(middle)
        spent = sum(c.costs[resource][c.at_price(price, resource)] for c in curves)
        if spent <= budget:
            high = middle
        else:
            low = middle
    price = scale * np.exp(high)
    points = [curve.at_price(price, resource) for curve in curves]
    return _filled(curves, points, budget, resource)


def _filled(
    curves: Sequence[Curve], points: list[int], budget: float, resource: Resource
) -> list[int]:
    """Return points of less loss for what is left of a budget, of layers with several methods.

    One price finds only points on the convex hull of each curve. Those of one method lie close
    together; where methods meet they do not, and a part of the budget stays: the layer whose loss
    falls most by it gets it, again and again.
    """
    joined = [at for at, curve in enumerate(curves) if len(curve.methods) > 1]
    while True:
        left = budget - sum(
            curve.costs[resource][point] for curve, point in zip(curves, points, strict=True)
        )
        steps = []
        for at in joined:
            curve, point = curves[at], points[at]
            within = curve.costs[resource] <= curve.costs[resource][point] + left
            losses = np.where(within, curve.losses, np.inf)
            steps.append((curve.losses[point] - losses.min(), at, int(losses.argmin())))
        gain, at, point = max(steps, default=(0.0, 0, 0))
        if not gain > 0:  # nor where losses are no numbers
            return points
        points[at] = point
