"""Which parts of decomposed layers to keep: the best for a number of non-zeros, or for an error.

A layer is offered as *bases* with *coefficients*. Keeping a coefficient costs one non-zero; a
basis costs its own non-zeros once, as soon as one of its coefficients is kept. A method without
bases of its own (magnitude pruning, a 1×1 convolution) has bases that cost nothing.

Minimising ``error + λ·non-zeros`` splits into one small question per basis b: it is worth
keeping when ``Σ_j max(g_bj − λ, 0) > λ·cost_b``, and then exactly its coefficients with
``g_bj > λ`` are. The price λ is found by bisection; one price for several layers shares a common
budget out between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Halvings of the price; beyond this a double cannot tell the prices of one net apart.
BISECTIONS = 50


@dataclass(frozen=True, eq=False)
class Offer:
    """What a layer could keep.

    Attributes
    ----------
    gains : ndarray of shape (bases, coefficients)
        How much squared error each coefficient removes when it is kept; 0 is never kept.
    costs : int ndarray of shape (bases,)
        Non-zeros of the basis itself.
    """

    gains: Array
    costs: NDArray[np.int64]

    def relative(self) -> Offer:
        """Return the gains as fractions of all that the layer has.

        Layers can be compared then: weights of different layers have different sizes for reasons
        that say nothing about importance.
        """
        return Offer(self.gains / (self.gains.sum() or 1.0), self.costs)

    def at_price(self, price: float) -> Mask:
        """Return the coefficients that are worth ``price`` each, their bases' costs included."""
        above = self.gains > price
        benefit = np.where(above, self.gains - price, 0.0).sum(axis=1)
        above &= (benefit > price * self.costs)[:, None]
        return above

    def non_zeros(self, keep: Mask) -> int:
        """Count the non-zeros that ``keep`` costs, the bases in use included."""
        return int(np.count_nonzero(keep)) + int(self.costs[keep.any(axis=1)].sum())


def for_budget(offers: Sequence[Offer], budget: int) -> list[Mask]:
    """Choose what to keep with ``budget`` non-zeros in all.

    The bases are chosen by price; what the price leaves of the budget goes to the best remaining
    coefficients of the chosen bases, ties in the order of their indices. So the budget is spent
    exactly unless the chosen bases have no more coefficients to keep.

    Parameters
    ----------
    offers : sequence of Offer
        One per layer; gains are compared across all of them.
    budget : int
        Non-zeros.

    Returns
    -------
    list of bool ndarray
        Per offer, of the shape of its gains.
    """
    price = _price_within(offers, budget)
    open_ = [o.at_price(price).any(axis=1) | (o.costs == 0) for o in offers]
    spent = sum(int(o.costs[bases].sum()) for o, bases in zip(offers, open_, strict=True))
    candidates = [
        np.where(bases[:, None], o.gains, 0.0) for o, bases in zip(offers, open_, strict=True)
    ]
    chosen = largest(np.concatenate([gains.ravel() for gains in candidates]), budget - spent)
    ends = np.cumsum([gains.size for gains in candidates])[:-1]
    parts = np.split(chosen, ends)
    return [part.reshape(o.gains.shape) for part, o in zip(parts, offers, strict=True)]


def for_error(offer: Offer, error: Callable[[Mask], float], limit: float) -> Mask | None:
    """Choose the fewest non-zeros whose ``error`` is at most ``limit``.

    Parameters
    ----------
    offer : Offer
        What can be kept.
    error : callable
        The error of a choice; falls as more is kept.
    limit : float
        The largest error allowed.

    Returns
    -------
    bool ndarray or None
        None when even keeping everything leaves a larger error.
    """
    best = offer.gains > 0
    if error(best) > limit:
        return None
    low, high = 0.0, float(offer.gains.max(initial=0.0))
    for _ in range(BISECTIONS):
        price = (low + high) / 2
        keep = offer.at_price(price)
        if error(keep) <= limit:
            low, best = price, keep
        else:
            high = price
    return best


def largest(values: Array, count: int) -> Mask:
    """Mark the ``count`` largest positive values; among equals the first ones.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Nothing negative.
    count : int
        How many; fewer are marked when fewer are positive.
    """
    positive: Mask = values > 0
    if count >= np.count_nonzero(positive):
        return positive
    if count <= 0:
        return np.zeros_like(positive)
    threshold = np.partition(values, values.size - count)[values.size - count]
    keep: Mask = values > threshold
    ties = np.flatnonzero(values == threshold)
    keep[ties[: count - np.count_nonzero(keep)]] = True
    return keep


def _price_within(offers: Sequence[Offer], budget: int) -> float:
    """Return the lowest price (to double precision) whose choice stays within the budget."""
    low, high = 0.0, max(float(offer.gains.max(initial=0.0)) for offer in offers)
    if not any(offer.costs.any() for offer in offers):
        return high  # bases for nothing need no price: all of them are open
    if _non_zeros(offers, low) <= budget:
        return low
    for _ in range(BISECTIONS):
        price = (low + high) / 2
        if _non_zeros(offers, price) <= budget:
            high = price
        else:
            low = price
    return high


def _non_zeros(offers: Sequence[Offer], price: float) -> int:
    return sum(offer.non_zeros(offer.at_price(price)) for offer in offers)
