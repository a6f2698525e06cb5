"""Moments of what goes into a layer, in the original net and in the one being compressed.

With x the rows of the original net's input, x̂ those of the compressed one's at the same output
positions, y = W x the original response and ŷ = Ŵ x̂ the compressed one, everything a linear
fit needs are the centred second moments of x and x̂ (Zhang et al. 2015, section 3.3: targets of
the original, inputs of the approximated net).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.calibrate.patches import Rows, weight_rows
from caffe_scnn.model.net import Layer

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """Centred moments of a layer's input rows, per group.

    Covariances are shrunk towards a multiple of the identity, as far as their rows are few.

    Attributes
    ----------
    count : int
        Rows that were seen; 0: none, everything below is assumed (see :meth:`assumed`).
    mean, mean_original : ndarray of shape (group, d)
        Of x̂ and of x.
    inputs : ndarray of shape (group, d, d)
        Covariance of x̂.
    cross : ndarray of shape (group, d, d)
        Covariance of x with x̂.
    original : ndarray of shape (group, d, d)
        Covariance of x.
    """

    count: int
    mean: Array
    mean_original: Array
    inputs: Array
    cross: Array
    original: Array

    @classmethod
    def assumed(cls, layer: Layer) -> LayerStatistics:
        """Statistics without images: uncorrelated inputs of unit variance.

        Response errors become weight errors, and biases stay as they are.
        """
        group, _, size = weight_rows(layer).shape
        identity = np.broadcast_to(np.eye(size), (group, size, size))
        zero = np.zeros((group, size))
        return cls(0, zero, zero, identity, identity, identity)

    def response_energy(self, weights: Array) -> Array:
        """Return the variance of every original response, ``diag(W C Wᵀ)``: (group, n/group)."""
        return np.asarray(np.einsum("gij,gij->gi", weights @ self.original, weights))

    def response_error(self, weights: Array, approximation: Array) -> Array:
        """Return the variance of ``W x − Ŵ x̂`` of every output, with the best bias.

        Parameters
        ----------
        weights, approximation : ndarray of shape (group, n/group, d)

        Returns
        -------
        ndarray of shape (group, n/group)
        """
        mixed = np.einsum("gij,gij->gi", weights @ self.cross, approximation)
        own = np.einsum("gij,gij->gi", approximation @ self.inputs, approximation)
        error = self.response_energy(weights) - 2 * mixed + own
        return np.asarray(np.maximum(error, 0.0))

    def relative_error(self, weights: Array, approximation: Array) -> float:
        """Return ``‖Y − Ŷ‖ / ‖Y‖`` over all outputs, means taken away."""
        energy = self.response_energy(weights).sum()
        return float(np.sqrt(self.response_error(weights, approximation).sum() / (energy or 1.0)))

    def bias_shift(self, weights: Array, approximation: Array) -> Array:
        """Return what the bias must gain so that mean responses stay: (n,)."""
        wanted = np.einsum("gij,gj->gi", weights, self.mean_original)
        found = np.einsum("gij,gj->gi", approximation, self.mean)
        return np.asarray((wanted - found).ravel())


class Moments:
    """Sums up rows; what it holds does not grow with their number.

    Memory: 3·group·d² float64 values.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sums: list[Array] = []

    def add(self, original: Rows, rows: Rows) -> None:
        """Add rows (group, n, d) of the original and of the compressed net."""
        x, x_hat = original.astype(np.float64), rows.astype(np.float64)
        inputs = x_hat.swapaxes(1, 2) @ x_hat
        # The same array twice: nothing was compressed before this layer.
        same = original is rows
        cross = inputs if same else x.swapaxes(1, 2) @ x_hat
        own = inputs if same else x.swapaxes(1, 2) @ x
        new = [x.sum(axis=1), x_hat.sum(axis=1), own, cross, inputs]
        if not self._sums:
            self._sums = [np.zeros_like(part) for part in new]
        for total, part in zip(self._sums, new, strict=True):
            total += part
        self._count += rows.shape[1]

    def finish(self) -> LayerStatistics:
        """Return the centred moments."""
        n = self._count
        mean_x, mean, own, cross, inputs = (total / n for total in self._sums)
        inputs = inputs - mean[:, :, None] * mean[:, None, :]
        cross = cross - mean_x[:, :, None] * mean[:, None, :]
        own = own - mean_x[:, :, None] * mean_x[:, None, :]
        size = inputs.shape[1]
        traces = np.einsum("gii->g", inputs)
        drawn = np.array(
            [
                shrinkage(float(np.square(moment).sum()), float(trace), size, n)
                for moment, trace in zip(inputs, traces, strict=True)
            ]
        )[:, None, None]
        ridge = traces[:, None, None] / size * np.eye(size)
        inputs, cross, own = (
            (1 - drawn) * moment + drawn * ridge for moment in (inputs, cross, own)
        )
        return LayerStatistics(n, mean, mean_x, inputs, cross, own)


def shrinkage(squared_norm: float, trace: float, size: int, count: int) -> float:
    """Return how far a covariance of few rows is to be drawn to a multiple of the identity.

    The oracle approximating shrinkage (Chen, Wiesel, Eldar, Hero 2010): next to nothing for many
    rows, much where a layer has fewer rows than inputs and a fit would learn them by heart.

    Parameters
    ----------
    squared_norm, trace : float
        ``‖C‖²`` and ``tr C`` of the covariance C.
    size : int
        Its rows.
    count : int
        Rows that it is the covariance of.
    """
    spread = squared_norm - trace**2 / size
    if spread <= 0:
        return 0.0
    drawn = ((1 - 2 / size) * squared_norm + trace**2) / ((count + 1 - 2 / size) * spread)
    return min(1.0, drawn)
