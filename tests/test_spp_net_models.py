"""SPP_net's MATLAB models: a synthetic one, computed by MATLAB's rules and by ours."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from mat73 import write_mat73
from spp_net_support import (
    BINS,
    CHANNELS,
    DEFINITION,
    LEVELS,
    a_model,
    matlab_scores,
    pooled_by_matlab,
    write,
)

from caffe_scnn import Executor
from caffe_scnn.detect.mat import MatFile
from caffe_scnn.detect.matlab import fc_net, feature_order, read_spp_model
from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.model.net import Net


def pooled_by_caffe(window):
    """The same bins, each level flattened as a Caffe blob (channels, n, n), levels 1, 2, 3, 6."""
    features = []
    _, height, width = window.shape
    for level in sorted(LEVELS):
        blob = np.empty((len(window), level, level))
        for y in range(level):
            rows = slice(math.floor(y / level * height), math.ceil((y + 1) / level * height))
            for x in range(level):
                columns = slice(math.floor(x / level * width), math.ceil((x + 1) / level * width))
                blob[:, y, x] = window[:, rows, columns].max(axis=(1, 2))
        features.append(np.maximum(blob, 0).ravel())
    return np.concatenate(features)


@pytest.fixture
def window():
    """A window of the feature map, computed from a prototxt in SPP_net's dialect."""
    net = Net.parse(DEFINITION)
    rng = np.random.default_rng(1)
    weights, bias = a_model()["cnn"]["layers"][0]["weights"]
    net.layer("conv1").blobs = [np.ascontiguousarray(weights.T), bias.ravel()]
    image = rng.standard_normal((1, 3, 40, 40)).astype(np.float32)
    feature_map = Executor(net).run({"data": image})["conv1"][0]
    assert feature_map.shape == (CHANNELS, 20, 20)
    return feature_map[:, 3:17, 2:13].astype(np.float64)


def test_the_order_of_features(window):
    order = feature_order(LEVELS, CHANNELS)
    assert sorted(order) == list(range(CHANNELS * BINS))
    np.testing.assert_array_equal(pooled_by_matlab(window)[order], pooled_by_caffe(window))
    # one channel, one level: both orders are the same
    assert feature_order([3], 1).tolist() == list(range(9))
    # two channels, 2x2 bins: channel by channel
    assert feature_order([2], 2).tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    for levels in ([], [2, 2], [0, 1]):
        with pytest.raises(ModelError, match="pyramid levels"):
            feature_order(levels, 4)


@pytest.mark.parametrize("layer", [5, 6, 7])
def test_scores_are_those_of_matlab(tmp_path, window, layer):
    source = a_model()
    source["training_opts"]["layer"] = np.array([[float(layer)]])
    values = {5: CHANNELS * BINS, 6: 16, 7: 8}[layer]
    source["detectors"]["W"] = np.random.default_rng(2).standard_normal((3, values))
    model = read_spp_model(write(tmp_path / "spp_model.mat", source))
    net, features = fc_net(model), pooled_by_caffe(window).astype(np.float32)[None]
    if layer == 5:
        assert net is None
    else:
        executor = Executor(net)
        features = executor.run({"pooled": features})[executor.outputs[0]]
    scores = features.astype(np.float64) @ model.weights.T + model.bias
    expected = matlab_scores(source, pooled_by_matlab(window))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5, atol=1e-5)


def test_what_else_a_model_tells(tmp_path):
    model = read_spp_model(write(tmp_path / "spp_model.mat", a_model()))
    assert model.classes == ("aeroplane", "bicycle", "bird")
    assert model.levels == (1, 2, 3, 6)
    assert (model.step, model.offset, model.rounding) == (16, 21, 6.5)
    assert model.definition == "model-defs/Zeiler_conv5.prototxt"
    assert model.binary == "data/cnn_model/Zeiler_conv5"
    assert [layer.name for layer in model.fc] == ["fc6", "fc7"]


def test_matrices_that_matlab_keeps_transposed(tmp_path):
    source = a_model()
    turned = copy.deepcopy(source)
    turned["detectors"]["W"] = source["detectors"]["W"].T
    fc6 = turned["cnn"]["layers"][1]["weights"]
    fc6[0] = fc6[0].T
    one, other = (read_spp_model(write(tmp_path / "m.mat", each)) for each in (source, turned))
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(one.fc[0].weights, other.fc[0].weights)


def changed(path, value):
    model = a_model()
    place = model
    *above, last = path.split(".")
    for part in above:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return model


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("cnn.definition_file", None, "no field spp_model.cnn.definition_file"),
        ("spp_pooler", None, "no field spp_model.spp_pooler.spm_divs"),
        ("spp_pooler.offset", np.zeros((1, 2)), "spp_model.spp_pooler.offset is not one number"),
        ("spp_pooler.spm_divs", np.array([[4.0]]), "200 pooled values are no multiple of the 16"),
        ("training_opts.layer", np.array([[8.0]]), "training_opts.layer is 8; known are 5, 6"),
        ("training_opts.feat_norm_mean", np.array([[0.0]]), "the mean norm of features is 0"),
        ("cnn.first_fc_idx", np.array([[3.0]]), "cnn.first_fc_idx is 3 of 3 layers, and 2"),
        ("detectors.W", np.zeros((3, 9)), "the detectors take 9 values, but fc7 gives 8"),
        ("detectors.W", np.zeros((4, 8)), "spp_model.detectors.W is not a matrix of 3 rows"),
        ("detectors.B", np.zeros((1, 2)), "3 classes, but 2 biases"),
        ("classes", [np.ones((1, 1))], "spp_model.classes is not a cell of texts"),
        ("cnn", "text", "no field spp_model.cnn"),
    ],
)
def test_models_that_are_wrong(tmp_path, field, value, message):
    path = write(tmp_path / "spp_model.mat", changed(field, value))
    with pytest.raises(FormatError) as caught:
        read_spp_model(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_without_a_model(tmp_path):
    path = write_mat73(tmp_path / "spp_model.mat", {"rcnn_model": {"a": np.ones((1, 1))}})
    with pytest.raises(FormatError, match=r'no variable "spp_model"; variables: rcnn_model'):
        read_spp_model(path)


def test_values_of_a_file(tmp_path):
    """Every kind of value, through MATLAB's own layout in HDF5."""
    matrix = np.arange(6.0).reshape(2, 3)
    values = {
        "matrix": matrix,
        "text": "two words",
        "cell": ["a", matrix, ["b"]],
        "struct": {"x": matrix, "y": {"z": "deep"}, "c": ["only"]},
        "structs": ({"x": "1"}, {"x": "2"}),
        "cells": {"c": ["only"]},
        "none": np.zeros((0, 4)),
    }
    with MatFile(write_mat73(tmp_path / "v.mat", values)) as file:
        assert sorted(file.names) == sorted(values)
        np.testing.assert_array_equal(file.read("matrix"), matrix)
        assert file.read("text") == "two words"
        cell = file.read("cell")
        assert (cell[0], cell[2]) == ("a", ["b"])
        struct = file.read("struct")
        assert struct["y"] == {"z": "deep"}
        assert struct["c"] == ["only"]
        np.testing.assert_array_equal(struct["x"], matrix)
        assert file.read("cells") == {"c": ["only"]}
        assert file.read("structs") == [{"x": "1"}, {"x": "2"}]
        assert file.read("none").size == 0
