"""Sparse matrix × vector in the hybrid format: a regular part, and rows of the rest."""

import os
from itertools import pairwise, product

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine.sparse_vector import (
    LEAST_FILLED,
    LEAST_STEPS,
    MOST_STEPS,
    ROWS,
    SparseVector,
    step_counts,
    window_columns,
)
from caffe_scnn.errors import KernelError

CAP = os.environ.get("CAFFE_SCNN_ISA")
ISAS = [isa for isa in _kernels.isas() if CAP in (None, isa)]


def random_matrix(shape, density, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal(shape).astype(np.float32)
    return np.where(rng.random(shape) < density, weights, np.float32(0))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("density", [0.0, 0.02, 0.2, 1.0])
def test_products_for_all_shapes(isa, density):
    rng = np.random.default_rng(1)
    for shape in product((1, 16, 37, 160), (3, 127, 128, 256, 700)):
        weights = random_matrix(shape, density)
        x, bias = (rng.standard_normal(size).astype(np.float32) for size in shape[::-1])
        size = np.abs(weights).astype(np.float64) @ np.abs(x) + np.abs(bias)
        for given, threads in product((bias, None), (1, 2)):
            y = np.full(shape[0], np.nan, np.float32)
            SparseVector(isa, weights, given).run(x, y, threads)
            want = weights.astype(np.float64) @ x + (0 if given is None else given)
            assert (np.abs(y - want) <= 1e-6 * size).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("density", [0.1, 0.16, 0.26])
def test_a_non_zero_takes_less_than_six_and_a_half_bytes(isa, density):
    weights = random_matrix((512, 1280), density)
    product = SparseVector(isa, weights, None)
    assert product.kernel == f"f32_ell__{isa} f32_spmv__{isa}"
    assert product.nbytes <= 6.5 * np.count_nonzero(weights)


@pytest.mark.parametrize(("columns", "rows"), LEAST_FILLED.items())
def test_steps_end_where_few_rows_have_entries(columns, rows):
    counts = np.zeros((ROWS + 3, 4), np.int32)
    counts[: rows - 1, 0] = 100  # too few rows
    counts[:rows, 1] = LEAST_STEPS + np.arange(rows)
    counts[:, 2] = MOST_STEPS + 1  # a full window of 256 columns
    counts[:, 3] = 50  # a window that is not whole
    shape = ROWS + 3, 3 * columns + 9
    assert step_counts(counts, shape, columns).tolist() == [[0, LEAST_STEPS, MOST_STEPS]]


@pytest.mark.parametrize("columns", LEAST_FILLED)
def test_everything_is_packed_once(columns):
    weights = random_matrix((50, 600), 0.3)
    counts = _kernels.window_counts(weights, columns)
    edges = [*range(0, 600, columns), 600]
    want = [[np.count_nonzero(row[a:b]) for a, b in pairwise(edges)]
            for row in weights]  # fmt: skip
    assert counts.tolist() == want
    steps = step_counts(counts, weights.shape, columns)
    assert steps.any()
    column, value, start, rest_column, rest_value = _kernels.split_rows(
        weights, counts, steps, columns
    )
    found = np.zeros_like(weights)
    at = 0
    for (tile, window), number in np.ndenumerate(steps.astype(int)):
        for lane in range(ROWS):
            entries = slice(at, at + number)
            np.add.at(
                found[tile * ROWS + lane],
                window * columns + column[entries, lane].astype(int),
                value[entries, lane],
            )
        at += number
    for row in range(50):
        entries = slice(start[row], start[row + 1])
        found[row, rest_column[entries]] += rest_value[entries]
    assert np.array_equal(found, weights)


@pytest.mark.parametrize("isa", ISAS)
def test_parts_that_do_not_fit_together_are_refused(isa):
    columns = window_columns(isa)
    steps = np.full((2, 2), 3, np.uint8)
    column, value = np.zeros((12, ROWS), np.uint8), np.zeros((12, ROWS), np.float32)
    for broken in (
        (steps[:1], column, value),
        (steps, column[:11], value),
        (steps, column[:, :8].copy(), value),
    ):
        with pytest.raises(KernelError, match="do not fit together"):
            _kernels.Ell(isa, *broken, columns)
    with pytest.raises(KernelError, match="no kernel ell 16x100"):
        _kernels.Ell(isa, steps, column, value, 100)
    part = _kernels.Ell(isa, steps, column, value, columns)
    x, y = np.zeros(2 * columns, np.float32), np.zeros(32, np.float32)
    part.run(None, x, y, 1)
    for short in ((None, x[:-1], y), (None, x, y[:31]), (y[:31], x, y)):
        with pytest.raises(KernelError, match="too short"):
            part.run(*short, 1)


def test_counts_of_another_matrix_are_refused():
    weights = random_matrix((16, 128), 0.5)
    counts, steps = _kernels.window_counts(weights, 128), np.zeros((1, 1), np.uint8)
    for given in ((counts[:15], steps), (counts, np.zeros((2, 1), np.uint8))):
        with pytest.raises(KernelError, match="do not fit together"):
            _kernels.split_rows(weights, *given, 128)
    for columns in (0, 64, 257):
        with pytest.raises(KernelError, match="do not fit together"):
            _kernels.split_rows(weights, counts, steps, columns)
    with pytest.raises(KernelError, match="windows of 0 columns"):
        _kernels.window_counts(weights, 0)
