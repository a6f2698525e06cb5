"""Single rows of a layer's input, and what the original net answers at the same positions.

Methods that look at what passes a ReLU, or at features that are not known in advance, cannot
do with second moments; and for responses of rank r a few ten thousand rows cost less memory and
time than the moments of a layer with thousands of inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.calibrate.patches import Rows
from caffe_scnn.calibrate.statistics import shrinkage

Array = NDArray[np.float64]

# Random directions that the norm of a covariance is estimated with, where rows and inputs are many.
PROBES = 64


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows x̂ that a layer reads and the responses y they should give.

    Attributes
    ----------
    rows : float32 ndarray of shape (group, rows, d)
        x̂, of the net compressed so far (or, symmetric, of the original).
    responses : float32 ndarray of shape (group, rows, n/group)
        ``W x`` of the original net at the same positions, without bias.
    """

    rows: Rows
    responses: Rows
    _priors: dict[int, tuple[float, float]] = field(default_factory=dict, init=False, repr=False)

    def prior(self, group: int) -> tuple[float, float]:
        """Return how far, and towards how much variance of every input, to shrink.

        As few rows say little about many inputs, a covariance C of the rows of a group is
        replaced by ``(1 − s) C + s v I`` with the s and v that are returned; see
        :func:`~caffe_scnn.calibrate.statistics.shrinkage`.
        """
        if group not in self._priors:
            self._priors[group] = _prior(self.rows[group])
        return self._priors[group]


def _prior(rows: Rows) -> tuple[float, float]:
    count, size = rows.shape
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    trace = float(np.einsum("ij,ij->", centred, centred, dtype=np.float64)) / count
    return shrinkage(_squared_norm(centred), trace, size, count), trace / size


def _squared_norm(centred: Rows) -> float:
    """Return ``‖C‖²`` of the covariance of rows that have no mean."""
    count, size = centred.shape
    if min(count, size) <= 8 * PROBES:
        small = centred.T @ centred if size < count else centred @ centred.T
        return float(np.square(small, dtype=np.float64).sum() / count**2)
    # E ‖C v‖² over random signs v.
    signs = np.random.default_rng(0).integers(0, 2, (size, PROBES)).astype(np.float32) * 2 - 1
    mapped = centred.T @ (centred @ signs)
    return float(np.square(mapped, dtype=np.float64).sum() / (PROBES * count**2))
