"""A convolution as P, Q and S by its weights: the factors of :mod:`~caffe_scnn.decompose.scnn`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from caffe_scnn.decompose.base import Candidate, Edit, relative_error
from caffe_scnn.decompose.bases import (
    dictionary_bases,
    pca_bases,
    pursuit_gains,
    ranks,
    solve_on_support,
)
from caffe_scnn.decompose.chain import convolution_chain
from caffe_scnn.decompose.kernel import by_channel, channel_pca, compact, compose, unmix
from caffe_scnn.decompose.scales import channel_scales
from caffe_scnn.decompose.sparsify import Array, Mask, Offer, for_budget
from caffe_scnn.model.net import Blob, Layer

if TYPE_CHECKING:
    from caffe_scnn.decompose.scnn import Scnn


class Factors(Candidate):
    """A convolution as P, Q and coefficients that wait to be made sparse.

    Inside, ``filters`` has the shape (m, n/g, d): for every input channel the n/g filters of its
    group that read it, flattened to d = k_h·k_w taps and divided by their scale.

    Parameters
    ----------
    layers : sequence of Layer
        The convolution and those that share its weights.
    method : Scnn
        The parameters.
    seed : int
        For dictionary learning.
    """

    priced = True

    def __init__(self, layers: Sequence[Layer], method: Scnn, seed: int) -> None:
        self._layers = layers
        self._weights = layers[0].blobs[0]
        self._group = layers[0].proto.convolution_param.group
        filters = by_channel(self._weights, self._group)
        scales = channel_scales(self._weights, method.scaled).reshape(self._group, -1)
        # (m, n/g): the scale of every row of the filters.
        self._scales = np.repeat(scales, len(filters) // self._group, axis=0)
        filters = filters / self._scales[..., None]
        self._mixing = channel_pca(filters, self._group) if method.p == "pca" else None
        self._filters = unmix(filters, self._mixing, self._group)
        q = None if method.q == "energy" else method.q
        self._counts = ranks(self._filters, method.energy, q)
        self._orthonormal = method.bases == "pca"
        self._bases = self._find_bases(method, seed)

    def _find_bases(self, method: Scnn, seed: int) -> Array:
        """Return the bases as they will be written: rounded to float32."""
        if method.bases == "pca":
            bases = pca_bases(self._filters, self._counts)
        else:
            bases = dictionary_bases(
                self._filters,
                self._counts,
                alpha=method.alpha,
                iterations=method.iterations,
                seed=seed,
            )
        return bases.astype(np.float32).astype(np.float64)

    @property
    def fixed(self) -> int:
        """Non-zeros of P."""
        return 0 if self._mixing is None else int(np.count_nonzero(self._mixing))

    @cached_property
    def offer(self) -> Offer:
        """Every coefficient with the squared error it removes, every basis with its non-zeros."""
        if self._orthonormal:
            gains = np.square(self._projections)
        else:
            gains = np.zeros((*self._filters.shape[:2], self._bases.shape[1]))
            for i, count in enumerate(self._counts):
                gains[i, :, :count] = pursuit_gains(self._filters[i], self._bases[i, :count])
        gains = np.moveaxis(gains, 2, 1)
        costs = np.count_nonzero(self._bases, axis=2)
        return Offer(gains.reshape(-1, gains.shape[2]), costs.ravel().astype(np.int64))

    @cached_property
    def _projections(self) -> Array:
        """Coefficients with every basis kept: least squares, (m, n/g, q)."""
        solved = self._filters @ np.linalg.pinv(self._bases)
        # A missing basis must not get a coefficient out of the solver's rounding.
        used = np.any(self._bases != 0, axis=2, keepdims=True).swapaxes(1, 2)
        return np.where(used, solved, 0.0)

    def _coefficients(self, keep: Mask | None) -> Array:
        """Least squares on the support, (m, n/g, q)."""
        if keep is None:
            return self._projections
        support = np.moveaxis(keep.reshape(*self._bases.shape[:2], -1), 1, 2)
        if self._orthonormal:
            return self._projections * support
        solved = [
            solve_on_support(*channel)
            for channel in zip(self._filters, self._bases, support, strict=True)
        ]
        return np.array(solved)

    def choose(self, budget: int) -> Mask:
        """Keep the bases and coefficients that pay most within ``budget`` non-zeros."""
        return for_budget([self.offer], budget)[0]

    def size(self, keep: Mask) -> int:
        """Count the coefficients, the bases in use and P."""
        return self.fixed + self.offer.non_zeros(keep)

    def error(self, keep: Mask) -> float:
        """Relative weight error of a choice, before rounding to float32."""
        scales = self._scales[..., None]
        kept = self._coefficients(keep) @ self._bases
        return relative_error(self._filters * scales, kept * scales)

    def edits(self, keep: Mask | None) -> list[Edit]:
        """Write P, Q and S, the same arrays for every sharer."""
        coefficients, bases = compact(self._coefficients(keep), self._bases)
        coefficients = coefficients * self._scales[..., None]
        parts = [
            ("Q", self._as_q(bases), len(bases)),
            ("S", self._as_s(coefficients), self._group),
        ]
        if self._mixing is not None:
            parts.insert(0, ("P", self._as_p(self._mixing), self._group))
        written = [weights for _, weights, _ in parts]
        error = relative_error(self._weights, compose(written, len(bases), self._group))
        biases, response = self._judged(written)
        return [
            Edit(layer, convolution_chain(layer, parts, "Q", own), error, response)
            for layer, own in zip(self._layers, biases, strict=True)
        ]

    def _judged(self, written: Sequence[Blob]) -> tuple[list[list[Blob]], float | None]:
        """Return the biases of the last part for every sharer, and the response error if known."""
        return [layer.blobs[1:] for layer in self._layers], None

    def _as_p(self, mixing: Array) -> Blob:
        """P(k, i) per group as a blob (m, m/g, 1, 1)."""
        return mixing.reshape(-1, mixing.shape[2], *self._ones()).astype(np.float32)

    def _as_q(self, bases: Array) -> Blob:
        """Bases (m, q, d) as a blob (m·q, 1, k_h, k_w)."""
        return bases.reshape(-1, 1, *self._weights.shape[2:]).astype(np.float32)

    def _as_s(self, coefficients: Array) -> Blob:
        """Coefficients (m, n/g, q) as a blob (n, (m/g)·q, 1, 1)."""
        m, rows, q = coefficients.shape
        by_group = coefficients.reshape(self._group, m // self._group, rows, q).swapaxes(1, 2)
        return by_group.reshape(self._group * rows, -1, *self._ones()).astype(np.float32)

    def _ones(self) -> tuple[int, ...]:
        return (1,) * (self._weights.ndim - 2)
