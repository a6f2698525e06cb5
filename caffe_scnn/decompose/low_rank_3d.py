"""Separable filters of low rank: vertical, horizontal, and a 1×1 layer (Zhang et al. 2016, "3d").

Given:  bottom → [k_h×k_w, m → n] → top
Result: bottom → [k_h×1, m → r] → [1×k_w, r → r'] → [1×1, r' → n, bias] → top

The vertical filters come in closed form; the other two layers are the reduced-rank regression of
the original's responses on what the vertical ones make of the inputs of the net compressed so far,
which takes up the error of the vertical ones as well. Both ranks fall together: from the full ones,
the direction goes next that loses the least part of the product of the two energies for the weights
it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.responses import LowRankMap
from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.decompose.spatial import SeparableMethod, SeparableResponses
from caffe_scnn.model.net import Blob, Layer

Ranks = tuple[int, int]


@dataclass(frozen=True)
class LowRank3d(SeparableMethod):
    """Vertical and horizontal filters of low rank, and a layer that mixes them."""

    name: ClassVar[str] = "low-rank-3d"

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> SeparablePrincipalResponses:
        """Find the vertical filters and the ranks; nothing is random here."""
        return SeparablePrincipalResponses(layers, self, evidence or Evidence.assumed(layers[0]))


class SeparablePrincipalResponses(SeparableResponses):
    """A convolution as three layers; a step adds to one of the two ranks."""

    @cached_property
    def _path(self) -> tuple[list[Ranks], Array]:
        """Ranks (r, r') of every step, and the product of the energies there."""
        vertical = super().energies
        responses = self._response_energies()
        wide = self._kernel[2]
        r, s = len(vertical), min(len(responses), len(vertical) * wide)
        path = []
        while True:
            path.append((r, s))
            drops = []
            if r > 1 and s <= (r - 1) * wide:
                drops.append((self._price(vertical, r, (r, s), (r - 1, s)), (r - 1, s)))
            if s > 1:
                drops.append((self._price(responses, s, (r, s), (r, s - 1)), (r, s - 1)))
            if not drops:
                break
            _, (r, s) = min(drops)
        path.reverse()
        product = [vertical[r - 1] * responses[s - 1] for r, s in path]
        return path, np.array(product) / (responses[-1] or 1.0)

    def _price(self, energies: Array, rank: int, now: Ranks, then: Ranks) -> float:
        """Return the part of the energy that the last direction holds, per weight it takes."""
        lost = (energies[rank - 1] - energies[rank - 2]) / (energies[rank - 1] or 1.0)
        return float(lost) / (self._weights_of(now) - self._weights_of(then))

    def _response_energies(self) -> Array:
        """Variance of the original responses along their principal directions, summed up."""
        total = np.zeros(self._weights.shape[1])
        for g, (weights, scales) in enumerate(zip(self._weights, self._scales, strict=True)):
            moment = weights @ weights.T
            if self._samples is not None:
                drawn, variance = self._samples.prior(g)
                y = self._samples.responses[g].astype(np.float64)
                moment = (1 - drawn) * np.cov(y.T, bias=True) + drawn * variance * moment
            values = np.linalg.eigvalsh(moment * np.outer(scales, scales))
            total += np.maximum(values[::-1], 0.0)
        return np.cumsum(total)

    @property
    def energies(self) -> Array:
        """The product of the energies of both ranks."""
        return self._path[1]

    def sizes(self, step: int) -> Mapping[str, int]:
        """Return the weights of the three layers."""
        return self._sizes_of(self._path[0][step - 1])

    def _sizes_of(self, ranks: Ranks) -> dict[str, int]:
        group, outputs, _ = self._weights.shape
        channels, height, width = self._kernel
        r, s = ranks
        return {
            "v": group * r * channels * height,
            "h": group * s * r * width,
            "b": group * outputs * s,
        }

    def _weights_of(self, ranks: Ranks) -> int:
        return sum(self._sizes_of(ranks).values())

    def _features(self, group: int, step: int) -> Array:
        return super()._features(group, self._path[0][step - 1][0])

    def _features_key(self, step: int) -> int:
        return self._path[0][step - 1][0]

    def _rank(self, step: int) -> int:
        return self._path[0][step - 1][1]

    def _parts(self, maps: Sequence[LowRankMap], step: int) -> list[tuple[str, Blob]]:
        up = np.array([m.up for m in maps])
        return [
            ("v", self._v(self._path[0][step - 1][0])),
            ("h", self._h(np.array([m.down for m in maps]))),
            ("b", up.reshape(-1, up.shape[2], 1, 1).astype(np.float32)),
        ]
