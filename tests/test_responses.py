"""Responses of low rank against closed forms; the ReLU-aware fit."""

import numpy as np
import pytest

from caffe_scnn.calibrate import Samples
from caffe_scnn.decompose.responses import ResponseProblem, rectified_step


def correlated(seed, rows=4000, n=12, spread=6.0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n, n)) * np.exp(-spread * np.arange(n) / n)
    return rng.standard_normal((rows, n)) @ mixing.T


def problem(wanted, given, scales=None):
    """Regress rows on others, nothing assumed."""
    y, f = wanted - wanted.mean(axis=0), given - given.mean(axis=0)
    count = len(y)
    return ResponseProblem(
        y.T @ f / count,
        f.T @ f / count,
        np.square(y).mean(axis=0),
        wanted.mean(axis=0),
        given.mean(axis=0),
        np.ones(y.shape[1]) if scales is None else scales,
        (y.astype(np.float32), f.astype(np.float32)),
        np.zeros((y.shape[1], f.shape[1])),
    )


def test_equal_targets_give_principal_components():
    y = correlated(0)
    found = problem(y, y)
    values = np.linalg.eigvalsh(found.moment)[::-1]
    for rank in (1, 4, 9):
        fit = found.linear(rank)
        lost = np.square(y - fit(y)).sum(axis=1).mean()
        assert lost == pytest.approx(values[rank:].sum(), rel=1e-6)
        assert found.errors(fit).sum() == pytest.approx(lost, rel=1e-6)


@pytest.mark.parametrize("shape", [(7, 20), (20, 7)])
def test_assumed_inputs_give_the_truncated_decomposition_of_the_weights(shape):
    """Eckart and Young: no matrix of the rank is nearer, every output weighed."""
    rng = np.random.default_rng(5)
    weights, scales = rng.standard_normal(shape), rng.uniform(0.2, 3, shape[0])
    found = ResponseProblem.assumed(weights, weights, scales)
    tail = np.linalg.svd(scales[:, None] * weights, compute_uv=False)
    for rank in (1, 3, 6):
        fit = found.linear(rank)
        off = scales[:, None] * (weights - fit.up @ fit.down @ weights)
        assert np.linalg.norm(off) == pytest.approx(np.linalg.norm(tail[rank:]), rel=1e-6)
        assert np.linalg.matrix_rank(fit.up @ fit.down, tol=1e-9) == rank


@pytest.mark.parametrize("features", [5, 12, 17])
def test_reduced_rank_regression_agrees_with_whitening(features):
    """By another route: whiten the inputs, cut the SVD of the regression, colour again."""
    rng = np.random.default_rng(1)
    given = correlated(1, n=features) + rng.standard_normal((4000, features))
    wanted = correlated(2, spread=3.0) + given @ rng.standard_normal((features, 12))
    scales = rng.uniform(0.3, 2, 12)
    found = problem(wanted, given, scales)
    lower = np.linalg.cholesky(found.moment)
    whitened = np.linalg.solve(lower, (scales[:, None] * found.cross).T).T
    left, values, right = np.linalg.svd(whitened, full_matrices=False)
    for rank in (1, 3, 5):
        other = (left[:, :rank] * values[:rank]) @ np.linalg.solve(lower.T, right[:rank].T).T
        fit = found.linear(rank)
        np.testing.assert_allclose(
            scales[:, None] * (fit.up @ fit.down), other, rtol=1e-6, atol=1e-8
        )


def test_at_full_rank_it_is_ordinary_least_squares():
    given, noise = correlated(3, n=6, spread=1.0), np.random.default_rng(3)
    wanted = given @ noise.standard_normal((6, 9)) + noise.standard_normal((4000, 9)) + 2
    fit = problem(wanted, given).linear(9)
    design = np.column_stack([given, np.ones(4000)])
    exact, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    np.testing.assert_allclose((fit.up @ fit.down).T, exact[:-1], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.shift, exact[-1], rtol=1e-6)


def test_few_rows_are_filled_up_with_what_the_weights_say():
    """With one row for every ten inputs the regression is not the one that fits them exactly."""
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((8, 300))
    train, test = (rng.standard_normal((1, rows, 300)).astype(np.float32) for rows in (30, 500))
    responses = (train @ weights.T).astype(np.float32)
    found = ResponseProblem.sampled(weights, weights, np.ones(8), Samples(train, responses), 0)
    fit = found.linear(6)
    y = test[0] @ weights.T
    lost = np.square(y - fit(y)).sum() / np.square(y).sum()
    tail = np.square(np.linalg.svd(weights, compute_uv=False))
    assert lost < 1.1 * tail[6:].sum() / tail.sum()


def test_the_step_in_z_is_the_minimum_of_a_fine_grid():
    rng = np.random.default_rng(2)
    target, mapped = np.maximum(rng.standard_normal(200), 0), rng.standard_normal(200)
    grid = np.linspace(-4, 4, 8001)[:, None]
    for penalty in (0.01, 1.0, 10.0):
        cost = lambda z, p=penalty: (target - np.maximum(z, 0)) ** 2 + p * (z - mapped) ** 2  # noqa: E731
        found = rectified_step(target, mapped, penalty)
        assert (cost(found) <= cost(grid).min(axis=0) + 1e-12).all()


def rectified_error(y, fit, given, bias):
    return np.square(np.maximum(y + bias, 0) - np.maximum(fit(given) + bias, 0)).sum()


@pytest.mark.parametrize("rank", [2, 4, 6])
@pytest.mark.parametrize("features", [8, 12])
def test_the_rectified_fit_is_better_behind_a_relu(rank, features):
    y = correlated(3, spread=1.5)
    given = y @ np.random.default_rng(rank).standard_normal((12, features))
    found, bias = problem(y, given), np.linspace(-1, 0.3, 12)
    rectified, linear = found.rectified(rank, bias), found.linear(rank)
    assert rectified_error(y, rectified, given, bias) < 0.98 * rectified_error(
        y, linear, given, bias
    )
