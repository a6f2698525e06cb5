"""Sparse layers that answer as the originals did: pruning by least squares on responses.

For every layer the weights to drop are those whose absence the others can make good best, and the
others are changed to do so: the question of the optimal brain surgeon (Hassibi and Stork 1993),
asked layer by layer (Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022). Responses
of the original net are the target, inputs come from the net compressed so far, and the bias takes
up what remains of the mean. The layer keeps its form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from caffe_scnn.calibrate.patches import as_blob, grouped_rows, weight_rows
from caffe_scnn.calibrate.statistics import ridge_of
from caffe_scnn.decompose.base import ALL_TYPES, Candidate, Edit, relative_error, require
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.pattern import Pattern
from caffe_scnn.decompose.sparsify import Array, Mask, Offer
from caffe_scnn.decompose.support import Regression, find_support
from caffe_scnn.decompose.write import rewritten
from caffe_scnn.model.net import Layer


@dataclass(frozen=True)
class Obs:
    """Prune by least squares on a layer's responses.

    Attributes
    ----------
    pattern : str
        ``"1x1"``: single weights; ``"2x1"``, ``"4x1"`` …: blocks over output channels;
        ``"2:4"``: so many of neighbouring inputs.
    damping : float
        Added to the diagonal of the inputs' covariance, relative to its mean; the weights are
        drawn towards the original ones by as much.
    correct_bias : bool
        Change the bias (or add one) so that mean responses stay.
    """

    name: ClassVar[str] = "obs"
    types: ClassVar[tuple[str, ...]] = ALL_TYPES
    calibrated: ClassVar[bool] = True
    sampled: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False

    pattern: str = field(
        default="1x1", metadata={"help": "weights kept together: 1x1, 4x1 …, or N:M"}
    )
    damping: float = field(
        default=0.01, metadata={"help": "ridge towards the original weights, relative"}
    )
    correct_bias: bool = field(default=True, metadata={"help": "keep mean responses by the bias"})

    def __post_init__(self) -> None:
        Pattern.parse(self.pattern)
        require(self.damping > 0, f"damping must be positive, not {self.damping}")

    def objection(self, layer: Layer) -> str | None:
        """Take every layer."""
        return None

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> SparseResponses:
        """Set up the least-squares problem; nothing is random here."""
        return SparseResponses(layers, self, evidence or Evidence.assumed(layers[0]))


class SparseResponses(Candidate):
    """A layer whose weights become sparse.

    Parameters
    ----------
    layers : sequence of Layer
        The layer and those that share its weights.
    method : Obs
    evidence : Evidence
    """

    fixed = 0
    priced = False

    def __init__(self, layers: Sequence[Layer], method: Obs, evidence: Evidence) -> None:
        self._layers = layers
        self._method = method
        self._pattern = Pattern.parse(method.pattern)
        self._statistics = evidence.statistics
        self._weights = weight_rows(layers[0])
        shape = self._weights.shape[:2]
        self._evidence = evidence
        self._last: tuple[Mask, Array] | None = None
        importance = evidence.importance.reshape(shape)
        self._problems = [
            self._problem(weights, *moments)
            for weights, *moments in zip(
                self._weights,
                self._statistics.inputs,
                self._statistics.wanted(self._weights, importance, method.damping),
                importance,
                strict=True,
            )
        ]

    def _problem(
        self, weights: Array, moment: Array, wanted: Array, importance: Array
    ) -> Regression:
        ridge = ridge_of(moment, self._method.damping)
        damped = moment + ridge * np.eye(len(moment))
        return Regression(damped, weights @ wanted + ridge * weights, importance)

    @cached_property
    def offer(self) -> Offer:
        """Every weight with what dropping it alone would cost, the rest adapting."""
        gains = [
            problem.importance[:, None] * np.square(problem.dense) / np.diag(problem.inverse)
            for problem in self._problems
        ]
        rows = np.concatenate(gains)
        return Offer(rows, np.zeros(len(rows), np.int64))

    def choose(self, budget: int) -> Mask:
        """Find the support of ``budget`` weights, dealt out to groups by their number."""
        masks = []
        total = sum(weights.size for weights in self._weights)
        left = budget
        for problem in self._problems:
            count = round(left * problem.target.size / total) if total else 0
            masks.append(find_support(problem, count, self._pattern))
            left, total = left - count, total - problem.target.size
        return np.concatenate(masks)

    def size(self, keep: Mask) -> int:
        """Count the weights that are kept."""
        return int(np.count_nonzero(keep))

    def error(self, keep: Mask) -> float:
        """Relative response error of a choice, before rounding to float32."""
        return self._evidence.response_error(self._weights, self._fit(keep))

    def _fit(self, keep: Mask) -> Array:
        """Solve on a support; the last one asked for is remembered."""
        if self._last is None or self._last[0] is not keep:
            supports = keep.reshape(self._weights.shape)
            pairs = zip(self._problems, supports, strict=True)
            self._last = keep, np.array([problem.solve(support) for problem, support in pairs])
        return self._last[1]

    def edits(self, keep: Mask | None) -> list[Edit]:
        """Return one layer of the same name per sharer; None leaves the weights alone."""
        layer = self._layers[0]
        blob = layer.blobs[0] if keep is None else as_blob(layer, self._fit(keep))
        written = grouped_rows(layer, blob)
        shift = None
        if self._method.correct_bias and self._statistics.count:
            shift = self._statistics.bias_shift(self._weights, written)
        error, response = (
            relative_error(layer.blobs[0], blob),
            self._evidence.response_error(self._weights, written),
        )
        new = rewritten(self._layers, blob, shift)
        return [
            Edit(old, (layer,), error, response)
            for old, layer in zip(self._layers, new, strict=True)
        ]
