"""Means and scales given back at the end."""

from __future__ import annotations

import numpy as np
import pytest
from coupled_nets import DATA, conv, fc, layer, net_of

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import Goal, Recipe, compress
from caffe_scnn.decompose.channels import ChannelSelection
from caffe_scnn.decompose.correct import correct
from caffe_scnn.decompose.obs import Obs

NORM = "scale_param { bias_term: true }"
FOLDED = (
    DATA + conv("a", "data", 6) + layer("r", "ReLU", "a", tops="a") + conv("b", "a", 4)
    + layer("t", "ReLU", "b", tops="b") + fc("end", "b", 3)
)  # fmt: skip
NORMED = (
    DATA + conv("a", "data", 6) + layer("n", "BatchNorm", "a", tops="a")
    + layer("s", "Scale", "a", NORM, tops="a") + layer("r", "ReLU", "a", tops="a")
    + conv("b", "a", 4) + layer("m", "BatchNorm", "b") + fc("end", "m", 3)
)  # fmt: skip


@pytest.fixture
def calibration():
    values = np.random.default_rng(0).standard_normal((32, 3, 6, 5)).astype(np.float32)
    return Calibration(Images(values), threads=1)


def damaged(net, *names):
    """Make weights of layers smaller by a third, and leave some out."""
    small = net.copy()
    for name in names:
        part = small.layer(name)
        blob = part.blobs[0] * np.float32(0.67)
        blob.ravel()[::3] = 0
        part.blobs[0] = blob
    return small


def corrected(net, small, calibration, fitted=()):
    small = small.copy()
    correct(net, small, calibration, fitted)
    return small


def means(calibration, net, blob, upto):
    cut = net.copy()
    cut.layers = cut.layers[: 1 + [part.name for part in cut].index(upto)]
    return calibration.channel_moments(cut, [blob])[blob]


def test_mean_responses_are_what_they_were(calibration):
    net = net_of(FOLDED)
    fixed = corrected(net, damaged(net, "a", "b"), calibration)
    for name in "a", "b", "end":
        want, got = (means(calibration, one, name, name)[0] for one in (net, fixed))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    off = means(calibration, damaged(net, "a", "b"), "b", "b")[0]
    assert np.abs(off - means(calibration, net, "b", "b")[0]).max() > 0.01


def test_batch_norm_gives_what_it_gave(calibration):
    net = net_of(NORMED)
    fixed = corrected(net, damaged(net, "a", "b"), calibration)
    for blob, name in (("a", "n"), ("m", "m")):
        for want, got in zip(
            means(calibration, net, blob, name), means(calibration, fixed, blob, name), strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(fixed.layer("a").blobs[1], net.layer("a").blobs[1])


def test_a_net_that_was_not_changed_stays(calibration):
    for text in FOLDED, NORMED:
        net = net_of(text)
        same = corrected(net, net.copy(), calibration)
        assert all(
            a is b for one, two in zip(net, same, strict=True)
            for a, b in zip(one.blobs, two.blobs, strict=True)
        )  # fmt: skip


def test_what_lies_before_the_change_stays(calibration):
    net = net_of(FOLDED)
    small = damaged(net, "b")
    fixed = corrected(net, small, calibration)
    assert fixed.layer("a").blobs[1] is net.layer("a").blobs[1]
    assert fixed.layer("b").blobs[1] is not net.layer("b").blobs[1]
    assert small.layer("b").blobs[1] is net.layer("b").blobs[1]


def test_channels_that_are_dead_are_no_trouble(calibration):
    net = net_of(NORMED)
    small = damaged(net, "a")
    small.layer("a").blobs[0][2] = 0
    fixed = corrected(net, small, calibration)
    assert all(np.isfinite(blob).all() for part in fixed for blob in part.blobs)


def test_what_was_fitted_is_left_alone(calibration):
    net = net_of(FOLDED)
    fixed = corrected(net, damaged(net, "a"), calibration, {"a"})
    assert fixed.layer("a").blobs[1] is net.layer("a").blobs[1]
    assert fixed.layer("b").blobs[1] is not net.layer("b").blobs[1]


def test_every_calibrated_method_ends_with_it(calibration):
    for method in Obs(), ChannelSelection():
        net = net_of(FOLDED)
        made = compress(net, Recipe(Goal(method, 0.4), layers=("a",)), calibration=calibration)
        want, got = (means(calibration, one, "end", "end")[0] for one in (net, made.net))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def test_few_images_are_not_the_first_ones():
    """Pictures often come sorted by class."""
    values = np.arange(100, dtype=np.float32).reshape(100, 1)
    few = Calibration(Images(values)).few(20)
    seen = np.concatenate([batch for _, batch in few.images.batches()])
    assert len(seen) == 20
    assert seen.min() < 20
    assert seen.max() > 80
