"""The low-rank methods on whole nets: exact at full rank, better on images, plain layers."""

from itertools import pairwise

import numpy as np
import pytest
from test_decompose_compress import CHAIN, INPUT, layer, net_of
from test_obs import distance, images

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import FcSvd, Goal, LowRank, LowRank3d, Recipe, Spatial, compress
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.layers.summary import summarize

CONVOLUTIONAL = [LowRank, Spatial, LowRank3d]
SUFFIXES = {LowRank: "ab", Spatial: "vh", LowRank3d: "vhb", FcSvd: "ab"}


def compressed(method, density, calibration=True, layers=("conv2", "conv3")):
    net = net_of(*CHAIN)
    found = Calibration(Images(images()), threads=1) if calibration else None
    return net, compress(net, Recipe(Goal(method, density), layers=layers), calibration=found)


@pytest.mark.parametrize("calibration", [True, False])
@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("kind", SUFFIXES)
def test_full_rank_answers_as_before(kind, calibration, rectified):
    names = ("fc",) if kind is FcSvd else ("conv2", "conv3")
    net, found = compressed(kind(rectified), None, calibration, names)
    assert [r.written for r in found.reports] == [
        tuple(f"{n}/{suffix}" for suffix in SUFFIXES[kind]) for n in names
    ]
    x = images()
    first, second = (Executor(n, threads=1).run({"data": x}) for n in (net, found.net))
    np.testing.assert_allclose(second["fc"], first["fc"], atol=1e-3 * np.abs(first["fc"]).max())


@pytest.mark.parametrize("kind", SUFFIXES)
def test_error_falls_with_rank_and_counts_are_kept(kind):
    errors = []
    for density in (0.25, 0.45, 0.65, 0.85):
        _, found = compressed(kind(), density, layers=("fc",) if kind is FcSvd else ("conv2",))
        (report,) = found.reports
        assert report.after.nonzeros <= density * report.before.parameters
        errors.append(report.response_error)
    assert all(a > b for a, b in pairwise(errors))


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_images_make_it_better_on_other_images(kind):
    x = images(seed=1)
    errors = []
    for calibration in (True, False):
        net, found = compressed(kind(), 0.4, calibration)
        assert all((r.response_error is not None) == calibration for r in found.reports)
        errors.append(distance(net, found.net, x))
    assert errors[0] < 0.8 * errors[1]


def test_images_make_the_fully_connected_pair_better_on_other_images():
    net = net_of(*CHAIN)
    errors = []
    for calibration in (Calibration(Images(images()), threads=1), None):
        recipe = Recipe(Goal(FcSvd(), 0.4), layers=("fc",))
        found = compress(net, recipe, calibration=calibration)
        errors.append(distance(net, found.net, images(seed=1)))
    assert errors[0] < 0.95 * errors[1]


GEOMETRIES = [
    "num_output: 12 kernel_size: 3 stride: 2 pad: 1",
    "num_output: 12 kernel_h: 2 kernel_w: 3 pad_w: 1 group: 3",
    "num_output: 12 kernel_size: 3 dilation: 2 bias_term: false",
    "num_output: 12 kernel_h: 3 kernel_w: 2 pad_h: 2 stride_h: 1 stride_w: 2 group: 2",
    "num_output: 12 kernel_size: [3, 2] dilation: [1, 3] stride: [2, 1] pad: [0, 2]",
    "num_output: 12 kernel_size: 3 group: 6",
]


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
@pytest.mark.parametrize("parameters", GEOMETRIES)
def test_any_geometry(kind, parameters):
    net = net_of(INPUT, layer("c", "data", parameters))
    found = compress(net, Recipe(Goal(kind()), layers=("c",)))
    x = images()
    first, second = (Executor(n).run({"data": x})["c"] for n in (net, found.net))
    np.testing.assert_allclose(first, second, atol=2e-5 * np.abs(first).max())


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
@pytest.mark.parametrize("parameters", GEOMETRIES)
def test_predicted_counts_are_those_of_the_written_layers(kind, parameters):
    net = net_of(INPUT, layer("c", "data", parameters))
    conv = net.layer("c")
    candidate = kind().prepare([conv], 0)
    bottom = infer_shapes(net).bottoms[conv][0]
    for step in {1, candidate.steps // 2 or 1, candidate.steps}:
        keep = candidate.prefix(step)
        small = net.copy()
        found = candidate.edits(keep)[0]
        small.replace(small.layer("c"), *found.chain)
        assert candidate.size(keep) == sum(part.blobs[0].size for part in found.chain)
        assert candidate.macs(keep, bottom) == summarize(small).total.macs
        assert candidate.offer.non_zeros(keep) == candidate.size(keep)


@pytest.mark.parametrize("kind", [Spatial, LowRank3d])
def test_kernels_that_cannot_be_split_are_left_out_or_refused(kind):
    pointwise = layer("wide", "conv3", "num_output: 9 kernel_size: 1")
    net = net_of(*CHAIN[:-1], pointwise)
    found = compress(net, Recipe(Goal(kind(), 0.5)))
    assert [report.layer for report in found.reports] == ["conv2", "conv3"]
    with pytest.raises(ModelError, match='"wide": a 1×1 kernel cannot be split into vertical'):
        compress(net, Recipe(Goal(kind(), 0.5), layers=("wide",)))


def test_a_separable_kernel_needs_its_own_rank_only():
    """Kernels made of two vertical filters are found again, whatever inputs are like."""
    net = net_of(*CHAIN)
    rng = np.random.default_rng(3)
    conv = net.layer("conv3")
    n, c, height, width = conv.blobs[0].shape
    vertical = rng.standard_normal((2, c, height))
    horizontal = rng.standard_normal((n, 2, width))
    conv.blobs[0] = np.einsum("rci,nrj->ncij", vertical, horizontal).astype(np.float32)
    size = 2 * (c * height + n * width)
    for calibration in (Calibration(Images(images()), threads=1), None):
        recipe = Recipe(
            Goal(Spatial(rectified=False), size / conv.blobs[0].size), layers=("conv3",)
        )
        (report,) = compress(net, recipe, calibration=calibration).reports
        assert report.after.parameters == size
        assert report.weight_error < 1e-5


def test_images_choose_better_vertical_filters_than_weights_do():
    """Inputs that hardly vary in half of their channels; the refit is the same for both."""
    net = net_of(INPUT, layer("c", "data", "num_output: 16 kernel_size: 3"))
    x = images() * np.where(np.arange(6) < 3, 1.0, 0.05)[:, None, None].astype(np.float32)
    calibration = Calibration(Images(x), threads=1)
    conv = net.layer("c")
    samples = calibration.samples(net, [[conv]], calibration.responses(net, [[conv]]))["c"]
    evidence = Evidence.assumed(conv).given(samples)
    seen = Spatial().prepare([conv], 0, evidence)
    blind = Spatial().prepare([conv], 0, evidence)
    blind._vertical = Spatial().prepare([conv], 0)._vertical
    keep = seen.prefix(4)
    assert seen.error(keep) < 0.8 * blind.error(keep)


def stacked(kind, symmetric):
    """Two layers in a row at a low rank; targets of the second from inputs as they have become."""
    net = net_of(*CHAIN)
    calibration = Calibration(Images(images(count=300)), threads=1)
    method = kind(symmetric=symmetric)
    recipe = Recipe(Goal(method, 0.4), layers=("conv2", "conv3"))
    return net, compress(net, recipe, calibration=calibration).net


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_inputs_of_the_compressed_net_are_better_than_those_of_the_original(kind):
    x = images(seed=1, count=200)
    assert distance(*stacked(kind, False), x) < 0.98 * distance(*stacked(kind, True), x)


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
