"""Moments of what goes into a layer, in the original net and in the one being compressed.

With x the rows of the original net's input, x̂ those of the compressed one's at the same output
positions, y = W x the original response and ŷ = Ŵ x̂ the compressed one, everything a linear
fit needs are the centred second moments of x and x̂ (Zhang et al. 2015, section 3.3: targets of
the original, inputs of the approximated net).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from caffe_scnn.calibrate.patches import Rows, weight_rows
from caffe_scnn.model.net import Layer

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Half:
    """What one half of the images says by itself.

    Attributes
    ----------
    inputs, cross : float32 ndarray of shape (group, d, d)
        As in :class:`LayerStatistics`.
    """

    inputs: NDArray[np.float32]
    cross: NDArray[np.float32]


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
    halves : (Half, Half), optional
        Where x and x̂ differ.
    """

    count: int
    mean: Array
    mean_original: Array
    inputs: Array
    cross: Array
    original: Array
    halves: tuple[Half, Half] | None = None

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

    def wanted(self, weights: Array, importance: Array, damping: float) -> Array:
        """Return the covariance with x̂ of what a layer is to answer, of W: (group, d, d).

        It is ``cross`` where the layer can make good what those before it did wrong, x − x̂. Rows of
        one image tell much the same, so of few images a fit may learn by heart how x − x̂ goes
        with x̂. Where one half of the images does not confirm what the other says, it is drawn
        towards ``inputs``: the layer answers to x̂ what it did before.

        Parameters
        ----------
        weights : ndarray of shape (group, n/group, d)
        importance : ndarray of shape (group, n/group)
            How much the squared error of an output counts.
        damping : float
            Of the fit, relative to the mean variance of the inputs.
        """
        if self.halves is None:
            return self.cross
        groups = range(len(weights))
        shares = [self._share(g, weights[g], importance[g], damping) for g in groups]
        share = np.array(shares)[:, None, None]
        return np.asarray(share * self.cross + (1 - share) * self.inputs)

    def _share(self, group: int, weights: Array, importance: Array, damping: float) -> float:
        """Return how much of x − x̂ a fit is to make good, as each half judges the other.

        With Δ what the fit changes for x − x̂, the error on the other half is the least for a share
        t = ⟨W (C − H), Δ⟩ / ⟨Δ H, Δ⟩ of it (C ``cross``, H ``inputs`` of that half). What is noise
        in it is half as much for all images, for which 2t / (1 + t) is the best share. All of it is
        made good if that is better than nothing, which it is from a half on: what is wrong in the
        same way everywhere would be left to the layers behind.
        """
        assert self.halves is not None
        first, second = self.halves
        agrees = power = 0.0
        for learnt, other in ((first, second), (second, first)):
            moment = learnt.inputs[group].astype(np.float64)
            moment += ridge_of(moment, damping) * np.eye(len(moment))
            change = weights @ (learnt.cross[group] - learnt.inputs[group])
            change = scipy.linalg.solve(moment, change.T, assume_a="pos").T
            seen = weights @ (other.cross[group] - other.inputs[group])
            agrees += float(importance @ np.einsum("ij,ij->i", seen, change))
            power += float(importance @ np.einsum("ij,ij->i", change @ other.inputs[group], change))
        if agrees >= power / 3:
            return 1.0
        agrees = max(0.0, agrees)
        return 2 * agrees / (power + agrees)

    def relative_error(self, weights: Array, approximation: Array) -> float:
        """Return ``‖Y − Ŷ‖ / ‖Y‖`` over all outputs, means taken away."""
        energy = self.response_energy(weights).sum()
        return float(np.sqrt(self.response_error(weights, approximation).sum() / (energy or 1.0)))

    def bias_shift(self, weights: Array, approximation: Array) -> Array:
        """Return what the bias must gain so that mean responses stay: (n,)."""
        wanted = np.einsum("gij,gj->gi", weights, self.mean_original)
        found = np.einsum("gij,gj->gi", approximation, self.mean)
        return np.asarray((wanted - found).ravel())


def ridge_of(moment: Array, damping: float) -> float:
    """Return what is added to the diagonal of a covariance, relative to its mean variance."""
    return damping * (float(np.diag(moment).mean()) or 1.0)


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
        # The same rows twice: nothing was compressed before this layer.
        same = original is rows or np.array_equal(original, rows)
        cross = inputs if same else x.swapaxes(1, 2) @ x_hat
        own = inputs if same else x.swapaxes(1, 2) @ x
        new = [x.sum(axis=1), x_hat.sum(axis=1), own, cross, inputs]
        if not self._sums:
            self._sums = [np.zeros_like(part) for part in new]
        for total, part in zip(self._sums, new, strict=True):
            total += part
        self._count += rows.shape[1]

    @classmethod
    def of_halves(cls, first: Moments, second: Moments) -> LayerStatistics:
        """Return the centred moments of all rows, and what either half says by itself."""
        whole = cls()
        whole._count = first._count + second._count
        whole._sums = [a + b for a, b in zip(first._sums, second._sums, strict=True)]
        found = whole.finish()
        if not (first._count and second._count) or np.array_equal(found.cross, found.inputs):
            return found
        return replace(found, halves=(first._half(), second._half()))

    def _half(self) -> Half:
        found = self.finish()
        return Half(found.inputs.astype(np.float32), found.cross.astype(np.float32))

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
