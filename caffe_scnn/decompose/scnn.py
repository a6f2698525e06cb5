"""SCNN: a convolution as channel mixing, a few bases per channel, and one sparse matrix.

Liu, Wang, Foroosh, Tappen, Pensky, "Sparse Convolutional Neural Networks", CVPR 2015. With the
kernel K(u,v,i,j) from channel i to output j::

    K(u,v,i,j) ≈ Σ_k R(u,v,k,j) P(k,i)              P mixes channels; the identity by default
    R(u,v,i,j) ≈ Σ_k S_i(k,j) Q_i(u,v,k)            Q_i: q_i bases of channel i;  S_i is sparse

Given:  bottom → [k×k, m → n, group g] → top
Result: bottom → [1×1 P, group g] → [k×k Q, m → m·q, group m] → [1×1 S, m·q → n, group g] → top

The bases have unit norm, q is the largest q_i, and missing bases are zero. A group is decomposed
by itself. A 1×1 convolution has one tap per channel, hence one basis, the number 1: its weights
are S already, and only become sparse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from caffe_scnn.decompose.base import (
    Candidate,
    Edit,
    relative_error,
    require,
)
from caffe_scnn.decompose.bases import (
    dictionary_bases,
    pca_bases,
    pursuit_gains,
    ranks,
    solve_on_support,
)
from caffe_scnn.decompose.chain import convolution_chain
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.kernel import by_channel, channel_pca, compact, compose, unmix
from caffe_scnn.decompose.magnitude import PrunedWeights
from caffe_scnn.decompose.scales import channel_scales
from caffe_scnn.decompose.sparsify import Array, Mask, Offer, for_budget
from caffe_scnn.model.net import Blob, Layer


@dataclass(frozen=True)
class Scnn:
    """Sparse decomposition of k×k convolutions.

    Attributes
    ----------
    bases : {"pca", "dictionary"}
        How the bases of a channel are found: principal components, or sparse dictionary
        learning (scikit-learn's MiniBatchDictionaryLearning).
    p : {"identity", "pca"}
        Mixing of the channels before the bases; "pca" adds a dense 1×1 layer.
    q : int or "energy"
        Most bases a channel may have; at least 1.
    energy : float
        With ``q`` "energy": a channel gets the fewest bases that hold this fraction of its squared
        weights; 1 is full rank. A density or error leaves out more, where that pays.
    scaled : bool
        Weigh errors relative to the norm of the output channel.
    alpha : float
        Dictionary learning: strength of the l1 penalty.
    iterations : int
        Dictionary learning: passes over a channel's filters.
    """

    name: ClassVar[str] = "scnn"
    types: ClassVar[tuple[str, ...]] = ("Convolution",)
    calibrated: ClassVar[bool] = False
    sampled: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False

    bases: Literal["pca", "dictionary"] = field(
        default="pca", metadata={"help": "how the bases of a channel are found"}
    )
    p: Literal["identity", "pca"] = field(
        default="identity", metadata={"help": "mixing of the channels before the bases"}
    )
    q: int | Literal["energy"] = field(
        default="energy", metadata={"help": "most bases a channel may have"}
    )
    energy: float = field(
        default=1.0,
        metadata={
            "help": "fraction of a channel's squared weights its bases hold, if q is not given"
        },
    )
    scaled: bool = field(
        default=True,
        metadata={"help": "weigh errors relative to the norm of the output channel"},
    )
    alpha: float = field(
        default=0.1, metadata={"help": "dictionary learning: strength of the l1 penalty"}
    )
    iterations: int = field(
        default=10, metadata={"help": "dictionary learning: passes over a channel's filters"}
    )

    def __post_init__(self) -> None:
        require(
            self.bases in ("pca", "dictionary"),
            f'bases must be "pca" or "dictionary", not "{self.bases}"',
        )
        require(self.p in ("identity", "pca"), f'p must be "identity" or "pca", not "{self.p}"')
        require(self.q == "energy" or self.q >= 1, f"q must be at least 1, not {self.q}")
        require(0 < self.energy <= 1, f"energy must be in (0, 1], not {self.energy}")
        require(self.alpha > 0, f"alpha must be positive, not {self.alpha}")
        require(self.iterations >= 1, f"iterations must be at least 1, not {self.iterations}")

    def objection(self, layer: Layer) -> str | None:
        """Take every layer."""
        return None

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> Candidate:
        """Find P and the bases; a 1×1 convolution offers its weights themselves."""
        if np.prod(layers[0].blobs[0].shape[2:]) == 1:
            return PrunedWeights(layers, self.scaled)
        return Factors(layers, self, seed)


class Factors:
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
        error = relative_error(
            self._weights, compose([w for _, w, _ in parts], len(bases), self._group)
        )
        return [
            Edit(layer, convolution_chain(layer, parts, spatial="Q"), error)
            for layer in self._layers
        ]

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
