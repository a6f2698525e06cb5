"""SCNN whose sparse matrix S is fitted to responses: what the bases answer on images.

P and the bases Q are those of the weights. They turn the input x̂ of the net compressed so far
into basis responses f = F x̂, and S is the sparse regression of the original's responses on them:
where it is non-zero, and its values, are found as by :mod:`~caffe_scnn.decompose.obs`. How many
bases a channel has is decided by the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.calibrate.patches import grouped_rows, weight_rows
from caffe_scnn.calibrate.statistics import ridge_of
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.factors import Factors
from caffe_scnn.decompose.kernel import compose
from caffe_scnn.decompose.pattern import Pattern
from caffe_scnn.decompose.sparsify import Array, Mask
from caffe_scnn.decompose.support import Regression, find_support
from caffe_scnn.decompose.write import shifted_biases
from caffe_scnn.model.net import Blob, Layer

if TYPE_CHECKING:
    from caffe_scnn.decompose.scnn import Scnn

# Added to the diagonal of the basis responses' covariance, relative to its mean; coefficients are
# drawn towards those of the weights by as much.
DAMPING = 0.01


class FactorResponses(Factors):
    """A convolution as P, Q and an S that answers as the original.

    Parameters
    ----------
    layers : sequence of Layer
        The convolution and those that share its weights.
    method : Scnn
    seed : int
        For dictionary learning.
    evidence : Evidence
        With moments of the inputs.
    """

    priced = False

    def __init__(
        self, layers: Sequence[Layer], method: Scnn, seed: int, evidence: Evidence
    ) -> None:
        super().__init__(layers, method, seed)
        self._evidence = evidence
        self._statistics = evidence.statistics
        self._rows = weight_rows(layers[0])
        self._last: tuple[Mask, Array] | None = None

    @cached_property
    def _maps(self) -> Array:
        """F of every group: (g, (m/g)·q, (m/g)·d)."""
        m, q, taps = self._bases.shape
        inputs = m // self._group
        bases = self._bases.reshape(self._group, inputs, q, taps)
        mixing = self._mixing
        if mixing is None:
            mixing = np.broadcast_to(np.eye(inputs), (self._group, inputs, inputs))
        maps = np.einsum("gik,giqt->giqkt", mixing, bases)
        return np.asarray(maps.reshape(self._group, inputs * q, inputs * taps))

    def _problem(self, group: int, used: Mask) -> Regression:
        """Set up the regression on the responses of the bases in use."""
        maps, found = self._maps[group][used], self._statistics
        moment = maps @ found.inputs[group] @ maps.T
        ridge = ridge_of(moment, DAMPING)
        target = self._rows[group] @ self._wanted[group] @ maps.T
        return Regression(
            moment + ridge * np.eye(len(moment)),
            target + ridge * self._of_weights[group][:, used],
            self._importance[group],
        )

    @property
    def _importance(self) -> Array:
        return self._evidence.importance.reshape(self._group, -1)

    @cached_property
    def _wanted(self) -> Array:
        return self._statistics.wanted(self._rows, self._importance, DAMPING)

    @cached_property
    def _of_weights(self) -> Array:
        """Coefficients that the weights alone give, all kept: (g, n/g, (m/g)·q)."""
        return self._by_group(self._projections * self._scales[..., None])

    def _by_group(self, coefficients: NDArray[Any]) -> NDArray[Any]:
        """Turn (m, n/g, q) into (g, n/g, (m/g)·q)."""
        m, rows, q = coefficients.shape
        parts = coefficients.reshape(self._group, m // self._group, rows, q)
        return np.asarray(parts.swapaxes(1, 2)).reshape(self._group, rows, -1)

    def _by_base(self, masks: Array) -> Mask:
        """Turn (g, n/g, (m/g)·q) into the shape of a choice, (m·q, n/g)."""
        return np.asarray(masks.swapaxes(1, 2)).reshape(-1, masks.shape[1]).astype(bool)

    def choose(self, budget: int) -> Mask:
        """Take the bases that the weights call for, and of their coefficients the best."""
        by_weights = super().choose(budget)
        used = by_weights.any(axis=1).reshape(self._group, -1)
        counts = np.count_nonzero(by_weights.reshape(self._group, -1), axis=1)
        masks = np.zeros((self._group, by_weights.shape[1], used.shape[1]), bool)
        for g in range(self._group):
            if used[g].any():
                problem = self._problem(g, used[g])
                masks[g][:, used[g]] = find_support(problem, int(counts[g]), Pattern())
        return self._by_base(masks)

    def _coefficients(self, keep: Mask | None) -> Array:
        """Least squares of the responses on the support, (m, n/g, q), over the scales."""
        if keep is None:
            return super()._coefficients(None)
        if self._last is None or self._last[0] is not keep:
            self._last = keep, self._solved(keep)
        return self._last[1]

    def _solved(self, keep: Mask) -> Array:
        m, q, _ = self._bases.shape
        support = np.moveaxis(keep.reshape(m, q, -1), 1, 2)
        by_group = self._by_group(support)
        rows = by_group.shape[1]
        solved = np.zeros((self._group, rows, by_group.shape[2]))
        for g, mask in enumerate(by_group):
            used = mask.any(axis=0)
            if used.any():
                solved[g][:, used] = self._problem(g, used).solve(mask[:, used])
        back = solved.reshape(self._group, rows, m // self._group, q).swapaxes(1, 2)
        return np.asarray(back.reshape(m, rows, q) / self._scales[..., None])

    def error(self, keep: Mask) -> float:
        """Relative response error of a choice, before rounding to float32."""
        coefficients = self._by_group(self._coefficients(keep) * self._scales[..., None])
        return self._evidence.response_error(self._rows, coefficients @ self._maps)

    def _judged(self, written: Sequence[Blob]) -> tuple[list[list[Blob]], float | None]:
        """Return biases that keep mean responses, and the response error of what is written."""
        layer = self._layers[0]
        kernel = compose(written, len(self._bases), self._group)
        rows = grouped_rows(layer, kernel.astype(np.float32))
        biases = shifted_biases(self._layers, self._statistics.bias_shift(self._rows, rows))
        return biases, self._evidence.response_error(self._rows, rows)
