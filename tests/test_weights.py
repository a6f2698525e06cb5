"""Weights as data: out, back in, compared, onto another net; in Python and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_support import TINY, answer, call, make_model, refusal

from caffe_scnn.loading import load
from caffe_scnn.model.caffemodel import read_caffemodel, write_caffemodel
from caffe_scnn.weights import diff_weights, extract_weights, inject_weights, merge_weights

NAMES = ["conv1/0", "conv1/1", "conv2/0", "conv2/1", "fc/0", "fc/1"]


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


def changed(model, path, change):
    net = load(model.prototxt, model.caffemodel)
    change(net)
    write_caffemodel(net, path)
    return path


def test_out_and_back_in_is_the_same_file(model, tmp_path):
    out, new = tmp_path / "w.npz", tmp_path / "new.caffemodel"
    assert [b["name"] for b in answer("extract", model.caffemodel, "-o", out)["blobs"]] == NAMES
    with np.load(out) as arrays:
        assert arrays.files == NAMES
    assert answer("inject", out, model.prototxt, "-o", new)["blobs"] == NAMES
    assert new.read_bytes() == model.caffemodel.read_bytes()


def test_some_arrays_and_the_rest_from_a_file(model, tmp_path):
    bias = np.arange(5.0)
    net = inject_weights(model.prototxt, {"fc/1": bias}, model.caffemodel)
    old = extract_weights(model.caffemodel)
    assert np.array_equal(net.layer("fc").blobs[1], bias)
    assert np.array_equal(net.layer("fc").blobs[0], old["fc/0"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"fc/1": np.zeros(5)}, "no array for conv1/0"),
        ({"fc/2": np.zeros(5)}, 'no blob "fc/2"'),
        ({"nothing/0": np.zeros(5)}, 'no blob "nothing/0"'),
        ({"fc": np.zeros(5)}, 'no blob "fc"'),
        ({"fc/1": np.zeros(4)}, "shape (4,), the net's blob (5,)"),
        ({"fc/1": np.full(5, np.nan)}, "NaN"),
        ({"fc/1": np.array(["a"] * 5)}, "not numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_nothing_is_written(
    model, tmp_path, arrays, message
):
    np.savez(tmp_path / "w.npz", **arrays)
    out = tmp_path / "new.caffemodel"
    assert message in refusal("inject", tmp_path / "w.npz", model.prototxt, "-o", out)
    assert not out.exists()


def test_bad_files_are_one_line(model, tmp_path):
    refusal("extract", model.prototxt, "-o", tmp_path / "w.npz")
    refusal("extract", tmp_path / "nothing", "-o", tmp_path / "w.npz")
    refusal("inject", model.prototxt, model.prototxt, "-o", tmp_path / "new")
    refusal("diff", model.caffemodel, tmp_path / "nothing")
    refusal("merge", model.prototxt, model.prototxt, "-o", tmp_path / "out")
    assert not list(tmp_path.glob("[!m]*"))


def test_a_file_is_the_same_as_itself(model):
    data = answer("diff", model.caffemodel, model.caffemodel)
    assert data["same"] and {blob["status"] for blob in data["blobs"]} == {"same"}


def test_changed_values_are_told_with_numbers(model, tmp_path):
    def change(net):
        net.layer("conv2").blobs[0][0, 0, 0] += 0.5
        net.layer("fc").blobs[1] *= np.float32(1 + 1e-6)

    new = changed(model, tmp_path / "new", change)
    result = call("diff", model.caffemodel, new, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    rows = {(row["layer"], row["blob"]): row for row in data["blobs"]}
    assert not data["same"] and rows["conv1", 0]["status"] == "same"
    row = rows["conv2", 0]
    assert (row["status"], row["changed_values"]) == ("changed", 3)
    assert row["difference"] == pytest.approx(0.5, rel=1e-6)
    loose = json.loads(call("diff", model.caffemodel, new, "--json", "--tolerance", "1e-5").stdout)
    assert [row["blob"] for row in loose["blobs"] if row["status"] == "changed"] == [0]


def test_layers_and_shapes_that_differ(model, tmp_path):
    def change(net):
        net.layer("conv1").proto.name = "other"
        net.layer("fc").blobs[0] = np.zeros((5, 7), np.float32)

    new = read_caffemodel(changed(model, tmp_path / "new", change))
    found = diff_weights(read_caffemodel(model.caffemodel), new)
    assert (found.added, found.removed) == (("other",), ("conv1",))
    assert [(b.layer, b.status) for b in found.blobs if b.blob == 0] == [
        ("conv1", "removed"), ("conv2", "same"), ("fc", "reshaped"), ("other", "added"),
    ]  # fmt: skip


def test_nan_is_a_change_once(model, tmp_path):
    def change(net):
        net.layer("fc").blobs[1][0] = np.nan

    new = read_caffemodel(changed(model, tmp_path / "new", change))
    bias = diff_weights(read_caffemodel(model.caffemodel), new).blobs[-1]
    assert (bias.status, bias.difference, bias.changed_values) == ("changed", float("inf"), 1)
    assert diff_weights(new, new).same


def test_the_old_form_of_shapes_is_no_difference(golden_dir):
    for file in sorted((golden_dir / "legacy").glob("*.caffemodel")):
        stored = read_caffemodel(file)
        assert diff_weights(stored, stored).same


def test_onto_another_net(model, tmp_path):
    other = tmp_path / "other.prototxt"
    other.write_text(
        TINY.replace('name: "conv2"', 'name: "new"').replace("num_output: 5", "num_output: 6")
    )
    result = call("merge", other, model.caffemodel, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["counts"] == {"loaded": 2, "missing": 2, "ignored": 2, "mismatched": 2}
    net = load(tmp_path / "out" / "deploy.prototxt", tmp_path / "out" / "weights.caffemodel")
    old = extract_weights(model.caffemodel)
    assert np.array_equal(net.layer("conv1").blobs[0], old["conv1/0"])
    assert not net.layer("new").blobs[0].any() and not net.layer("fc").blobs[0].any()
    assert merge_weights(model.prototxt, model.caffemodel).complete
    assert call("merge", model.prototxt, model.caffemodel, "-o", tmp_path / "all").exit_code == 0
    assert "exists already" in refusal("merge", other, model.caffemodel, "-o", tmp_path / "out")
