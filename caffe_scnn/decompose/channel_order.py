"""In which order channels are given up, and what each costs when the other weights adapt.

For a reader with weights W and second moments H of its inputs, giving up the columns B of a channel
and refitting the others raises its squared response error by

    Σ_i v_i  w_iB ([H⁻¹]_BB)⁻¹ w_iBᵀ ,      W ← W − W_B ([H⁻¹]_BB)⁻¹ [H⁻¹]_B:

(the optimal brain surgeon of Hassibi and Stork 1993 for a block of weights; v_i the weight of
output i). The channel that costs all its readers least goes first, then H⁻¹ loses B, and so on: the
greedy form of the selection that He, Zhang, Sun ("Channel Pruning", ICCV 2017) make by LASSO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.passes.channels import Numbers


@dataclass(frozen=True, eq=False)
class Reader:
    """A least-squares problem whose columns are channels, one per group of a convolution.

    Attributes
    ----------
    moment : ndarray of shape (d, d)
        H, damped so that it is positive definite.
    weights : ndarray of shape (n, d)
    importance : ndarray of shape (n,)
        v_i over the energy of all the reader's responses, so that errors are relative.
    channels : int ndarray of shape (d,)
        Which channel a column belongs to.
    """

    moment: Array
    weights: Array
    importance: Array
    channels: Numbers


@dataclass(frozen=True, eq=False)
class Order:
    """Channels as they are given up.

    Attributes
    ----------
    channels : tuple of int
        The first to go first; cells take turns, and of each one stays.
    errors : ndarray of shape (len(channels) + 1,)
        Squared relative response error, summed over the readers, after so many of them; 0 first.
    """

    channels: tuple[int, ...]
    errors: Array


def giving_up(
    readers: Sequence[Reader],
    cells: Sequence[Numbers],
    ranks: Mapping[int, float] | None = None,
) -> Order:
    """Give up one channel after the other, the cheapest first.

    Parameters
    ----------
    readers : sequence of Reader
    cells : sequence of int ndarray
        Channels that are chosen among; equal fractions of every cell go.
    ranks : mapping of int to float, optional
        Go by these numbers instead, the smallest first.
    """
    left = [cell.tolist() for cell in cells]
    work = [_Elimination(reader, np.concatenate(list(cells))) for reader in readers]
    order: list[int] = []
    errors = [0.0]
    while any(len(cell) > 1 for cell in left):
        fullest = max(range(len(cells)), key=lambda i: (len(left[i]) - 1) / len(cells[i]))
        costs = dict.fromkeys(left[fullest], 0.0)
        for one in work:
            for number, cost in one.costs(left[fullest]).items():
                costs[number] += cost
        cheapest = min(costs, key=(ranks or costs).__getitem__)
        errors.append(errors[-1] + max(0.0, costs[cheapest]))
        for one in work:
            one.take(cheapest)
        left[fullest].remove(cheapest)
        order.append(cheapest)
    return Order(tuple(order), np.array(errors))


class _Elimination:
    """One reader while channels are taken out of it."""

    def __init__(self, reader: Reader, numbers: Numbers) -> None:
        self._weights = reader.weights.copy()
        self._importance = reader.importance
        factor = scipy.linalg.cho_factor(reader.moment, lower=True)
        self._inverse = scipy.linalg.cho_solve(factor, np.eye(len(reader.moment)))
        self._columns = {
            int(number): np.flatnonzero(reader.channels == number)
            for number in numbers
            if (reader.channels == number).any()
        }

    def costs(self, numbers: Sequence[int]) -> dict[int, float]:
        """Return what giving up each of some channels would cost now."""
        by_width: dict[int, list[int]] = {}
        for number in numbers:
            if number in self._columns:
                by_width.setdefault(len(self._columns[number]), []).append(number)
        found: dict[int, float] = {}
        for alike in by_width.values():
            at = np.array([self._columns[number] for number in alike])
            blocks = np.linalg.inv(self._inverse[at[:, :, None], at[:, None, :]])
            rows = self._weights[:, at] * np.sqrt(self._importance)[:, None, None]
            spread = np.einsum("ncb,nce->cbe", rows, rows, optimize=True)
            found |= zip(alike, np.einsum("cbe,cbe->c", spread, blocks).tolist(), strict=True)
        return found

    def take(self, number: int) -> None:
        """Give a channel up; the other weights adapt."""
        columns = self._columns.pop(number, None)
        if columns is None:
            return
        block = np.linalg.inv(self._inverse[np.ix_(columns, columns)])
        rows = self._inverse[columns]
        self._weights -= self._weights[:, columns] @ block @ rows
        self._inverse -= rows.T @ block @ rows
        self._weights[:, columns] = 0.0
        self._inverse[columns] = self._inverse[:, columns] = 0.0
