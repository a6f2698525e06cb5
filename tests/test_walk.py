"""Images that go up a net halt by halt: the blobs of a run from the input, and no layer twice."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest

from caffe_scnn.calibrate import Calibration, Images, walk
from caffe_scnn.decompose import Goal, Journal, Obs, Recipe, compress
from caffe_scnn.decompose.correct import correct
from caffe_scnn.decompose.observe import Observer
from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Net

TEXT = """
name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 9 dim: 8 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param {
  num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2" convolution_param {
  num_output: 4 kernel_size: 1 } }
layer { name: "c3" type: "Convolution" bottom: "c1" top: "c3" convolution_param {
  num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "c2" bottom: "c3" top: "sum" }
layer { name: "relu2" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "late" type: "Convolution" bottom: "data" top: "late" convolution_param {
  num_output: 2 kernel_size: 1 } }
layer { name: "all" type: "Concat" bottom: "sum" bottom: "late" bottom: "c2" top: "all" }
layer { name: "end" type: "InnerProduct" bottom: "all" top: "end" inner_product_param {
  num_output: 5 } }
"""
SHAPES = {
    "c1": [(4, 3, 3, 3), (4,)],
    "c2": [(4, 4, 1, 1), (4,)],
    "c3": [(4, 4, 3, 3), (4,)],
    "late": [(2, 3, 1, 1), (2,)],
    "end": [(5, 720), (5,)],
}
PICTURES = np.random.default_rng(0).standard_normal((7, 3, 9, 8)).astype(np.float32)


@pytest.fixture
def net():
    rng, made = np.random.default_rng(1), Net.parse(TEXT)
    for name, blobs in SHAPES.items():
        made.layer(name).blobs = [rng.standard_normal(b).astype(np.float32) for b in blobs]
    return made


@pytest.fixture
def ran(monkeypatch):
    """Names of the layers that ran on a batch, with every repetition."""
    names = []

    class Counting(Executor):
        def __init__(self, net, **settings):
            super().__init__(net, **settings)
            self.names = [layer.name for layer in net if layer.type != "Input"]

        def run(self, inputs, blobs=None):
            names.extend(self.names)
            return super().run(inputs, blobs)

    monkeypatch.setattr(walk, "Executor", Counting)
    return names


def read(way, net, *names):
    """Return what layers read, of all images."""
    found = {}
    layers = [net.layer(name) for name in names]
    for start, blobs in way.blobs(layers):
        for bottom in dict.fromkeys(b for layer in layers for b in layer.bottoms):
            found.setdefault(bottom, []).append(blobs[bottom])
        assert start == 3 * (len(found[layers[0].bottoms[0]]) - 1)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def whole(net, blob, upto):
    """Return a blob of a net that ends before a layer."""
    end = next(i for i, layer in enumerate(net.layers) if layer.name == upto)
    if blob == "data":
        return PICTURES
    part = Net(net.proto, net.layers[:end])
    return Executor(part, threads=1, exact=True).run({"data": PICTURES}, [blob])[blob]


def times(layer, factor):
    """Return a layer with other weights."""
    other = copy(layer)
    other.blobs = [factor * blob for blob in layer.blobs]
    return other


def calibration():
    return Calibration(Images(PICTURES, batch=3), threads=1)


@pytest.mark.parametrize("kept", [1 << 29, 0])
def test_layers_read_what_they_read_in_a_whole_run(net, ran, monkeypatch, kept):
    monkeypatch.setattr(walk, "KEPT_BYTES", kept)
    way = calibration().walk(net)
    for name in SHAPES:
        for blob, values in read(way, net, name).items():
            assert np.array_equal(values, whole(net, blob, name))
    batches = 3
    if kept:  # every layer once
        below = [layer.name for layer in net if layer.name not in ("data", "end")]
        assert sorted(ran) == sorted(batches * below)
    else:
        assert ran.count("c1") == batches * 4


def test_a_net_may_change_above_the_last_halt(net, ran):
    way = calibration().walk(net)
    for name in ("c2", "c3", "end"):
        layer = net.layer(name)
        seen = read(way, net, name)
        for blob, values in seen.items():
            assert np.array_equal(values, whole(net, blob, name))
        net.replace(layer, times(layer, 2))
    assert ran.count("c1") == 3


def test_below_it_they_begin_anew(net, ran):
    way = calibration().walk(net)
    read(way, net, "c3")
    net.replace(net.layer("c1"), times(net.layer("c1"), -1))
    for blob, values in read(way, net, "end").items():
        assert np.array_equal(values, whole(net, blob, "end"))
    assert ran.count("c1") == 6


def test_going_back_begins_anew(net, ran):
    way = calibration().walk(net)
    read(way, net, "end")
    for blob, values in read(way, net, "c2").items():
        assert np.array_equal(values, whole(net, blob, "c2"))


def test_layers_that_share_weights_are_read_together(net):
    way = calibration().walk(net)
    found = read(way, net, "c2", "late")
    assert np.array_equal(found["c1"], whole(net, "c1", "late"))
    assert np.array_equal(found["data"], PICTURES)
    for blob, values in read(way, net, "end").items():
        assert np.array_equal(values, whole(net, blob, "end"))


def test_a_walk_that_was_broken_off_leaves_the_halt_before(net, ran):
    way = calibration().walk(net)
    read(way, net, "c2")
    next(way.blobs([net.layer("c3")]))
    for blob, values in read(way, net, "end").items():
        assert np.array_equal(values, whole(net, blob, "end"))
    assert ran.count("c1") == 3


def test_a_net_is_cut_at_every_halt(net, monkeypatch):
    """Whether images went that way or it is known what becomes of the layers there."""
    cut = []

    def counting(part, **settings):
        cut.append(sum(layer.type != "Input" for layer in part))
        return Executor(part, **settings)

    monkeypatch.setattr(walk, "Executor", counting)
    way = calibration().walk(net)
    way.halt([net.layer("c2")])
    way.halt([net.layer("c3")])
    read(way, net, "end")
    assert cut == [2, 1, 5]


def test_nets_of_two_inputs_are_refused():
    two = TEXT.replace('top: "data"', 'top: "data" top: "more"').replace(
        "shape { dim: 1 dim: 3 dim: 9 dim: 8 }", 2 * "shape { dim: 1 dim: 3 dim: 9 dim: 8 } "
    )
    with pytest.raises(ModelError, match="this one has 2: data, more"):
        calibration().walk(Net.parse(two))


def test_labels_that_no_weights_read_do_not_matter(net):
    labels = 'layer { name: "l" type: "Data" top: "label" }\nlayer { name: "c1"'
    accuracy = 'layer { name: "acc" type: "Accuracy" bottom: "end" bottom: "label" top: "acc" }'
    other = Net.parse(TEXT.replace('layer { name: "c1"', labels) + accuracy)
    for layer in net:
        other.layer(layer.name).blobs = layer.blobs
    way = calibration().walk(other)
    for name in ("c3", "end"):
        for blob, values in read(way, net, name).items():
            assert np.array_equal(values, whole(net, blob, name))


def test_layers_whose_fit_is_known_are_halts_all_the_same(net, monkeypatch, tmp_path):
    """Those that an interrupted run has finished: they are in its journal."""
    passed = []
    monkeypatch.setattr(Observer, "pass_by", lambda self, target: passed.append(target.name))
    recipe = Recipe(Goal(Obs(), density=0.5), layers=("c*",))
    for _ in range(2):
        journal = Journal(tmp_path / "journal", "one run")
        compress(net, recipe, calibration=calibration(), journal=journal)
    assert passed == ["c1", "c2", "c3"]


def test_batch_norm_is_corrected_without_running_a_layer_twice(ran):
    text = TEXT.replace(
        'layer { name: "relu1"',
        """layer { name: "n1" type: "BatchNorm" bottom: "c1" top: "c1" }
layer { name: "relu1\"""",
    ).replace(
        'layer { name: "relu2"',
        """layer { name: "n2" type: "BatchNorm" bottom: "sum" top: "sum" }
layer { name: "relu2\"""",
    )
    rng, made = np.random.default_rng(1), Net.parse(text)
    norm = [(4,), (4,), (1,)]
    for name, blobs in {**SHAPES, "n1": norm, "n2": norm}.items():
        made.layer(name).blobs = [rng.uniform(0.5, 1, b).astype(np.float32) for b in blobs]
    smaller = made.copy()
    smaller.replace(smaller.layer("c1"), times(smaller.layer("c1"), 0.5))
    correct(made, smaller, calibration(), ["c1", "c2", "c3", "late", "end"])
    assert not np.array_equal(smaller.layer("n2").blobs[1], made.layer("n2").blobs[1])
    assert ran.count("c1") == 3 and ran.count("n1") == 3
