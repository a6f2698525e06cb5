"""Low rank, and both of its layers sparse: what is left of one saving is saved by the other.

Given:  bottom → [k×k, m → n] → top
Result: bottom → [k×k, m → r, sparse] → [1×1, r → n, sparse, bias] → top

The pair is that of :mod:`~caffe_scnn.decompose.low_rank`. Then the first layer loses weights so
that its answers stay, as by :mod:`~caffe_scnn.decompose.obs`, and the second so that the pair's
do, given what the first answers now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from caffe_scnn.calibrate.statistics import ridge_of
from caffe_scnn.decompose.base import Edit, relative_error, require
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.low_rank import LowRank, PrincipalResponses
from caffe_scnn.decompose.pattern import Pattern
from caffe_scnn.decompose.ranked import step_of
from caffe_scnn.decompose.sparsify import Array, Mask
from caffe_scnn.decompose.support import Regression, find_support
from caffe_scnn.model.net import Blob, Layer

# Added to the diagonal of an input's covariance, relative to its mean.
DAMPING = 0.01


@dataclass(frozen=True)
class SparseLowRank(LowRank):
    """Low-rank approximation of a convolution's responses, with zeros in both layers.

    Attributes
    ----------
    kept : float
        Of the weights of both layers.
    """

    name: ClassVar[str] = "sparse-low-rank"

    kept: float = field(default=0.5, metadata={"help": "of the weights of both layers"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.kept <= 1, f"kept must be in (0, 1], not {self.kept}")

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> SparsePair:
        """Find the principal directions of the responses; nothing is random here."""
        return SparsePair(layers, self, evidence or Evidence.assumed(layers[0]))


class SparsePair(PrincipalResponses):
    """A layer as a smaller one and one that mixes its outputs, both sparse.

    Parameters
    ----------
    layers : sequence of Layer
        The layer and those that share its weights.
    method : SparseLowRank
    evidence : Evidence
    """

    def __init__(self, layers: Sequence[Layer], method: SparseLowRank, evidence: Evidence) -> None:
        super().__init__(layers, method, evidence)
        self._kept = method.kept
        self._last: tuple[Mask, list[Edit]] | None = None
        self._moments: dict[int, tuple[Array, Array]] = {}

    def sizes(self, step: int) -> Mapping[str, int]:
        """Return what is kept of both layers."""
        whole = super().sizes(step)
        return {suffix: max(1, round(self._kept * size)) for suffix, size in whole.items()}

    def error(self, keep: Mask) -> float:
        """Relative response error of a choice: of zeros in the linear solution."""
        edit = self._drafted(keep)[0]
        return edit.weight_error if edit.response_error is None else edit.response_error

    def outline(self, keep: Mask) -> list[tuple[Layer, tuple[Layer, ...]]]:
        """Return the layers of the linear solution: where the zeros are is what they cost."""
        return [(edit.layer, edit.chain) for edit in self._drafted(keep)]

    def _drafted(self, keep: Mask) -> list[Edit]:
        """Return the edits of the linear solution; the last answer is remembered."""
        if self._last is None or self._last[0] is not keep:
            self._last = keep, self._edits(step_of(keep), rectify=False)
        return self._last[1]

    def _edits(self, step: int, rectify: bool) -> list[Edit]:
        dense = super()._edits(step, rectify)
        down, up = (part.blobs[0] for part in dense[0].chain)
        sparse = [
            self._sparse(g, *pair)
            for g, pair in enumerate(zip(self._rows(down), self._rows(up), strict=True))
        ]
        new_down = np.concatenate([a for a, _, _ in sparse]).reshape(down.shape)
        new_up = np.concatenate([b for _, b, _ in sparse]).reshape(up.shape)
        shift = np.concatenate([moved for _, _, moved in sparse])
        pair = new_down.astype(np.float32), new_up.astype(np.float32)
        whole = np.array(
            [b @ a for a, b in zip(self._rows(pair[0]), self._rows(pair[1]), strict=True)]
        )
        error, response = relative_error(self._weights, whole), self._response_error(whole)
        return _replaced(dense, pair, shift, error, response)

    def _rows(self, blob: Blob) -> Array:
        count = len(self._weights)
        return blob.astype(np.float64).reshape(count, len(blob) // count, -1)

    def _sparse(self, group: int, down: Array, up: Array) -> tuple[Array, Array, Array]:
        """Return both layers of a group with zeros, and what the bias must gain."""
        if group not in self._moments:
            self._moments[group] = self._inputs(group)
        moment, mean = self._moments[group]
        ridge = ridge_of(moment, DAMPING)
        moment = moment + ridge * np.eye(len(moment))
        first = Regression(moment, down @ moment, np.ones(len(down)))
        less = first.solve(find_support(first, round(self._kept * down.size), Pattern()))
        between = less @ moment @ less.T
        between += ridge_of(between, DAMPING) * np.eye(len(between))
        second = Regression(between, up @ down @ moment @ less.T, np.square(self._scales[group]))
        mixed = second.solve(find_support(second, round(self._kept * up.size), Pattern()))
        return less, mixed, (up @ down - mixed @ less) @ mean

    def _inputs(self, group: int) -> tuple[Array, Array]:
        """Return the covariance and the mean of the inputs; without images the identity."""
        size = self._weights.shape[2]
        if self._samples is None:
            return np.eye(size), np.zeros(size)
        rows = self._samples.rows[group]
        mean = rows.mean(axis=0, dtype=np.float64)
        centred = rows - mean.astype(np.float32)
        drawn, variance = self._samples.prior(group)
        moment = (centred.T @ centred).astype(np.float64) / len(rows)
        return (1 - drawn) * moment + drawn * variance * np.eye(size), mean

    def _response_error(self, whole: Array) -> float | None:
        """Return ``‖Y − Ŷ‖ / ‖Y‖`` on the samples, with the best bias."""
        if self._samples is None:
            return None
        lost = energy = 0.0
        for g, weights in enumerate(whole):
            responses = self._samples.responses[g].astype(np.float64)
            off = responses - self._samples.rows[g] @ weights.T
            counted = np.square(self._scales[g])
            lost += float(counted @ off.var(axis=0))
            energy += float(counted @ responses.var(axis=0))
        return float(np.sqrt(lost / (energy or 1.0)))


def _replaced(
    dense: Sequence[Edit],
    pair: tuple[Blob, Blob],
    shift: Array,
    error: float,
    response: float | None,
) -> list[Edit]:
    """Put other weights into edits, and move their biases; what was shared stays shared."""
    moved: dict[int, Blob] = {}
    edits = []
    for edit in dense:
        first, second = (part.copy() for part in edit.chain)
        biases = second.blobs[1:]
        if response is not None:
            biases = [moved.setdefault(id(b), (b + shift).astype(np.float32)) for b in biases]
        first.blobs, second.blobs = [pair[0]], [pair[1], *biases]
        edits.append(Edit(edit.layer, (first, second), error, response))
    return edits
