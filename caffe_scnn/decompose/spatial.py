"""Separable filters: vertical ones, and horizontal ones that mix them (Jaderberg et al. 2014).

Given:  bottom → [k_h×k_w, m → n] → top
Result: bottom → [k_h×1, m → r] → [1×k_w, r → n, bias] → top

The vertical filters come in closed form (:mod:`~caffe_scnn.decompose.vertical`). The horizontal
ones are then the regression of the original's responses on what the vertical ones make of the
inputs of the net compressed so far, behind a ReLU for what passes it.
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
from caffe_scnn.decompose.vertical import VerticalFilters, covariances
from caffe_scnn.model.net import Blob, Layer


@dataclass(frozen=True)
class SeparableMethod(RankedMethod):
    """Parameters of the methods that split kernels of two axes."""

    types: ClassVar[tuple[str, ...]] = ("Convolution",)

    def objection(self, layer: Layer) -> str | None:
        """Refuse kernels that are not of two axes with more than one tap each."""
        kernel = layer.blobs[0].shape[2:]
        if len(kernel) == 2 and min(kernel) > 1:
            return None
        taps = "×".join(map(str, kernel))
        return f"a {taps} kernel cannot be split into vertical and horizontal filters"


@dataclass(frozen=True)
class Spatial(SeparableMethod):
    """Kernels of two axes as vertical and horizontal ones."""

    name: ClassVar[str] = "spatial"

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> SeparableResponses:
        """Find the vertical filters; nothing is random here."""
        return SeparableResponses(layers, self, evidence or Evidence.assumed(layers[0]))


class SeparableResponses(RankedResponses):
    """A convolution as vertical and horizontal filters; a step is one vertical filter a group."""

    spatial: ClassVar[str | Mapping[str, int]] = {"v": 0, "h": 1}

    def __init__(self, layers: Sequence[Layer], method: RankedMethod, evidence: Evidence) -> None:
        self._kernel = layers[0].blobs[0].shape[1:]
        super().__init__(layers, method, evidence)

    @cached_property
    def _vertical(self) -> list[VerticalFilters]:
        count, outputs, _ = self._weights.shape
        return [
            VerticalFilters.of(
                self._weights[g].reshape(outputs, *self._kernel),
                self._scales[g],
                *covariances(self._samples, g, self._kernel),
            )
            for g in range(count)
        ]

    @cached_property
    def energies(self) -> Array:
        """What the vertical filters explain, if inputs were as correlated as C_v ⊗ C_h says."""
        gains: Array = np.sum([split.gains for split in self._vertical], axis=0)
        return np.cumsum(gains)

    def sizes(self, step: int) -> Mapping[str, int]:
        """Return ``r`` vertical filters of every group, and the horizontal ones that read them."""
        group, outputs, _ = self._weights.shape
        channels, height, width = self._kernel
        return {
            "v": group * step * channels * height,
            "h": group * outputs * step * width,
        }

    def _features(self, group: int, step: int) -> Array:
        """Return the vertical filters at every horizontal tap: (r·k_w, c·k_h·k_w)."""
        filters = self._vertical[group].filters[:, :step].T
        return np.asarray(np.kron(filters, np.eye(self._kernel[2])))

    def _features_key(self, step: int) -> int:
        return step

    def _features_count(self, step: int) -> int:
        return int(self._features_key(step) * self._kernel[2])

    def _rank(self, step: int) -> int:
        return int(self._weights.shape[1])

    def _parts(self, maps: Sequence[LowRankMap], step: int) -> list[tuple[str, Blob]]:
        horizontal = np.array([m.up @ m.down for m in maps])
        return [("v", self._v(step)), ("h", self._h(horizontal))]

    def _v(self, filters: int) -> Blob:
        channels, height, _ = self._kernel
        stacked = np.array([split.filters[:, :filters].T for split in self._vertical])
        return stacked.reshape(-1, channels, height, 1).astype(np.float32)

    def _h(self, maps: Array) -> Blob:
        """Turn maps (group, rows, r·k_w) into weights (group·rows, r, 1, k_w)."""
        group, rows, _ = maps.shape
        return maps.reshape(group * rows, -1, 1, self._kernel[2]).astype(np.float32)
