"""What is zero goes, and nothing that the net computes changes."""

from __future__ import annotations

import numpy as np
import pytest
from cli_support import answer
from coupled_nets import COUPLINGS, DATA, END, FIRST, SHARED, conv, fc, layer, net_of, outputs_of
from random_nets import random_net

from caffe_scnn.model.graph import Graph
from caffe_scnn.passes import PASSES
from caffe_scnn.passes.remove_zeros import remove_zeros
from caffe_scnn.save import save

BLOCK = (
    conv("b", "a", 6)
    + layer("n", "BatchNorm", "b", tops="b")
    + layer("s", "Scale", "b", "scale_param { bias_term: true }", tops="b")
    + layer("x", "Eltwise", "a b")
    + layer("r", "ReLU", "x", tops="x")
)


def clear(net, name, rows, bias=None):
    """Set filters of a layer to zero, and their bias to something."""
    part = net.layer(name)
    part.blobs[0] = part.blobs[0].copy()
    if part.type == "Deconvolution":
        part.blobs[0][:, rows] = 0
    else:
        part.blobs[0][rows] = 0
    if bias is not None:
        part.blobs[1] = part.blobs[1].copy()
        part.blobs[1][rows] = bias
    return net


def applied(net):
    """Apply the pass; outputs stay, doing it again changes nothing, the argument is as it was."""
    text, want = net.text(), outputs_of(net)
    blobs = [blob.copy() for part in net for blob in part.blobs]
    result = remove_zeros(net)
    assert net.text() == text
    for before, blob in zip(blobs, (blob for part in net for blob in part.blobs), strict=True):
        np.testing.assert_array_equal(blob, before)
    got = outputs_of(result.net)
    assert got.keys() == want.keys()
    for blob, values in want.items():  # biases are rounded to float32
        scale = max(1.0, np.abs(values).max(initial=0))
        np.testing.assert_allclose(got[blob], values, rtol=0, atol=3e-6 * scale)
    assert all(blob.dtype == np.float32 for part in result.net for blob in part.blobs)
    assert not remove_zeros(result.net).changed
    assert bool(result.changed) == bool(result.notes)
    return result


# What joins "a" has channels of its own, which must be zero, too; pooling and norms make constants.
MORE = {"residual": ["b"], "maximum": ["b"], "squeeze and excitation": ["b"], "two bottoms": ["b"]}
KEPT = {"shared weights", "shared slope"}


@pytest.mark.parametrize("name", [name for name in COUPLINGS if name not in KEPT])
def test_zero_filters_go(name):
    net = net_of(FIRST + COUPLINGS[name] + END)
    for part in net:
        if part.type in ("BatchNorm", "Scale", "Bias", "BN"):  # let zero be zero behind them
            for i in {"BatchNorm": [0], "Scale": [-1], "Bias": [0], "BN": [1, 2]}[part.type]:
                part.blobs[i][:] = 0
    for part in net:
        if part.type == "Scale" and len(part.blobs) == 1:
            part.blobs[0][:] = 2
    if name in ("depthwise", "depthwise, two each", "fork's depthwise", "upsampling"):
        net.layer("x").blobs[1][:] = 0
    for part in ("a", *MORE.get(name, [])):
        clear(net, part, [1, 4], 0)
    result = applied(net)
    assert result.net.layer("a").blobs[0].shape[0] == 4


def test_inputs_that_nobody_weighs_go_with_their_filters():
    net = net_of(FIRST + COUPLINGS["shared input"] + END)
    clear(net, "u", [], None)
    for name in "u", "v":
        net.layer(name).blobs[0][:, [0, 2]] = 0
    result = applied(net)
    assert result.net.layer("a").blobs[0].shape == (4, 3, 3, 3)
    net.layer("v").blobs[0][:, 2] = 1
    assert applied(net).net.layer("a").blobs[0].shape == (5, 3, 3, 3)


@pytest.mark.parametrize("rest", ["kernel_size: 3", "kernel_size: 1 bias_term: false"])
def test_constant_filters_become_part_of_the_readers_bias(rest):
    net = clear(net_of(FIRST + layer("r", "ReLU", "a", tops="a") + conv("x", "a", 4, rest) + END),
                "a", [0, 3], [0.75, -1])  # fmt: skip
    before = [blob.copy() for blob in net.layer("x").blobs]
    result = applied(net)
    assert result.net.layer("a").blobs[0].shape[0] == 4
    after = result.net.layer("x").blobs
    assert len(after) == 2
    shift = 0.75 * before[0][:, 0].sum(axis=(1, 2))  # the other one does not pass the ReLU
    np.testing.assert_allclose(after[1], shift + (before[1] if len(before) > 1 else 0), rtol=1e-5)


def test_constants_before_padding_stay():
    """The border is zero, not the constant."""
    net = clear(net_of(FIRST + conv("x", "a", 4) + END), "a", [0, 3], [0.75, 0])
    assert applied(net).net.layer("a").blobs[0].shape[0] == 5


def test_constants_behind_flatten_and_pooling():
    pooling = "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"
    text = FIRST + layer("p", "Pooling", "a", pooling) + layer("f", "Flatten", "p")
    net = clear(net_of(text + fc("x", "f", 4, "transpose: true") + END), "a", [2], 0.5)
    assert applied(net).net.layer("a").blobs[0].shape[0] == 5
    padded = text.replace("kernel_size: 3 stride", "kernel_size: 3 pad: 1 stride")
    net = clear(net_of(padded + fc("x", "f", 4) + END), "a", [2], 0.5)
    # Caffe divides by the padding's area, too: border pixels differ.
    assert applied(net).net.layer("a").blobs[0].shape[0] == 6


def test_a_chain_of_zeros_goes_all_the_way():
    text = FIRST + conv("b", "a", 5) + conv("c", "b", 4, "kernel_size: 1") + fc("x", "c", 3) + END
    net = clear(net_of(text), "c", [0, 1, 2], 1)
    net.layer("c").blobs[0][3, 1:] = 0
    net.layer("b").blobs[0][0, 2:] = 0
    small = applied(net).net
    assert [len(small.layer(name).blobs[0]) for name in "abc"] == [2, 1, 1]


def test_dead_groups_go_and_uneven_ones_stay_even():
    text = FIRST + conv("x", "a", 6, "kernel_size: 3 group: 3") + END
    net = clear(clear(net_of(text), "a", [2, 3], 0), "x", [2, 3], 0)
    x = applied(net).net.layer("x")
    assert (x.blobs[0].shape, x.proto.convolution_param.group) == ((4, 2, 3, 3), 2)
    net = clear(net_of(text), "a", [0, 3, 4], 0)
    assert applied(net).net.layer("x").blobs[0].shape == (6, 1, 3, 3)
    net = clear(net_of(text), "a", [0, 3, 2], 0)  # a group without inputs has constant outputs
    assert applied(net).net.layer("x").blobs[0].shape == (4, 2, 3, 3)


def test_lrn_across_channels_keeps_its_neighbours():
    lrn = "lrn_param { local_size: 3 alpha: 1 REGION }"
    text = FIRST + layer("x", "LRN", "a", lrn) + END
    net = clear(net_of(text.replace("REGION", "")), "a", [2], 0)
    assert applied(net).net.layer("a").blobs[0].shape[0] == 6
    net = clear(net_of(text.replace("REGION", "norm_region: WITHIN_CHANNEL")), "a", [2], 0)
    assert applied(net).net.layer("a").blobs[0].shape[0] == 5


def test_a_residual_block_without_weights_goes():
    net = clear(net_of(FIRST + BLOCK + END), "b", range(6), 0)
    small = applied(net).net
    assert [part.type for part in small] == ["Input", "Convolution", "Bias", "ReLU", "InnerProduct"]
    assert small.layer("x").bottoms == ["a"]
    net.layer("n").blobs[0][:] = 0
    net.layer("s").blobs[1][:] = 0
    small = applied(net).net
    assert [part.name for part in small] == ["data", "a", "r", "end"]


def test_sums_with_coefficients():
    coefficients = "eltwise_param { coeff: -2 coeff: 3 coeff: 1 }"
    both = conv("b", "data", 6) + conv("c", "data", 6)
    net = net_of(FIRST + both + layer("x", "Eltwise", "a b c", coefficients) + END)
    clear(net, "b", range(6), 0)
    eltwise = applied(net).net.layer("x")
    assert eltwise.bottoms == ["a", "c"]
    assert list(eltwise.proto.eltwise_param.coeff) == [-2, 1]
    clear(net, "c", range(6), 0.25)
    scale = applied(net).net.layer("x")
    assert (scale.type, scale.blobs[0][0], scale.blobs[1][0]) == ("Scale", -2, 0.25)


def test_a_sum_that_is_an_output_keeps_its_name():
    net = clear(net_of(FIRST + conv("b", "a", 6) + layer("x", "Eltwise", "a b")), "b", range(6), 0)
    result = applied(net)
    assert Graph(result.net).outputs == ["x"]


def test_a_constant_among_others_stays():
    """A sum of three cannot take it up, and a maximum depends on the other."""
    other = conv("b", "data", 6, "kernel_size: 1")
    three = conv("c", "data", 6) + layer("x", "Eltwise", "a b c")
    net = clear(net_of(FIRST + other + three + END), "b", range(6), 0.5)
    assert not applied(net).changed
    maximum = "eltwise_param { operation: MAX }"
    net = net_of(FIRST + other + layer("x", "Eltwise", "a b", maximum) + END)
    net.layer("a").blobs[0][:] *= 1000
    assert not applied(clear(net, "b", range(6), 5)).changed


@pytest.mark.parametrize(
    "reader",
    [
        conv("u", "a b", 4, "kernel_size: 3", tops="u v"),
        conv("u", "a", 4, "kernel_size: 3", SHARED) + conv("v", "b", 4, "kernel_size: 3", SHARED),
    ],
)
def test_one_bias_cannot_take_up_two_constants(reader):
    text = FIRST + conv("b", "data", 6) + reader + layer("x", "Concat", "u v") + END
    net = clear(clear(net_of(text), "a", [1], 0.5), "b", [1], 2)
    assert not applied(net).changed
    clear(clear(net, "a", [1], 0), "b", [1], 0)
    assert applied(net).net.layer("b").blobs[0].shape[0] == 5


def test_products_of_zeros_stay():
    """Only sums have nothing left without a bottom."""
    product = "eltwise_param { operation: PROD }"
    text = FIRST + conv("b", "data", 6) + layer("x", "Eltwise", "a b", product) + END
    net = clear(net_of(text), "b", range(6), 0)
    assert applied(net).net.layer("x").bottoms == ["a", "b"]


@pytest.mark.parametrize(
    ("rest", "used", "kernel", "pad"),
    [
        ("kernel_size: 3 pad: 1", np.s_[1, 1], (1, 1), []),
        ("kernel_size: 3 pad: 1 stride: 2", np.s_[1, 1], (1, 1), []),
        ("kernel_size: 3 pad: 1", np.s_[1, :], (1, 3), [0, 1]),
        ("kernel_size: 5 pad: 2 dilation: 1", np.s_[1:4, 1:4], (3, 3), [1]),
        ("kernel_size: 5 pad: 2", np.s_[0:3, 1:4], (5, 3), [2, 1]),
        ("kernel_size: 3 pad: 2 dilation: 2", np.s_[1, 1], (1, 1), []),
        ("kernel_size: 3 pad: 1 dilation: 2", np.s_[1, 1], (3, 3), [1]),
        ("kernel_size: 3", np.s_[1, 1], (3, 3), []),
        ("kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 group: 3", np.s_[1, 0], (1, 1), []),
    ],
)
def test_rims_of_zeros_go(rest, used, kernel, pad):
    net = net_of(DATA + conv("x", "data", 6, rest) + END)
    blob = net.layer("x").blobs[0]
    kept = np.zeros(blob.shape[2:], bool)
    kept[used] = True
    blob *= kept
    x = applied(net).net.layer("x")
    assert x.blobs[0].shape[2:] == kernel
    assert list(x.proto.convolution_param.pad) == pad


def test_shared_weights_are_left_alone():
    net = net_of(FIRST + COUPLINGS["shared weights"] + END)
    for name in "u", "v":
        net.layer(name).blobs[0][:] = 0
    result = applied(net)
    assert result.net.layer("u").blobs[0] is result.net.layer("v").blobs[0]


@pytest.mark.parametrize("seed", range(100))
def test_random_nets(seed):
    net = random_net(seed)
    rng = np.random.default_rng(seed)
    for part in net:
        if part.blobs and part.blobs[0].ndim > 1:
            part.blobs[0][rng.random(len(part.blobs[0])) < 0.4] = 0
            part.blobs[0][:, rng.random(part.blobs[0].shape[1]) < 0.3] = 0
        for blob in part.blobs[1:2]:
            blob[rng.random(len(blob)) < 0.4] = 0
    applied(net)
    for part in net:
        part.proto.lrn_param.norm_region = 1  # let channels through
    applied(net)


def test_a_net_without_zeros_stays_as_it_is():
    net = net_of(FIRST + BLOCK + END)
    result = applied(net)
    assert not result.changed
    assert result.net.text() == net.text()
    assert "remove_zeros" in PASSES


def test_the_command(tmp_path):
    net = clear(net_of(FIRST + COUPLINGS["convolution"] + END), "a", [1, 4], 0)
    save(net, tmp_path)
    files = tmp_path / "deploy.prototxt", tmp_path / "weights.caffemodel"
    said = answer("convert", *files, "-o", tmp_path / "small", "--pass", "remove_zeros")
    assert 'remove_zeros: "a" (Convolution): 6x3x3x3 became 4x3x3x3' in said["notes"]
