"""Low-rank layers: fewer outputs, and a 1×1 layer that mixes them (Zhang et al. 2015).

Given:  bottom → [k×k, m → n] → top
Result: bottom → [k×k, m → r] → [1×1, r → n, bias] → top

The responses of the pair are the best of rank r on the images: inputs as the net compressed so far
makes them, responses of the original as the target, and where a ReLU follows, only what passes it
counts. Each group of a grouped convolution has its own pair. An InnerProduct becomes two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import ClassVar

import numpy as np

from caffe_scnn.calibrate.patches import groups, weight_rows
from caffe_scnn.decompose.base import Edit, relative_error
from caffe_scnn.decompose.chain import convolution_chain, inner_product_chain
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.responses import LowRankMap, fit_linear, fit_rectified
from caffe_scnn.decompose.sparsify import Array, Mask, Offer
from caffe_scnn.decompose.write import shifted_biases
from caffe_scnn.model.net import Blob, Layer


@dataclass(frozen=True)
class LowRank:
    """Low-rank approximation of a layer's responses.

    Attributes
    ----------
    rectified : bool
        Where a plain ReLU follows, fit what passes it; otherwise, and without images, the linear
        solution.
    """

    name: ClassVar[str] = "low-rank"
    types: ClassVar[tuple[str, ...]] = ("Convolution", "InnerProduct")
    calibrated: ClassVar[bool] = True
    sampled: ClassVar[bool] = True

    rectified: bool = field(
        default=True, metadata={"help": "fit what passes the ReLU that follows a layer"}
    )

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> ResponseBases:
        """Find the principal directions of the responses; nothing is random here."""
        return ResponseBases(layers, self, evidence or Evidence.assumed(layers[0]))


class ResponseBases:
    """A layer whose responses become low-rank.

    Parameters
    ----------
    layers : sequence of Layer
        The layer and those that share its weights.
    method : LowRank
    evidence : Evidence
    """

    fixed = 0

    def __init__(self, layers: Sequence[Layer], method: LowRank, evidence: Evidence) -> None:
        self._layers = layers
        self._evidence = evidence
        self._statistics = evidence.statistics
        self._weights = weight_rows(layers[0])
        self._scales = evidence.output_scales.reshape(len(self._weights), -1)
        self._rectify = method.rectified and evidence.rectified

    @cached_property
    def offer(self) -> Offer:
        """Every rank (of all groups) with the response variance it explains and its weights."""
        gains = np.zeros((self._full, 1))
        for weights, inputs, scales in zip(
            self._weights, self._statistics.inputs, self._scales, strict=True
        ):
            scaled = weights * scales[:, None]
            values = np.linalg.eigvalsh(scaled @ inputs @ scaled.T)[::-1]
            gains[:, 0] += np.maximum(values[: self._full], 0.0)
        tiny = self._full * np.finfo(np.float64).eps * gains.max(initial=0.0)
        gains[gains <= tiny] = 0.0
        return Offer(gains, np.full(self._full, self._per_rank - 1, np.int64))

    @property
    def _full(self) -> int:
        return int(min(self._weights.shape[1:]))

    @property
    def _per_rank(self) -> int:
        count, outputs, size = self._weights.shape
        return int(count * (outputs + size))

    def choose(self, budget: int) -> Mask:
        """Take the leading directions that ``budget`` weights are enough for, at least one."""
        keep = np.zeros((self._full, 1), bool)
        keep[: max(1, min(self._full, budget // self._per_rank))] = True
        return keep

    def size(self, keep: Mask) -> int:
        """Count the weights of both layers."""
        return int(keep.sum()) * self._per_rank

    def error(self, keep: Mask) -> float:
        """Relative response error of a choice: of the linear solution."""
        maps = self._linear(max(1, int(keep.sum())))
        return self._error([m.up @ m.down for m in maps])

    def _error(self, maps: Sequence[Array]) -> float:
        approximation = np.array(maps) @ self._weights
        error = self._statistics.response_error(self._weights, approximation)
        energy = self._statistics.response_energy(self._weights)
        weight = np.square(self._scales)
        return float(np.sqrt((weight * error).sum() / ((weight * energy).sum() or 1.0)))

    def _linear(self, rank: int) -> list[LowRankMap]:
        return [self._linear_of(g, rank) for g in range(len(self._weights))]

    def _linear_of(self, g: int, rank: int) -> LowRankMap:
        """Solve one group, outputs scaled by what follows; the bias takes part outside."""
        weights, scales, found = self._weights[g], self._scales[g], self._statistics
        scaled = weights * scales[:, None]
        fitted = fit_linear(
            scaled @ found.cross[g] @ weights.T,
            weights @ found.inputs[g] @ weights.T,
            scaled @ found.mean_original[g],
            weights @ found.mean[g],
            rank,
        )
        return LowRankMap(fitted.up / scales[:, None], fitted.down, fitted.shift / scales)

    def _rectified(self, rank: int) -> list[LowRankMap]:
        found, bias = self._statistics, self._bias()
        assert found.responses is not None and found.responses_original is not None
        fitted = []
        for g in range(len(self._weights)):
            wanted = found.responses_original[g].astype(np.float64)
            given = found.responses[g].astype(np.float64)
            fit = fit_rectified(wanted + bias[g], given, rank)
            fitted.append(LowRankMap(fit.up, fit.down, fit.shift - bias[g]))
        return fitted

    def _bias(self) -> Array:
        blobs = self._layers[0].blobs
        outputs = self._weights.shape[0] * self._weights.shape[1]
        bias = blobs[1] if len(blobs) > 1 else np.zeros(outputs)
        return np.asarray(bias, np.float64).reshape(self._weights.shape[:2])

    def edits(self, keep: Mask | None) -> list[Edit]:
        """Write both layers, the same arrays for every sharer."""
        rank = self._full if keep is None else max(1, int(keep.sum()))
        sampled = self._statistics.responses is not None
        maps = self._rectified(rank) if self._rectify and sampled else self._linear(rank)
        down = np.array([m.down @ w for m, w in zip(maps, self._weights, strict=True)])
        up = np.array([m.up for m in maps])
        shift = np.concatenate([m.shift for m in maps]) if self._statistics.count else None
        error = relative_error(self._weights, up @ down)
        response = self._error([m.up @ m.down for m in maps])
        blobs = self._blobs(down, up)
        biases = shifted_biases(self._layers, shift)
        return [
            Edit(layer, _chain(layer, *blobs, bias), error, response)
            for layer, bias in zip(self._layers, biases, strict=True)
        ]

    def _blobs(self, down: Array, up: Array) -> tuple[Blob, Blob]:
        layer = self._layers[0]
        kernel = () if layer.type == "InnerProduct" else layer.blobs[0].shape[2:]
        inputs = down.shape[2] // prod(kernel)
        ones = (1,) * len(kernel)
        return (
            down.reshape(-1, inputs, *kernel).astype(np.float32),
            up.reshape(-1, up.shape[2], *ones).astype(np.float32),
        )


def _chain(layer: Layer, down: Blob, up: Blob, biases: Sequence[Blob]) -> tuple[Layer, ...]:
    if layer.type == "InnerProduct":
        return inner_product_chain(layer, down, up, biases)
    group = groups(layer)
    return convolution_chain(layer, [("a", down, group), ("b", up, group)], "a", biases)
