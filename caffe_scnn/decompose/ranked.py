"""What the low-rank methods share: a layer in steps, each of a few more ranks.

A method fixes some features of the layer's input by closed form (its own weights' responses, or
vertical filters) and leaves the rest, how features become responses, to
:class:`~caffe_scnn.decompose.responses.ResponseProblem`. Its candidate says how many steps there
are, what each of them explains and weighs, and how a fit is written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from caffe_scnn.calibrate.patches import groups, weight_rows
from caffe_scnn.decompose.base import Candidate, Edit, relative_error, require
from caffe_scnn.decompose.chain import convolution_chain, inner_product_chain
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.responses import LowRankMap, ResponseProblem
from caffe_scnn.decompose.sparsify import Array, Mask, Offer
from caffe_scnn.decompose.write import shifted_biases
from caffe_scnn.model.net import Blob, Layer


@dataclass(frozen=True)
class RankedMethod:
    """Parameters of every low-rank method.

    Attributes
    ----------
    rectified : bool
        Where a plain ReLU follows, fit what passes it; otherwise, and without images, the linear
        solution.
    symmetric : bool
        Fit every layer on the inputs of the original net, not on those that the layers compressed
        before it leave: for comparison, it is worse.
    ranks : {"answers", "energies", "uniform"}
        How a budget of the whole net is shared out: by what the net's answers lose, tried layer by
        layer; by the product of the energies that the layers keep, which needs one look at
        the responses and no trial; or the same fraction of every layer, for comparison.
    """

    calibrated: ClassVar[bool] = True
    sampled: ClassVar[bool] = True

    rectified: bool = field(
        default=True, metadata={"help": "fit what passes the ReLU that follows a layer"}
    )
    symmetric: bool = field(
        default=False, metadata={"help": "fit on the original net's inputs, for comparison"}
    )

    ranks: Literal["answers", "energies", "uniform"] = field(
        default="answers", metadata={"help": "how --macs is shared out between layers"}
    )

    def __post_init__(self) -> None:
        require(
            self.ranks in ("answers", "energies", "uniform"),
            f'ranks must be "answers", "energies" or "uniform", not "{self.ranks}"',
        )

    def objection(self, layer: Layer) -> str | None:
        """Take every layer."""
        return None


class RankedResponses(Candidate, ABC):
    """A layer whose responses become low-rank.

    Parameters
    ----------
    layers : sequence of Layer
        The layer and those that share its weights.
    method : RankedMethod
    evidence : Evidence
    """

    fixed = 0
    priced = False
    spatial: ClassVar[str | Mapping[str, int]]  # as in `convolution_chain`

    def __init__(self, layers: Sequence[Layer], method: RankedMethod, evidence: Evidence) -> None:
        self._layers = layers
        self._samples = evidence.samples
        self._weights = weight_rows(layers[0])
        self._scales = evidence.output_scales.reshape(len(self._weights), -1)
        self._rectify = method.rectified and evidence.rectified and self._samples is not None
        self._problems: dict[tuple[int, int], ResponseProblem] = {}

    @property
    @abstractmethod
    def energies(self) -> Array:
        """What the responses of the steps explain, of all groups together: (steps,), rising."""

    @abstractmethod
    def sizes(self, step: int) -> Mapping[str, int]:
        """Return the weights of every part that is written, by suffix; steps count from 1."""

    @abstractmethod
    def _features(self, group: int, step: int) -> Array:
        """Return what is fixed of a group, (k, d)."""

    @abstractmethod
    def _features_key(self, step: int) -> int:
        """Return a number that is equal for steps of the same features."""

    @abstractmethod
    def _features_count(self, step: int) -> int:
        """Return the number of features of a group."""

    @abstractmethod
    def _rank(self, step: int) -> int:
        """Return the rank of the fit."""

    @abstractmethod
    def _parts(self, maps: Sequence[LowRankMap], step: int) -> list[tuple[str, Blob]]:
        """Return the layers of a fit: suffix and weights, in order."""

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.energies)

    def prefix(self, step: int) -> Mask:
        """Return the mask of the first steps."""
        return np.arange(self.steps)[:, None] < step

    @cached_property
    def offer(self) -> Offer:
        """Every step with the response variance it adds, and its weights."""
        gains = np.diff(self.energies, prepend=0.0)
        gains[gains <= len(gains) * np.finfo(np.float64).eps * gains.max(initial=0.0)] = 0.0
        sizes = [sum(self.sizes(step).values()) for step in range(1, self.steps + 1)]
        # A coefficient counts one by itself.
        costs = np.diff(sizes, prepend=0) - 1
        return Offer(np.minimum.accumulate(gains)[:, None], costs.astype(np.int64))

    def choose(self, budget: int) -> Mask:
        """Take the steps that ``budget`` weights are enough for, at least one."""
        sizes = np.cumsum(self.offer.costs + 1)
        return self.prefix(max(1, int(np.searchsorted(sizes, budget, side="right"))))

    def size(self, keep: Mask) -> int:
        """Count the weights of the layers that are written."""
        return sum(self.sizes(step_of(keep)).values())

    def error(self, keep: Mask) -> float:
        """Relative response error of a choice: of the linear solution."""
        step = step_of(keep)
        problems = self._problems_of(step)
        return self._error(problems, [p.linear(self._rank(step)) for p in problems])

    def _error(self, problems: Sequence[ResponseProblem], maps: Sequence[LowRankMap]) -> float:
        lost = all_ = 0.0
        for problem, found in zip(problems, maps, strict=True):
            weight = np.square(problem.scales)
            lost += float(weight @ problem.errors(found))
            all_ += float(weight @ problem.energy)
        return float(np.sqrt(lost / (all_ or 1.0)))

    def _problems_of(self, step: int) -> list[ResponseProblem]:
        key = self._features_key(step)
        wanted = [(key, group) for group in range(len(self._weights))]
        if wanted[0] not in self._problems:
            # One set of features is kept at a time: they are as many rows as there are samples.
            self._problems = {at: self._problem(at[1], step) for at in wanted}
        return [self._problems[at] for at in wanted]

    def _problem(self, group: int, step: int) -> ResponseProblem:
        weights, features = self._weights[group], self._features(group, step)
        scales = self._scales[group]
        if self._samples is None:
            return ResponseProblem.assumed(weights, features, scales)
        return ResponseProblem.sampled(weights, features, scales, self._samples, group)

    def edits(self, keep: Mask | None) -> list[Edit]:
        """Write the layers, the same arrays for every sharer; None: as exact as it gets."""
        return self._edits(self.steps if keep is None else step_of(keep), self._rectify)

    def _edits(self, step: int, rectify: bool) -> list[Edit]:
        rank, problems = self._rank(step), self._problems_of(step)
        if rectify:
            bias = self._bias()
            maps = [p.rectified(rank, b) for p, b in zip(problems, bias, strict=True)]
        else:
            maps = [p.linear(rank) for p in problems]
        whole = np.array([m.up @ m.down @ self._features(g, step) for g, m in enumerate(maps)])
        error = relative_error(self._weights, whole)
        shift = response = None
        if self._samples is not None:
            shift = np.concatenate([m.shift for m in maps])
            response = self._error(problems, maps)
        biases = shifted_biases(self._layers, shift)
        parts = self._parts(maps, step)
        return [
            Edit(layer, self._chain(layer, parts, own), error, response)
            for layer, own in zip(self._layers, biases, strict=True)
        ]

    def outline(self, keep: Mask) -> list[tuple[Layer, tuple[Layer, ...]]]:
        """Return layers of the sizes that a choice writes, for every sharer, to see what they cost.

        In the place of the weights that a fit would find are ones.
        """
        step = step_of(keep)
        count, outputs, _ = self._weights.shape
        rank, size = self._rank(step), self._features_count(step)
        fit = LowRankMap(np.ones((outputs, rank)), np.ones((rank, size)), np.zeros(outputs))
        parts = self._parts([fit] * count, step)
        return [(layer, self._chain(layer, parts, layer.blobs[1:])) for layer in self._layers]

    def _chain(
        self, layer: Layer, parts: Sequence[tuple[str, Blob]], biases: Sequence[Blob]
    ) -> tuple[Layer, ...]:
        if layer.type == "InnerProduct":
            (_, down), (_, up) = parts
            return inner_product_chain(layer, down, up, biases)
        group = groups(layer)
        in_groups = [(suffix, weights, group) for suffix, weights in parts]
        return convolution_chain(layer, in_groups, self.spatial, biases)

    def _bias(self) -> Array:
        blobs = self._layers[0].blobs
        outputs = self._weights.shape[0] * self._weights.shape[1]
        bias = blobs[1] if len(blobs) > 1 else np.zeros(outputs)
        return np.asarray(bias, np.float64).reshape(self._weights.shape[:2])


def step_of(keep: Mask) -> int:
    """Return the number of steps in a mask, at least one."""
    return max(1, int(keep.sum()))
