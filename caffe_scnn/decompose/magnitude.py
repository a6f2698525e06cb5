"""Magnitude pruning: the smallest weights become zero; the layer keeps its form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from caffe_scnn.decompose.base import ALL_TYPES, Candidate, Edit, relative_error
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.obs import Obs, SparseResponses
from caffe_scnn.decompose.scales import channel_scales
from caffe_scnn.decompose.sparsify import Mask, Offer, for_budget
from caffe_scnn.decompose.write import rewritten
from caffe_scnn.model.net import Blob, Layer


@dataclass(frozen=True)
class Magnitude:
    """Keep the weights of largest magnitude.

    Attributes
    ----------
    scaled : bool
        Measure a weight relative to the norm of its output channel.
    refit : bool
        With images: fit the weights that are kept to the original's responses.
    """

    name: ClassVar[str] = "magnitude"
    types: ClassVar[tuple[str, ...]] = ALL_TYPES
    sampled: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False

    scaled: bool = field(
        default=True,
        metadata={"help": "measure weights relative to the norm of their output channel"},
    )
    refit: bool = field(
        default=False, metadata={"help": "with images: fit what is kept to responses"}
    )

    @property
    def calibrated(self) -> bool:
        """Responses are looked at where weights are fitted to them."""
        return self.refit

    def objection(self, layer: Layer) -> str | None:
        """Take every layer."""
        return None

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> Candidate:
        """Offer every weight by its square; nothing is random here."""
        if self.refit and evidence is not None:
            return RefittedWeights(layers, self.scaled, evidence)
        return PrunedWeights(layers, self.scaled)


class RefittedWeights(SparseResponses):
    """A layer whose largest weights are kept and fitted to responses."""

    def __init__(self, layers: Sequence[Layer], scaled: bool, evidence: Evidence) -> None:
        super().__init__(layers, Obs(), evidence)
        self._pruned_weights = PrunedWeights(layers, scaled)

    def choose(self, budget: int) -> Mask:
        """Keep the ``budget`` weights of the largest magnitude."""
        return self._pruned_weights.choose(budget)


class PrunedWeights(Candidate):
    """A layer whose weights are kept or set to zero one by one.

    Parameters
    ----------
    layers : sequence of Layer
        The layer and those that share its weights.
    scaled : bool
        Compare weights relative to the norm of their output channel.
    """

    fixed = 0
    priced = True

    def __init__(self, layers: Sequence[Layer], scaled: bool) -> None:
        self._layers = layers
        self._weights = layers[0].blobs[0]
        inner_product = layers[0].proto.inner_product_param
        # A transposed fc stores (inputs, outputs): its output channels are the columns.
        self._rows = self._weights.T if inner_product.transpose else self._weights
        self._scales = channel_scales(self._rows, scaled)

    @cached_property
    def offer(self) -> Offer:
        """Every weight with its square, relative to its channel's norm if so asked."""
        rows = self._rows.reshape(len(self._rows), -1).astype(np.float64)
        gains = np.square(rows / self._scales[:, None])
        return Offer(gains, np.zeros(len(rows), np.int64))

    def choose(self, budget: int) -> Mask:
        """Keep the ``budget`` weights of the largest gains."""
        return for_budget([self.offer], budget)[0]

    def size(self, keep: Mask) -> int:
        """Count the weights that are kept."""
        return int(np.count_nonzero(keep))

    def error(self, keep: Mask) -> float:
        """Relative weight error of a choice."""
        return relative_error(self._weights, self._pruned(keep))

    def edits(self, keep: Mask | None) -> list[Edit]:
        """Return one layer of the same name per sharer, all with the same array."""
        pruned = self._weights.copy() if keep is None else self._pruned(keep)
        error = relative_error(self._weights, pruned)
        new = rewritten(self._layers, pruned)
        return [Edit(old, (layer,), error) for old, layer in zip(self._layers, new, strict=True)]

    def _pruned(self, keep: Mask) -> Blob:
        rows = np.where(keep.reshape(self._rows.shape), self._rows, np.float32(0))
        return np.ascontiguousarray(rows.T if self._rows is not self._weights else rows)
