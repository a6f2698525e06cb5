"""Low-rank layers: fewer outputs, and a 1×1 layer that mixes them (Zhang et al. 2015).

Given:  bottom → [k×k, m → n] → top
Result: bottom → [k×k, m → r] → [1×1, r → n, bias] → top

The responses of the pair are the best of rank r on the images: inputs as the net compressed so far
makes them, responses of the original as the target, and where a ReLU follows, only what passes it
counts. Each group of a grouped convolution has its own pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.ranked import RankedMethod, RankedResponses
from caffe_scnn.decompose.responses import LowRankMap
from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.model.net import Blob, Layer


@dataclass(frozen=True)
class LowRank(RankedMethod):
    """Low-rank approximation of a convolution's responses."""

    name: ClassVar[str] = "low-rank"
    types: ClassVar[tuple[str, ...]] = ("Convolution",)

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> PrincipalResponses:
        """Find the principal directions of the responses; nothing is random here."""
        return PrincipalResponses(layers, self, evidence or Evidence.assumed(layers[0]))


class PrincipalResponses(RankedResponses):
    """A layer as a smaller one and one that mixes its outputs; a step is a rank."""

    spatial = "a"

    @cached_property
    def energies(self) -> Array:
        """Variance of the responses along their principal directions, summed up."""
        _, outputs, size = self._weights.shape
        values: Array = np.zeros(min(outputs, size))
        for problem in self._problems_of(1):
            scaled = problem.moment * np.outer(problem.scales, problem.scales)
            values += np.maximum(np.linalg.eigvalsh(scaled)[::-1][: len(values)], 0.0)
        return np.cumsum(values)

    def sizes(self, step: int) -> Mapping[str, int]:
        """Return ``r`` rows and columns of every group."""
        group, outputs, size = self._weights.shape
        return {"a": group * step * size, "b": group * step * outputs}

    def _features(self, group: int, step: int) -> Array:
        return np.asarray(self._weights[group])

    def _features_key(self, step: int) -> int:
        return 0

    def _features_count(self, step: int) -> int:
        return int(self._weights.shape[1])

    def _rank(self, step: int) -> int:
        return step

    def _parts(self, maps: Sequence[LowRankMap], step: int) -> list[tuple[str, Blob]]:
        layer = self._layers[0]
        kernel = () if layer.type == "InnerProduct" else layer.blobs[0].shape[2:]
        down = np.array([m.down @ w for m, w in zip(maps, self._weights, strict=True)])
        up = np.array([m.up for m in maps])
        inputs = () if layer.type == "InnerProduct" else layer.blobs[0].shape[1:2]
        return [
            ("a", down.reshape(-1, *(inputs or down.shape[2:]), *kernel).astype(np.float32)),
            ("b", up.reshape(-1, up.shape[2], *(1,) * len(kernel)).astype(np.float32)),
        ]
