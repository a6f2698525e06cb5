"""Channels taken out of nets of every coupling: what is left computes as if they were zero."""

from __future__ import annotations

import numpy as np
import pytest
from coupled_nets import COUPLINGS, END, FIRST, conv, fc, layer, net_of, outputs_of
from random_nets import random_net

from caffe_scnn.errors import ModelError, PassError
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net
from caffe_scnn.passes.channels import Channels, is_transposed
from caffe_scnn.passes.narrow import balanced, cut, narrow, numbered


def without_reading(channels, gone):
    """Return the net with zeros for the weights that read some channels."""
    masked = channels.net.copy()
    for old, new in zip(channels.net.layers, masked.layers, strict=True):
        if old not in channels.linear:
            continue
        ends = channels.linear[old]
        weights = new.blobs[0].copy()
        if old.type == "InnerProduct":
            weights[(..., gone[ends.columns])[:: -1 if is_transposed(old) else 1]] = 0
        elif is_transposed(old):
            weights[gone[ends.columns]] = 0
        else:
            for group, columns in enumerate(ends.columns.reshape(ends.group, -1)):
                rows = slice(*(len(weights) // ends.group * (group + i) for i in (0, 1)))
                weights[rows, gone[columns]] = 0
        new.blobs[0] = weights
    return masked


def check(net, channels, gone, small):
    for blob in Graph(net).outputs:
        want = outputs_of(without_reading(channels, gone))[blob]
        np.testing.assert_allclose(outputs_of(small)[blob], want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", COUPLINGS)
def test_what_is_left_computes_as_if_the_channels_were_zero(name):
    net = net_of(FIRST + COUPLINGS[name] + END)
    before = net.text(), outputs_of(net)
    result = narrow(net, {"a": [4, 1]})
    channels = Channels(net)
    check(net, channels, numbered(channels, {"a": [4, 1]}), result.net)
    assert result.net.layer("a").blobs[0].shape == (4, 3, 3, 3)
    assert result.changed >= 2 or name == "silence"
    assert net.text() == before[0]
    assert (outputs_of(net)["end"] == before[1]["end"]).all()
    again = Net.parse(result.net.text())
    assert infer_shapes(again).blobs == infer_shapes(result.net).blobs


def test_flattened_inputs_go_with_their_maps():
    small = narrow(net_of(FIRST + fc("x", "a", 4) + END), {"a": [0]}).net
    assert small.layer("x").blobs[0].shape == (4, 5 * 30)


def test_shared_blobs_stay_shared():
    small = narrow(net_of(FIRST + COUPLINGS["shared weights"] + END), {"a": [0]}).net
    one, other = small.layer("u"), small.layer("v")
    assert one.blobs[0].shape == (5, 5, 3, 3)
    assert all(a is b for a, b in zip(one.blobs, other.blobs, strict=True))


def test_grouped_convolutions_keep_equal_groups():
    net = net_of(FIRST + conv("x", "a", 4, "kernel_size: 3 group: 2") + END)
    small = narrow(net, {"a": [2, 5], "x": [0, 3]})
    channels = Channels(net)
    gone = numbered(channels, {"a": [2, 5], "x": [0, 3]})
    check(net, channels, gone, small.net)
    assert small.net.layer("x").blobs[0].shape == (2, 2, 3, 3)
    with pytest.raises(PassError, match=r'2 groups of "x" .* equally large'):
        narrow(net, {"a": [0, 1]})
    with pytest.raises(PassError, match="equally large"):
        narrow(net, {"a": [0, 1, 2]})


def test_whole_groups_go_with_their_inputs():
    net = net_of(FIRST + conv("x", "a", 6, "kernel_size: 3 group: 3") + END)
    small = narrow(net, {"a": [2, 3], "x": [2, 3]}).net
    assert small.layer("x").blobs[0].shape == (4, 2, 3, 3)
    assert small.layer("x").proto.convolution_param.group == 2
    channels = Channels(net)
    check(net, channels, numbered(channels, {"a": [2, 3], "x": [2, 3]}), small)


def test_a_branch_of_which_nothing_is_left_leaves_its_concat():
    net = net_of(FIRST + COUPLINGS["concat"] + END)
    small = narrow(net, {"b": range(4)}).net
    assert small.layer("x").bottoms == ["a"]
    assert "b" not in [part.name for part in small]
    channels = Channels(net)
    check(net, channels, numbered(channels, {"b": range(4)}), small)


def test_a_part_of_a_slice_may_go():
    net = net_of(FIRST + COUPLINGS["equal slices"] + END)
    small = narrow(net, {"a": [3, 4, 5]}).net
    assert small.layer("p").tops == ["p"]
    assert small.layer("x").bottoms == ["p"]


@pytest.mark.parametrize(
    ("text", "outputs", "message"),
    [
        (COUPLINGS["convolution"], {"end": [0]}, 'layer "end" .*"end" is an output of the net'),
        (COUPLINGS["convolution"], {"data": [0]}, '"data" .Input. feeds the net'),
        (layer("x", "Softmax", "a"), {"a": [0]}, r'channel 0 cannot .* through "x" .Softmax'),
        (layer("x", "Softmax", "a"), {"a": [0]}, "line 2"),
        (layer("x", "Eltwise", "a a") + layer("y", "ReLU", "x"), {"a": [0]}, '"y" is an output'),
        (layer("y", "Slice", "a", "slice_param { axis: 2 }", tops="y z")
         + layer("x", "Eltwise", "y z"), {"a": [2]}, "through .y. .Slice"),
        (layer("x", "Concat", "a a", "concat_param { axis: 2 }"), {"a": [2]}, "Concat"),
        (layer("y", "Reshape", "a", "reshape_param { shape { dim: 0 dim: 30 dim: -1 } }")
         + layer("x", "Flatten", "y"), {"a": [2]}, "Reshape"),
        (layer("x", "Flatten", "a", "flatten_param { axis: 0 end_axis: 1 }")
         + layer("y", "ReLU", "a"), {"a": [2]}, "Flatten"),
        (conv("b", "data", 6) + layer("x", "Eltwise", "data data"), {"data": [0]}, "feeds"),
        (COUPLINGS["convolution"], {"a": range(6)}, '"x" .Convolution. would have .* no input'),
    ],
)  # fmt: skip
def test_what_cannot_go_says_why(text, outputs, message):
    net = net_of(FIRST + text + END)
    with pytest.raises(PassError, match=message):
        narrow(net, outputs)


def test_places_that_are_not_there():
    net = net_of(FIRST + COUPLINGS["convolution"] + END)
    with pytest.raises(ModelError, match="has 6 output channels, and no 6"):
        narrow(net, {"a": [6]})
    with pytest.raises(ModelError, match='no layer "b"'):
        narrow(net, {"b": [0]})


@pytest.mark.parametrize("seed", range(60))
def test_random_nets(seed):
    """Take out of random nets what can go of a random choice."""
    net = random_net(seed)
    for part in net:
        part.proto.lrn_param.local_size = 1  # neighbours would change places
    channels = Channels(net)
    wanted = np.random.default_rng(seed).random(channels.count) < 0.4
    gone, reasons = balanced(channels, wanted)
    assert not (gone & ~wanted).any()
    assert bool(reasons) == bool((wanted & ~gone).any())
    check(net, channels, gone, cut(channels, gone).net)


def test_random_nets_lose_something():
    taken = 0
    for seed in range(80):
        channels = Channels(random_net(seed))
        taken += int(balanced(channels, np.ones(channels.count, bool))[0].any())
    assert taken > 10
