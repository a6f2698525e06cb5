"""Passes that rewire a net or change the form of its layers."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from cli_support import answer, call, make_model, refusal

from caffe_scnn.errors import ModelError, PassError
from caffe_scnn.evaluate.benchmark import fill_randomly
from caffe_scnn.layers import reference
from caffe_scnn.layers.binding import bind
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.loading import load
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net
from caffe_scnn.passes import PASSES
from caffe_scnn.passes.resize_input import resize_input
from caffe_scnn.passes.wiring import check_same_results


def layer(name, kind, bottoms, tops, rest=""):
    wires = "".join(f' bottom: "{b}"' for b in bottoms.split())
    wires += "".join(f' top: "{t}"' for t in tops.split())
    return f'layer {{ name: "{name}" type: "{kind}"{wires} {rest} }}\n'


DATA = layer("data", "Input", "", "data", "input_param { shape { dim: 2 dim: 4 dim: 6 dim: 5 } }")
LABEL = layer("label", "Input", "", "label", "input_param { shape { dim: 2 } }")
CONV = layer("c", "Convolution", "data", "c", "convolution_param { num_output: 6 kernel_size: 3 }")


def ip(name, bottom, top, rest=""):
    return layer(
        name, "InnerProduct", bottom, top, f"inner_product_param {{ num_output: 7 {rest} }}"
    )


def net_of(text):
    net = Net.parse(text)
    bind(net, None)
    fill_randomly(net, 1)
    return net


def data_of(net):
    rng = np.random.default_rng(4)
    shapes = {"data": (2, 4, 6, 5), "label": (2,)}
    return {name: rng.standard_normal(shapes[name]) for name in Graph(net).inputs}


def applied(name, net):
    """Apply a pass; what is left computes the same, and the argument is as it was."""
    text = net.text()
    result = PASSES[name](net)
    assert net.text() == text
    outputs = Graph(result.net).outputs
    want = reference.run(net, data_of(net), outputs)
    got = reference.run(result.net, data_of(result.net))
    for blob in outputs:
        assert np.allclose(got[blob].reshape(want[blob].shape), want[blob], rtol=1e-6)
    again = Net.parse(result.net.text())
    assert [one.name for one in again] == [one.name for one in result.net]
    return result


def names(result):
    return [one.name for one in result.net]


def test_training_goes_and_the_scores_are_the_outputs():
    net = net_of(
        DATA
        + LABEL
        + CONV
        + layer("d", "Dropout", "c", "d")
        + ip("ip", "d", "ip")
        + layer("acc", "Accuracy", "ip label", "acc")
        + layer("loss", "SoftmaxWithLoss", "ip label", "loss")
    )
    result = PASSES["strip_training"](net)
    assert names(result) == ["data", "c", "ip"]
    assert Graph(result.net).outputs == ["ip"]
    assert result.changed == 4


@pytest.mark.parametrize(("top", "output"), [("c", "c"), ("d", "d")])
def test_an_output_of_dropout_keeps_its_name(top, output):
    result = applied("strip_training", net_of(DATA + CONV + layer("d", "Dropout", "c", top)))
    assert names(result) == ["data", "c"] and Graph(result.net).outputs == [output]


@pytest.mark.parametrize(
    "rest",
    [layer("r", "ReLU", "c", "x"), layer("r", "ReLU", "d", "d") + layer("t", "TanH", "c", "x")],
)
def test_a_dropout_that_others_depend_on_is_left(rest):
    result = applied("strip_training", net_of(DATA + CONV + layer("d", "Dropout", "c", "d") + rest))
    assert result.changed == 0 and 'left "d"' in result.notes[0]


def test_splits_are_undone():
    net = net_of(
        DATA
        + CONV
        + layer("s", "Split", "c", "s1 s2")
        + layer("r", "ReLU", "s1", "r")
        + layer("e", "Eltwise", "r s2", "e")
    )
    result = applied("undo_splits", net)
    assert names(result) == ["data", "c", "r", "e"]
    assert result.net.layer("e").bottoms == ["r", "c"]


@pytest.mark.parametrize(
    "readers",
    [
        layer("r", "ReLU", "s1", "s1") + layer("e", "Eltwise", "s1 s2", "e"),
        layer("r", "ReLU", "s1", "r"),
    ],
)
def test_splits_that_matter_are_left(readers):
    net = net_of(DATA + CONV + layer("s", "Split", "c", "s1 s2") + readers)
    result = applied("undo_splits", net)
    assert result.changed == 0 and 'left "s"' in result.notes[0]


def test_dead_layers_go():
    net = net_of(
        DATA
        + CONV
        + layer("r", "ReLU", "c", "r")
        + layer("t", "TanH", "c", "t")
        + layer("q", "Silence", "t", "")
    )
    assert names(applied("remove_dead", net)) == ["data", "c", "r"]
    result = PASSES["remove_dead"](net, outputs=["c"])
    assert names(result) == ["data", "c"] and len(result.notes) == 3
    with pytest.raises(ModelError, match="no blob"):
        PASSES["remove_dead"](net, outputs=["x"])


@pytest.mark.parametrize("option", ["", "bias_term: false", "transpose: true"])
def test_fully_connected_layers_become_convolutions(option):
    net = net_of(
        DATA
        + CONV
        + ip("a", "c", "a", option)
        + layer("r", "ReLU", "a", "a")
        + ip("b", "a", "b")
        + layer("p", "Softmax", "b", "p")
    )
    result = applied("fc_to_conv", net)
    assert [one.type for one in result.net][2:5] == ["Convolution", "ReLU", "Convolution"]
    assert result.net.layer("a").blobs[0].shape == (7, 6, 4, 3)
    larger = resize_input(result.net, 9, 8).net
    data = np.random.default_rng(0).standard_normal((2, 4, 9, 8))
    maps = reference.run(larger, {"data": data})["p"]
    assert maps.shape == (2, 7, 4, 4)
    corner = reference.run(net, {"data": data[:, :, 2:8, 1:6]})["p"]
    assert np.allclose(maps[:, :, 2, 1], corner, rtol=1e-6)


def test_what_cannot_become_a_convolution_is_left():
    flat = layer("f", "Flatten", "c", "f")
    net = net_of(DATA + CONV + flat + ip("a", "f", "a"))
    assert "no height and width" in applied("fc_to_conv", net).notes[0]
    shared = ip("a", "c", "a").replace("inner_product", 'param { name: "w" } inner_product')
    assert "shared" in applied("fc_to_conv", net_of(DATA + CONV + shared)).notes[0]


def test_a_wrong_conversion_is_caught(monkeypatch):
    module = sys.modules["caffe_scnn.passes.fc_to_conv"]
    check = module._check

    def swapped(one, *rest):
        one.blobs[0] = np.ascontiguousarray(one.blobs[0][:, ::-1])
        check(one, *rest)

    monkeypatch.setattr(module, "_check", swapped)
    with pytest.raises(PassError, match='"a" does not compute'):
        PASSES["fc_to_conv"](net_of(DATA + CONV + ip("a", "c", "a")))


def test_a_wrong_rewiring_is_caught():
    net = net_of(DATA + CONV + layer("r", "ReLU", "c", "r") + layer("t", "TanH", "c", "t"))
    wrong = net.copy()
    wrong.layers[-1].proto.bottom[0] = "r"
    check_same_results(net, wrong, ["r"], "x")
    with pytest.raises(PassError, match='"t" is not computed'):
        check_same_results(net, wrong, ["t"], "x")
    other = net.copy()
    other.layers[1].blobs[0] = other.layers[1].blobs[0].copy()
    with pytest.raises(PassError):
        check_same_results(net, other, ["c"], "x")


def test_a_size_that_weights_do_not_allow_is_refused():
    with pytest.raises(ModelError, match="fc_to_conv"):
        resize_input(net_of(DATA + CONV + ip("a", "c", "a")), 9, 9)


def test_golden_nets_as_convolutions(golden_dir):
    files = golden_dir / "nets" / "lenet"
    net = load(files.with_suffix(".prototxt"), files.with_suffix(".caffemodel"))
    result = PASSES["fc_to_conv"](net)
    assert result.changed == 2
    arrays = np.load(files.with_suffix(".npz"))
    inputs = {key[3:]: arrays[key] for key in arrays.files if key.startswith("in/")}
    for name, got in reference.run(result.net, inputs).items():
        want = arrays[f"out/{name}"]
        assert np.abs(got.reshape(want.shape) - want).max() <= 2e-5 * np.abs(want).max()


TRAIN_VAL = """
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 6 mean_value: 1 mean_value: 2 mean_value: 3 scale: 0.5 }
  data_param { source: "train_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def test_a_net_for_training_becomes_one_for_deployment(tmp_path):
    path, out = tmp_path / "train_val.prototxt", tmp_path / "out"
    path.write_text(TRAIN_VAL)
    passes = "--pass", "strip_training", "--pass", "data_to_input"
    notes = answer("convert", path, "-o", out, *passes)["notes"]
    assert any("crop 6, mean 1 2 3, scale 0.5" in note for note in notes)
    net = load(out / "deploy.prototxt")
    assert [layer.type for layer in net] == ["Input", "InnerProduct"]
    assert infer_shapes(net).blobs == {"data": (4, 3, 6, 6), "fc": (4, 3)}


def test_a_shape_that_the_prototxt_does_not_give_is_asked_for_and_taken(tmp_path):
    path, out = tmp_path / "train_val.prototxt", tmp_path / "out"
    path.write_text(TRAIN_VAL.replace("crop_size: 6", ""))
    passes = "--pass", "strip_training", "--pass", "data_to_input"
    assert "--input-shape data=" in refusal("convert", path, "-o", out, *passes)
    answer("convert", path, "-o", out, *passes, "--input-shape", "data=1,3,9,8")
    assert infer_shapes(load(out / "deploy.prototxt")).blobs["data"] == (1, 3, 9, 8)


# --- on the command line ---------------------------------------------------------------------


def test_passes_are_listed_and_applied(tmp_path):
    model = make_model(tmp_path / "model")
    listed = call("convert", "--list-passes").stdout
    assert all(f"{name} " in listed for name in PASSES)
    out = tmp_path / "out"
    files = model.prototxt, model.caffemodel
    answer("convert", *files, "-o", out, "--pass", "fc_to_conv", "--input-size", "12x10")
    net = load(out / "deploy.prototxt", out / "weights.caffemodel")
    data = np.zeros((1, 3, 12, 10))
    assert reference.run(net, {"data": data})["prob"].shape == (1, 5, 5, 3)
    notes = answer("convert", *files, "-o", tmp_path / "cut", "--outputs", "conv2")["notes"]
    assert any("fc" in note for note in notes)
    assert "conv1" in (tmp_path / "cut" / "deploy.prototxt").read_text()
    assert "fc_to_conv" in refusal("convert", *files, "-o", tmp_path / "x", "--input-size", "9x9")
    assert "no blob" in refusal("convert", *files, "-o", tmp_path / "x", "--outputs", "nothing")
    for wrong in ("9", "0x9", "axb"):
        assert call("convert", *files, "-o", tmp_path / "x", "--input-size", wrong).exit_code == 2
    assert not (tmp_path / "x").exists()
