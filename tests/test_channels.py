"""Channel selection: which go, how the readers are fitted, on nets with every coupling."""

from __future__ import annotations

import numpy as np
import pytest
from cli_support import answer, refusal
from coupled_nets import COUPLINGS, END, FIRST, conv, fc, layer, net_of

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.calibrate.patches import weight_rows
from caffe_scnn.decompose import Goal, Recipe, compress
from caffe_scnn.decompose.channel_groups import channel_groups
from caffe_scnn.decompose.channel_order import Reader, giving_up
from caffe_scnn.decompose.channels import ChannelSelection
from caffe_scnn.decompose.obs import Obs
from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.layers.summary import summarize
from caffe_scnn.passes.channels import Channels
from caffe_scnn.save import save

CHAIN = FIRST + layer("r", "ReLU", "a", tops="a") + conv("b", "a", 8) + fc("x", "b", 5) + END


def images_of(net, count=40, seed=5):
    shape = infer_shapes(net).blobs["data"]
    values = np.random.default_rng(seed).standard_normal((count, *shape[1:]))
    return Images(values.astype(np.float32))


def pruned(net, density=0.5, **changes):
    calibration = changes.pop("calibration", Calibration(images_of(net), threads=1))
    goal = Goal(ChannelSelection(**changes), density)
    return compress(net, Recipe(goal), calibration=calibration)


def output_error(net, small):
    values = np.concatenate([batch for _, batch in images_of(net, 20, 9).batches()])
    (want,), (got,) = (
        Executor(one, threads=1).run({"data": values}).values() for one in (net, small)
    )
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize("name", COUPLINGS)
def test_every_coupling_gets_smaller(name):
    net = net_of(FIRST + COUPLINGS[name] + END)
    if name in ("deconvolution", "shared weights"):
        refused = channel_groups(Channels(net))[1]
        assert set(refused) & {"a", "x"} or name == "shared weights"
        return
    small = pruned(net).net
    assert small.layer("a").blobs[0].shape[0] == 3
    assert infer_shapes(small).blobs["end"] == infer_shapes(net).blobs["end"]
    assert np.isfinite(output_error(net, small))


def test_everything_kept_is_the_same_net():
    net = net_of(CHAIN)
    assert output_error(net, pruned(net, 1.0).net) == 0
    assert not pruned(net, 1.0).reports


def test_a_channel_that_says_nothing_new_costs_nothing():
    """Channel 4 is the sum of 1 and 2 (no ReLU between): the reader can do without one of them."""
    net = net_of(FIRST + conv("x", "a", 4) + END)
    a = net.layer("a")
    a.blobs[0][4] = a.blobs[0][1] + a.blobs[0][2]
    a.blobs[1][4] = a.blobs[1][1] + a.blobs[1][2]
    small = pruned(net, 5 / 6, damping=1e-9).net
    assert small.layer("a").blobs[0].shape[0] == 5
    assert output_error(net, small) < 1e-3


def test_fitting_beats_zeroing_and_images_beat_norms():
    net = net_of(CHAIN)
    fitted = output_error(net, pruned(net).net)
    assert fitted < 0.8 * output_error(
        net, pruned(net, criterion="magnitude", calibration=None).net
    )
    assert fitted < output_error(net, pruned(net, criterion="magnitude").net)


def test_the_order_costs_what_least_squares_say():
    """Errors on the way equal those of fitting from scratch on what is left."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((200, 12)) @ rng.standard_normal((12, 12))
    moment, weights = samples.T @ samples / 200, rng.standard_normal((5, 12))
    importance = rng.random(5) + 0.5
    channels = np.repeat(np.arange(6), 2)
    order = giving_up([Reader(moment, weights, importance, channels)], [np.arange(6)])
    for count in range(6):
        kept = ~np.isin(channels, order.channels[:count])
        best = np.linalg.solve(moment[np.ix_(kept, kept)], (moment @ weights.T)[kept]).T
        off = weights - np.where(kept, 0.0, 0.0)
        off[:, kept] -= best
        exact = (importance * np.einsum("ij,jk,ik->i", off, moment, off)).sum()
        np.testing.assert_allclose(order.errors[count], exact, rtol=1e-6, atol=1e-9)
    first = order.channels[0]
    others = [_cost_of(moment, weights, importance, channels, c) for c in range(6)]
    assert first == int(np.argmin(others))


def _cost_of(moment, weights, importance, channels, gone):
    kept = channels != gone
    off = weights.copy()
    off[:, kept] -= np.linalg.solve(moment[np.ix_(kept, kept)], (moment @ weights.T)[kept]).T
    return (importance * np.einsum("ij,jk,ik->i", off, moment, off)).sum()


def test_inputs_of_the_smaller_net_are_what_readers_are_fitted_to(monkeypatch):
    """The second reader makes good what the first cut did."""
    net = net_of(CHAIN)
    towards_both = output_error(net, pruned(net, 0.4).net)
    of_pair = Calibration.of_pair
    monkeypatch.setattr(Calibration, "of_pair", lambda self, a, b, part: of_pair(self, a, a, part))
    assert towards_both < output_error(net, pruned(net, 0.4).net)


def test_groups_of_a_convolution_stay_equal():
    net = net_of(FIRST + conv("x", "a", 6, "kernel_size: 3 group: 3") + END)
    x = pruned(net).net.layer("x")
    assert x.blobs[0].shape == (3, 1, 3, 3)
    assert x.proto.convolution_param.group == 3


def test_a_budget_for_the_whole_net_is_kept():
    net = net_of(CHAIN)
    before = summarize(net).total.nonzero_macs
    recipe = Recipe(Goal(ChannelSelection()), macs=0.4)
    made = compress(net, recipe, calibration=Calibration(images_of(net), threads=1))
    assert 0.25 * before < summarize(made.net).total.nonzero_macs <= 0.4 * before
    assert {report.layer for report in made.reports} >= {"a", "b"}
    again = compress(net, Recipe.parse(made.recipe.text()),
                     calibration=Calibration(images_of(net), threads=1))  # fmt: skip
    assert again.net.text() == made.net.text()
    for one, other in zip(made.net, again.net, strict=True):
        for blob, same in zip(one.blobs, other.blobs, strict=True):
            np.testing.assert_array_equal(blob, same)


def test_an_error_instead_of_a_density():
    net = net_of(CHAIN)
    calibration = Calibration(images_of(net), threads=1)
    loose, tight = (
        compress(net, Recipe(Goal(ChannelSelection(), error=e)), calibration=calibration)
        for e in (0.5, 0.1)
    )
    macs = [summarize(made.net).total.nonzero_macs for made in (loose, tight)]
    assert macs[0] < macs[1]


def test_reports_count_what_was_written():
    made = pruned(net_of(CHAIN))
    rows = {report.layer: report for report in made.reports}
    assert rows["b"].after.parameters == 4 * 3 * 9
    assert rows["b"].before.parameters == 8 * 6 * 9
    assert 0 < rows["b"].response_error < 1
    assert rows["a"].response_error is None
    assert [report.method for report in made.reports] == ["channels"] * 4
    assert made.recipe.layers == ("a", "b", "x")
    weights = weight_rows(made.net.layer("end"))
    assert weights.shape == (1, 3, 2)


@pytest.mark.parametrize(
    ("text", "layers", "message"),
    [
        (FIRST + layer("x", "Softmax", "a") + END, ("a",), r'"a" cannot go: .* "x" .Softmax.'),
        (CHAIN, ("end",), 'layer "end" cannot go: "end" is an output'),
        (CHAIN, ("z*",), r'"z\*" matches no layer whose channels could go; there are a, b, x'),
        (FIRST + COUPLINGS["deconvolution"] + END, ("a",), r'"x" .Deconvolution. reads them'),
        (FIRST + layer("x", "Softmax", "a"), None, "no channels that could go: a: "),
    ],
)
def test_what_cannot_go(text, layers, message):
    with pytest.raises(ModelError, match=message):
        compress(net_of(text), Recipe(Goal(ChannelSelection(), 0.5), layers=layers))


def test_one_method_a_recipe():
    recipe = Recipe(Goal(Obs(), 0.5), overrides={"a": Goal(ChannelSelection(), 0.5)})
    with pytest.raises(ModelError, match="compress twice"):
        compress(net_of(CHAIN), recipe)
    goals = {"a": Goal(ChannelSelection(), 0.5), "b": Goal(ChannelSelection(), 0.25)}
    net = net_of(FIRST + COUPLINGS["residual"] + END)
    with pytest.raises(ModelError, match="a, b share channels, but their goals differ"):
        compress(net, Recipe(Goal(ChannelSelection()), overrides=goals))


def test_the_command(tmp_path):
    save(net_of(CHAIN), tmp_path)
    values = np.concatenate([batch for _, batch in images_of(net_of(CHAIN)).batches()])
    np.savez(tmp_path / "images.npz", x=values)
    files = tmp_path / "deploy.prototxt", tmp_path / "weights.caffemodel"
    options = "--method", "channels", "--input", tmp_path / "images.npz", "--repeat", 0
    said = answer("compress", *files, "-o", tmp_path / "o", *options, "--density", 0.5)
    assert said["total"]["macs_after"] < 0.5 * said["total"]["macs_before"]
    assert "is an output" in refusal(
        "compress", *files, "-o", tmp_path / "p", *options, "--density", 0.5, "--layers", "end"
    )
