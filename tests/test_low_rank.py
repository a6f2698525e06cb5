"""Low-rank responses: closed forms, the ReLU-aware fit, what is written."""

from itertools import pairwise

import numpy as np
import pytest
from test_decompose_compress import CHAIN, INPUT, layer, net_of
from test_obs import distance, images

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import Goal, LowRank, Recipe, compress
from caffe_scnn.decompose.responses import fit_linear, fit_rectified, rectified_step, reduced_rank
from caffe_scnn.engine import Executor
from caffe_scnn.layers.summary import summarize


def correlated(seed, rows=4000, n=12, spread=6.0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n, n)) * np.exp(-spread * np.arange(n) / n)
    return rng.standard_normal((rows, n)) @ mixing.T


def test_equal_targets_give_principal_components():
    y = correlated(0)
    centred = y - y.mean(axis=0)
    moment = centred.T @ centred / len(y)
    values = np.linalg.eigvalsh(moment)[::-1]
    for rank in (1, 4, 9):
        fit = fit_linear(moment, moment, y.mean(axis=0), y.mean(axis=0), rank)
        lost = np.square(y - fit(y)).sum(axis=1).mean()
        assert lost == pytest.approx(values[rank:].sum(), rel=1e-6)


def test_reduced_rank_regression_agrees_with_whitening():
    """By another route: whiten the inputs, cut the SVD of the regression, colour again."""
    rng = np.random.default_rng(1)
    given = correlated(1) + rng.standard_normal((4000, 12))
    wanted = correlated(1, spread=3.0) @ rng.standard_normal((12, 12)) + given
    wanted, given = wanted - wanted.mean(axis=0), given - given.mean(axis=0)
    cross, moment = wanted.T @ given / 4000, given.T @ given / 4000
    lower = np.linalg.cholesky(moment)
    left, values, right = np.linalg.svd(np.linalg.solve(lower, cross.T).T, full_matrices=False)
    for rank in (1, 3, 7):
        other = (left[:, :rank] * values[:rank]) @ np.linalg.solve(lower.T, right[:rank].T).T
        up, down = reduced_rank(cross, moment, rank)
        np.testing.assert_allclose(up @ down, other, rtol=1e-6, atol=1e-8)


def test_the_step_in_z_is_the_minimum_of_a_fine_grid():
    rng = np.random.default_rng(2)
    target, mapped = np.maximum(rng.standard_normal(200), 0), rng.standard_normal(200)
    grid = np.linspace(-4, 4, 8001)[:, None]
    for penalty in (0.01, 1.0, 10.0):
        cost = lambda z, p=penalty: (target - np.maximum(z, 0)) ** 2 + p * (z - mapped) ** 2  # noqa: E731
        found = rectified_step(target, mapped, penalty)
        assert (cost(found) <= cost(grid).min(axis=0) + 1e-12).all()


def rectified_error(y, fit, given):
    return np.square(np.maximum(y, 0) - np.maximum(fit(given), 0)).sum()


@pytest.mark.parametrize("rank", [2, 4, 6])
def test_the_rectified_fit_is_better_behind_a_relu(rank):
    y = correlated(3, spread=1.5) - 0.5
    centred = y - y.mean(axis=0)
    moment = centred.T @ centred / len(y)
    linear = fit_linear(moment, moment, y.mean(axis=0), y.mean(axis=0), rank)
    assert rectified_error(y, fit_rectified(y, y, rank), y) < rectified_error(y, linear, y)


def compressed(method, density, calibration=True, layers=("conv2", "conv3")):
    net = net_of(*CHAIN)
    found = Calibration(Images(images()), threads=1) if calibration else None
    return net, compress(net, Recipe(Goal(method, density), layers=layers), calibration=found)


@pytest.mark.parametrize("calibration", [True, False])
@pytest.mark.parametrize("rectified", [True, False])
def test_full_rank_answers_as_before(calibration, rectified):
    net, found = compressed(LowRank(rectified), None, calibration, ("conv2", "conv3", "fc"))
    assert [r.written for r in found.reports] == [
        (f"{n}/a", f"{n}/b") for n in ("conv2", "conv3", "fc")
    ]
    x = images()
    first, second = (Executor(n, threads=1).run({"data": x}) for n in (net, found.net))
    np.testing.assert_allclose(second["fc"], first["fc"], atol=1e-3 * np.abs(first["fc"]).max())


def test_error_falls_with_rank_and_counts_are_kept():
    errors = []
    for density in (0.2, 0.4, 0.6, 0.8):
        _, found = compressed(LowRank(), density)
        for report in found.reports:
            assert report.after.nonzeros <= density * report.before.parameters
        errors.append(found.reports[0].response_error)
    assert all(a > b for a, b in pairwise(errors))


def test_images_make_it_better_on_other_images():
    x = images(seed=1)
    errors = []
    for calibration in (True, False):
        net, found = compressed(LowRank(), 0.4, calibration)
        errors.append(distance(net, found.net, x))
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize(
    "parameters",
    [
        "num_output: 12 kernel_size: 3 stride: 2 pad: 1",
        "num_output: 12 kernel_h: 2 kernel_w: 3 pad_w: 1 group: 3",
        "num_output: 12 kernel_size: 3 dilation: 2 bias_term: false",
    ],
)
def test_any_geometry(parameters):
    net = net_of(INPUT, layer("c", "data", parameters))
    found = compress(net, Recipe(Goal(LowRank()), layers=("c",)))
    x = images()
    first, second = (Executor(n).run({"data": x})["c"] for n in (net, found.net))
    np.testing.assert_allclose(first, second, atol=2e-5 * np.abs(first).max())


def stacked(asymmetric):
    """Two layers in a row at a low rank; targets of the second from inputs as they have become."""
    net = net_of(*CHAIN)
    x = images()
    calibration = Calibration(Images(x), threads=1)
    if not asymmetric:
        # Every layer by itself on the original net's inputs.
        small = net.copy()
        for name in ("conv2", "conv3"):
            recipe = Recipe(Goal(LowRank(), 0.25), layers=(name,))
            done = compress(net, recipe, calibration=calibration).net
            written = [part for part in done if part.name.startswith(f"{name}/")]
            small.replace(small.layer(name), *written)
        return net, small
    recipe = Recipe(Goal(LowRank(), 0.25), layers=("conv2", "conv3"))
    return net, compress(net, recipe, calibration=calibration).net


def test_targets_of_the_original_and_inputs_of_the_compressed_net_are_better():
    x = images(seed=1, count=200)
    assert distance(*stacked(True), x) < distance(*stacked(False), x)


def test_found_ranks_are_better_than_equal_densities():
    net = net_of(*CHAIN)
    conv3 = net.layer("conv3")
    left, values, right = np.linalg.svd(conv3.blobs[0].reshape(32, -1), full_matrices=False)
    few = (left * values * np.exp(-np.arange(32.0))) @ right
    conv3.blobs[0] = few.reshape(conv3.blobs[0].shape).astype(np.float32)
    calibration = Calibration(Images(images()), threads=1)
    layers = ("conv1", "conv2", "conv3")
    x = images(seed=1)
    equal = compress(net, Recipe(Goal(LowRank(), 0.5), layers=layers), calibration=calibration)
    macs = summarize(equal.net).total.nonzero_macs / summarize(net).total.nonzero_macs
    recipe = Recipe(Goal(LowRank()), macs=macs, layers=layers)
    found = compress(net, recipe, calibration=calibration)
    assert (
        summarize(found.net).total.nonzero_macs <= 1.001 * summarize(equal.net).total.nonzero_macs
    )
    assert distance(net, found.net, x) < distance(net, equal.net, x)
