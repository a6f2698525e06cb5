"""Low rank and sparse together."""

import numpy as np
import pytest
from test_decompose_compress import CHAIN, net_of
from test_obs import distance, images

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import Goal, LowRank, Obs, Recipe, SparseLowRank, compress
from caffe_scnn.engine import Executor
from caffe_scnn.errors import CaffeScnnError

LAYERS = ("conv2", "conv3")


def chain_of_rank_four():
    """conv3's weights have rank 4, and half of what spans them is zero."""
    net = net_of(*CHAIN)
    rng = np.random.default_rng(5)
    left, right = rng.standard_normal((32, 4)), rng.standard_normal((4, 216))
    right *= rng.random(right.shape) < 0.3
    net.layer("conv3").blobs[0] = (left @ right).reshape(32, 24, 3, 3).astype(np.float32)
    return net


def done(method, density, net=None, layers=LAYERS):
    net = net or chain_of_rank_four()
    calibration = Calibration(Images(images(count=120)), threads=1)
    return net, compress(net, Recipe(Goal(method, density), layers=layers), calibration=calibration)


def test_both_layers_have_the_zeros_that_were_asked_for():
    _, found = done(SparseLowRank(kept=0.4), 0.5)
    for name in LAYERS:
        for suffix in "ab":
            blob = found.net.layer(f"{name}/{suffix}").blobs[0]
            assert np.count_nonzero(blob) == pytest.approx(0.4 * blob.size, abs=4)
    assert all(report.density <= 0.5 for report in found.reports)


def test_a_layer_that_is_both_loses_less_than_by_either_alone():
    errors = [
        done(method, 0.08, layers=("conv3",))[1].reports[0].response_error
        for method in (SparseLowRank(), LowRank(), Obs())
    ]
    assert errors[0] < 0.8 * min(errors[1:])


def test_the_reported_error_is_the_measured_one_and_means_stay():
    net, found = done(SparseLowRank(), 0.3)
    x = images(count=120)
    first, second = (
        Executor(n, threads=1).run({"data": x}, ["conv3"])["conv3"] for n in (net, found.net)
    )
    off, full = (y - y.mean((0, 2, 3), keepdims=True) for y in (first - second, first))
    measured = np.linalg.norm(off) / np.linalg.norm(full)
    assert found.reports[-1].response_error == pytest.approx(measured, rel=0.05)
    means = [y.mean((0, 2, 3)) for y in (first, second)]
    np.testing.assert_allclose(*means, atol=2e-3 * np.abs(first).max())
    assert distance(net, found.net, images(seed=1)) < 1


def test_without_images_weights_are_approximated():
    net = chain_of_rank_four()
    found = compress(net, Recipe(Goal(SparseLowRank(), 0.3), layers=LAYERS))
    assert all(report.response_error is None for report in found.reports)
    assert np.array_equal(found.net.layer("conv3/b").blobs[1], net.layer("conv3").blobs[1])


def test_nothing_kept_is_refused():
    with pytest.raises(CaffeScnnError, match=r"kept must be in \(0, 1\]"):
        SparseLowRank(kept=0)
