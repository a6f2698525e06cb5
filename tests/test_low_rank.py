"""The low-rank methods on whole nets: exact at full rank, better on images, plain layers."""

from itertools import pairwise

import numpy as np
import pytest
from test_decompose_compress import CHAIN, INPUT, layer, net_of
from test_obs import distance, images

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import FcSvd, Goal, LowRank, LowRank3d, Obs, Recipe, Spatial, compress
from caffe_scnn.decompose.allocate import allocate
from caffe_scnn.decompose.costs import Meter
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.fit import Setting
from caffe_scnn.decompose.ranks import ranked_curves
from caffe_scnn.decompose.responses import ResponseProblem
from caffe_scnn.decompose.search import CORRECTIONS
from caffe_scnn.decompose.select import select
from caffe_scnn.engine import Executor
from caffe_scnn.errors import CaffeScnnError, ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.layers.summary import summarize
from caffe_scnn.model.net import Net

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


def test_without_images_a_fully_connected_pair_is_the_truncated_decomposition():
    net = net_of(INPUT, layer("fc", "data", "num_output: 40", "InnerProduct"))
    fc = net.layer("fc")
    fc.blobs[0] /= np.linalg.norm(fc.blobs[0], axis=1, keepdims=True)
    tail = np.square(np.linalg.svd(fc.blobs[0].astype(np.float64), compute_uv=False))
    (edit,) = FcSvd().prepare([fc], 0).edits(np.arange(40)[:, None] < 13)
    down, up = (part.blobs[0].astype(np.float64) for part in edit.chain)
    assert down.shape == (13, 6 * 9 * 8) and up.shape == (40, 13)
    lost = np.square(fc.blobs[0] - up @ down).sum()
    assert lost == pytest.approx(tail[13:].sum(), rel=1e-6)
    assert edit.weight_error == pytest.approx(np.sqrt(tail[13:].sum() / tail.sum()), rel=1e-6)


@pytest.mark.parametrize("parameters", ["transpose: true", "axis: 2", "bias_term: false axis: -1"])
def test_fully_connected_layers_of_any_form(parameters):
    net = Net.parse(
        "\n".join([INPUT, layer("fc", "data", f"num_output: 7 {parameters}", "InnerProduct")])
    )
    rng, fc = np.random.default_rng(0), net.layer("fc")
    wanted = layer_type(fc).params(fc, infer_shapes(net).bottoms[fc])
    fc.blobs = [rng.standard_normal(param.shape).astype(np.float32) for param in wanted]
    x = images()
    for calibration in (None, Calibration(Images(x), threads=1)):
        found = compress(net, Recipe(Goal(FcSvd()), layers=("fc",)), calibration=calibration)
        first, second = (Executor(n).run({"data": x})["fc"] for n in (net, found.net))
        np.testing.assert_allclose(first, second, atol=2e-5 * np.abs(first).max())


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
    for step in {1, candidate.steps // 2 or 1, candidate.steps}:
        keep = candidate.prefix(step)
        small = net.copy()
        found = candidate.edits(keep)[0]
        small.replace(small.layer("c"), *found.chain)
        assert candidate.size(keep) == sum(part.blobs[0].size for part in found.chain)
        outline = candidate.outline(keep)[0][1]
        assert [part.blobs[0].shape for part in outline] == [
            part.blobs[0].shape for part in found.chain
        ]
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
    samples = calibration.samples(net, [[conv]])["c"]
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


def structured(seed=0):
    """A net whose layers have little rank, each another: what there is to find."""
    net = net_of(*CHAIN, seed=seed)
    rng = np.random.default_rng(seed)
    for name, spread in (("conv1", 0.3), ("conv2", 3.0), ("conv3", 12.0)):
        conv = net.layer(name)
        rows = conv.blobs[0].reshape(len(conv.blobs[0]), -1)
        left, values, right = np.linalg.svd(rows, full_matrices=False)
        few = (left * values[0] * np.exp(-spread * np.arange(len(values)) / len(values))) @ right
        few = few + 0.02 * few.std() * rng.standard_normal(few.shape)
        conv.blobs[0] = few.reshape(conv.blobs[0].shape).astype(np.float32)
    return net


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
@pytest.mark.parametrize("calibrated", [True, False])
def test_ranks_by_energy_are_better_than_uniform_ranks(kind, calibrated):
    net, x = structured(), images(seed=1, count=200)
    calibration = Calibration(Images(images(count=300)), threads=1) if calibrated else None
    distances = {}
    for ranks in ("energies", "uniform"):
        layers = ("conv1", "conv2", "conv3")
        recipe = Recipe(Goal(kind(ranks=ranks)), macs=0.4, layers=layers)
        found = compress(net, recipe, calibration=calibration)
        left = summarize(found.net).total.macs / summarize(net).total.macs
        assert 0.32 < left <= 0.4
        distances[ranks] = distance(net, found.net, x)
    assert distances["energies"] < (0.9 if calibrated else 0.99) * distances["uniform"]


def test_uniform_ranks_take_the_same_fraction_of_every_layer():
    net = net_of(*CHAIN)
    recipe = Recipe(Goal(LowRank(ranks="uniform")), macs=0.6, layers=("conv2", "conv3"))
    reports = compress(net, recipe).reports
    fractions = [report.after.macs / report.before.macs for report in reports]
    assert abs(fractions[0] - fractions[1]) < 0.06


def greedy_ranks(energies, costs, budget):
    """The paper's: from full ranks drop the direction of the least relative energy per cost."""
    ranks = [len(energy) for energy in energies]
    while sum(rank * cost for rank, cost in zip(ranks, costs, strict=True)) > budget:
        price = [
            (energy[rank - 1] - energy[rank - 2]) / energy[rank - 1] / cost if rank > 1 else np.inf
            for energy, rank, cost in zip(energies, ranks, costs, strict=True)
        ]
        ranks[int(np.argmin(price))] -= 1
    return ranks


def curves_of(method):
    net = structured()
    layers = ("conv2", "conv3")
    targets = select(net, Recipe(Goal(method), layers=layers))
    meter = Meter(net, timed=False)
    return targets, ranked_curves(Setting(net), net, targets, 0, meter, "energies")


def test_the_common_price_finds_the_ranks_of_the_greedy_steps():
    targets, found = curves_of(LowRank())
    energies = [LowRank().prepare(target.layers, 0).energies for target in targets]
    costs = [curve.costs["macs"][0] for curve in found]
    for macs in (0.15, 0.2, 0.27, 0.35):
        budget = macs * sum(curve.costs["macs"][-1] for curve in found)
        ranks = [point + 1 for point in allocate(found, budget)]
        wanted = greedy_ranks(energies, costs, budget)
        # A price takes all steps of one worth or none: at most one step of slack for each layer.
        assert all(0 <= w - r <= 1 for w, r in zip(wanted, ranks, strict=True))


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_costs_of_ranks_are_those_of_the_written_layers(kind):
    """Also between the ranks that are measured; strides make the vertical layer wider."""
    parameters = "num_output: 24 kernel_size: 3 stride: 2 pad: 1"
    net = net_of(INPUT, layer("c", "data", parameters))
    (target,) = select(net, Recipe(Goal(kind()), layers=("c",)))
    meter = Meter(net, timed=False)
    (curve,) = ranked_curves(Setting(net), net, [target], 0, meter, "energies")
    candidate = kind().prepare(target.layers, 0)
    for point in range(len(curve.densities) - 1):
        small = net.copy()
        keep = candidate.choose(round(curve.densities[point] * target.size))
        small.replace(small.layer("c"), *candidate.edits(keep)[0].chain)
        # Of two ranks that rise by turns, some steps lie between those that are measured.
        slack = 0.06 if kind is LowRank3d else 1e-9
        assert curve.costs["macs"][point] == pytest.approx(summarize(small).total.macs, rel=slack)


def test_methods_without_ranks_cannot_share_a_budget_by_them():
    with pytest.raises(ModelError, match='"conv2": obs has no ranks'):
        curves_of(Obs())
    with pytest.raises(CaffeScnnError, match='not "greedy"'):
        LowRank(ranks="greedy")


@pytest.mark.parametrize("kind", SUFFIXES)
def test_mean_responses_stay(kind):
    name, form = ("fc", "InnerProduct") if kind is FcSvd else ("c", "Convolution")
    parameters = "num_output: 12" if kind is FcSvd else "num_output: 12 kernel_size: 3 pad: 1"
    net = net_of(INPUT, layer(name, "data", parameters, form))
    x = images() + 2
    calibration = Calibration(Images(x), threads=1)
    found = compress(net, Recipe(Goal(kind(), 0.3), layers=(name,)), calibration=calibration)
    first, second = (Executor(n, threads=1).run({"data": x})[name] for n in (net, found.net))
    axes = (0, *range(2, first.ndim))
    off = np.abs(first.mean(axis=axes) - second.mean(axis=axes)).max()
    assert off < 1e-3 * first.std()
    assert np.abs(first - second).mean() > 0.05 * first.std()


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_the_resolved_recipe_gives_the_same_blobs(kind):
    net = structured()
    calibration = Calibration(Images(images()), threads=1)
    recipe = Recipe(Goal(kind(ranks="energies")), macs=0.5, layers=("conv2", "conv3"))
    first = compress(net, recipe, calibration=calibration)
    again = compress(net, Recipe.parse(first.recipe.text()), calibration=calibration)
    for one, other in zip(first.net, again.net, strict=True):
        assert one.name == other.name
        assert all(np.array_equal(a, b) for a, b in zip(one.blobs, other.blobs, strict=True))


def test_no_rank_is_larger_than_what_it_reads_can_have():
    conv = net_of(INPUT, layer("c", "data", "num_output: 40 kernel_size: 3")).layer("c")
    # One vertical filter is all there is: the others go first.
    conv.blobs[0] = conv.blobs[0][:, :1, :1] * np.ones((1, 6, 3, 1), np.float32)
    candidate = LowRank3d().prepare([conv], 0)
    for step in range(1, candidate.steps + 1):
        _, horizontal, last = candidate.outline(candidate.prefix(step))[0][1]
        assert len(horizontal.blobs[0]) <= horizontal.blobs[0][0].size
        assert len(horizontal.blobs[0]) == last.blobs[0].shape[1] <= 40


def test_only_what_is_tried_or_written_is_fitted_behind_its_relu(monkeypatch):
    solved = []
    rectified = ResponseProblem.rectified
    monkeypatch.setattr(
        ResponseProblem,
        "rectified",
        lambda self, rank, bias: solved.append(rank) or rectified(self, rank, bias),
    )
    net = net_of(*CHAIN)
    recipe = Recipe(Goal(LowRank()), macs=0.85, layers=("conv2",))
    compress(net, recipe, calibration=Calibration(Images(images()), threads=1))
    # In both groups: two probes of the curve, and the nets that are made for the target.
    assert 2 * 3 <= len(solved) <= 2 * (2 + CORRECTIONS)
