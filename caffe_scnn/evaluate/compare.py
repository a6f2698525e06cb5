"""Blob by blob: whether a net computes what another net, or a stored result, says it should."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.evaluate.arrays import Values, input_shapes
from caffe_scnn.evaluate.golden import Golden
from caffe_scnn.layers.base import Shape
from caffe_scnn.model.net import Net

TOLERANCE = 2e-5
# What Caffe leaves in a pooling window without cells: -FLT_MAX, no result of arithmetic.
NO_CELLS = -np.finfo(np.float32).max


@dataclass(frozen=True)
class BlobDifference:
    """How far one blob is from what it should be.

    Attributes
    ----------
    blob : str
    layer : str
        The layer that gives the blob its last value.
    shape, wanted_shape : tuple of int
    difference : float
        Largest absolute difference; infinite when the shapes or the places of special values (NaN,
        infinities, -FLT_MAX) differ.
    magnitude : float
        Largest finite magnitude of the wanted values: what ``difference`` is measured against.
    agrees : bool
        ``difference <= tolerance · magnitude``.
    """

    blob: str
    layer: str
    shape: Shape
    wanted_shape: Shape
    difference: float
    magnitude: float
    agrees: bool

    @property
    def relative(self) -> float:
        """``difference / magnitude``; 0 for equal blobs, infinite where only the wanted is 0."""
        if self.difference == 0:
            return 0.0
        return self.difference / self.magnitude if self.magnitude else float("inf")


@dataclass(frozen=True)
class Comparison:
    """All blobs that were compared, in the order in which the net makes them."""

    blobs: tuple[BlobDifference, ...]
    tolerance: float

    @property
    def first_divergence(self) -> BlobDifference | None:
        """The first blob that does not agree."""
        return next((blob for blob in self.blobs if not blob.agrees), None)

    @property
    def passed(self) -> bool:
        """Whether every blob agrees."""
        return self.first_divergence is None


def difference(got: NDArray[Any], wanted: NDArray[Any]) -> tuple[float, float]:
    """Compare two arrays.

    Parameters
    ----------
    got, wanted : ndarray
        NaN, infinities and -FLT_MAX must sit at the same places and are left out of both numbers.

    Returns
    -------
    difference : float
        ``max|got − wanted|``; infinite when shapes or special values differ.
    magnitude : float
        ``max|wanted|``.
    """
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    special = _is_special(wanted)
    ordinary = wanted[~special]
    magnitude = float(np.max(np.abs(ordinary), initial=0.0))
    if got.shape != wanted.shape or not np.array_equal(special, _is_special(got)):
        return float("inf"), magnitude
    if not np.array_equal(got[special], wanted[special], equal_nan=True):
        return float("inf"), magnitude
    return float(np.max(np.abs(got[~special] - ordinary), initial=0.0)), magnitude


def compare_with_golden(
    net: Net,
    golden: Golden,
    *,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
) -> Comparison:
    """Run ``net`` on a golden's inputs and compare every blob it stores.

    Parameters
    ----------
    net : Net
        Opened as the golden says.
    golden : Golden

    Raises
    ------
    ModelError
        The golden lacks an input, or stores a blob that the net does not have.
    """
    found: list[BlobDifference] = []
    executor: Executor | None = None
    for step in golden.steps:
        fed = golden.inputs(input_shapes(net), step)
        # One executor for all steps: a recurrent net carries its state on.
        executor = executor or Executor(net, _shapes(fed), threads=threads)
        wanted = golden.blobs(step)
        first = golden.first_items() if not step else {}
        got = executor.run(fed, blobs=[*wanted, *(name for name in first if name not in wanted)])
        got |= {name: got[name][:1] for name in first if name not in wanted}
        found += compare_blobs(net, got, {**first, **wanted}, tolerance)
    return Comparison(tuple(found), tolerance)


def compare_nets(
    net: Net,
    reference: Net,
    inputs: Mapping[str, Values],
    *,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
) -> Comparison:
    """Run two nets on the same inputs and compare every blob whose name they share.

    Raises
    ------
    ModelError
        The nets share no blob besides their inputs.
    """
    produced = _producers(reference)
    shared = [blob for blob in _producers(net) if blob in produced and blob not in inputs]
    if not shared:
        raise ModelError("the two nets have no blob of the same name besides their inputs")
    shapes = _shapes(inputs)
    wanted = Executor(reference, shapes, threads=threads).run(inputs, blobs=shared)
    got = Executor(net, shapes, threads=threads).run(inputs, blobs=shared)
    return Comparison(tuple(compare_blobs(net, got, wanted, tolerance)), tolerance)


def compare_blobs(
    net: Net,
    got: Mapping[str, NDArray[Any]],
    wanted: Mapping[str, NDArray[Any]],
    tolerance: float,
) -> Iterable[BlobDifference]:
    """Compare blobs by name, in the order in which ``net`` makes them."""
    for blob, layer in _producers(net).items():
        if blob in wanted:
            gap, magnitude = difference(got[blob], wanted[blob])
            agrees = gap <= tolerance * magnitude
            shapes = got[blob].shape, wanted[blob].shape
            yield BlobDifference(blob, layer, *shapes, gap, magnitude, agrees)


def _is_special(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    special: NDArray[np.bool_] = ~np.isfinite(values) | (values == NO_CELLS)
    return special


def _producers(net: Net) -> dict[str, str]:
    """Blob → the layer that writes it last, ordered by that writing."""
    last: dict[str, str] = {}
    for layer in net:
        for top in layer.tops:
            last.pop(top, None)
            last[top] = layer.name
    return last


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Shape]:
    return {name: array.shape for name, array in arrays.items()}
