"""Weights that stand in the prototxt itself, in every generation of the format."""

from __future__ import annotations

import numpy as np
import pytest
from cli_support import call, refusal

from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.loading import load
from caffe_scnn.model.caffemodel import read_caffemodel
from caffe_scnn.model.net import Net
from caffe_scnn.model.upgrade import upgrade

INPUT = 'input: "x" input_dim: 1 input_dim: 1 input_dim: 2 input_dim: 2\n'
V2 = """layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 2 kernel_size: 1 }
  blobs { shape { dim: 2 dim: 1 dim: 1 dim: 1 } data: 2 data: -3 }  # weights
  blobs { data: [0.5, 1] shape { dim: 2 } }
}
layer { name: "r" type: "ReLU" bottom: "c" top: "r" }
"""
V1 = """layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 2 kernel_size: 1 }
  blobs { num: 2 channels: 1 height: 1 width: 1 data: 2 data: -3 }  # weights
  blobs { num: 1 channels: 1 height: 1 width: 2 data: 0.5 data: 1 }
}
layers { name: "r" type: RELU bottom: "c" top: "r" }
"""
V0 = """layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 1
  blobs { num: 2 channels: 1 height: 1 width: 1 data: 2 data: -3 }
  blobs { num: 1 channels: 1 height: 1 width: 2 data: 0.5 data: 1 }
} bottom: "x" top: "c" }
layers { layer { name: "r" type: "relu" } bottom: "c" top: "r" }
"""
X = np.array([[[[1, -1], [2, 0]]]], np.float32)
WANT = np.maximum(np.concatenate([2 * X + 0.5, -3 * X + 1], 1), 0)


@pytest.fixture(params=[V2, V1, V0], ids=["V2", "V1", "V0"])
def prototxt(request, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + request.param)
    return path


def run(net):
    return Executor(net).run({"x": X})["r"]


def test_they_are_used_without_a_caffemodel(prototxt):
    assert np.array_equal(run(load(prototxt)), WANT)


def test_they_stay_when_only_the_text_is_rewritten(prototxt, tmp_path):
    net = Net.read(prototxt)
    assert net.text() == prototxt.read_text()
    upgraded = upgrade(net)
    assert "layers" not in upgraded.text()
    path = tmp_path / "new.prototxt"
    upgraded.write(path)
    assert np.array_equal(run(load(path)), WANT)
    assert upgraded.text().count("blobs") >= 2
    assert ("# weights" in upgraded.text()) == ("# weights" in net.text())


def test_converting_without_passes_keeps_them_in_the_text(prototxt, tmp_path):
    call("convert", prototxt, "-o", tmp_path / "out")
    assert not (tmp_path / "out" / "weights.caffemodel").exists()
    assert np.array_equal(run(load(tmp_path / "out" / "deploy.prototxt")), WANT)


def test_a_pass_moves_them_into_the_caffemodel(prototxt, tmp_path):
    result = call("convert", prototxt, "-o", tmp_path / "out", "--pass", "strip_training")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "out"
    assert "blobs" not in (folder / "deploy.prototxt").read_text()
    net = load(folder / "deploy.prototxt", folder / "weights.caffemodel")
    assert np.array_equal(run(net), WANT)


def test_a_caffemodel_goes_before_them(prototxt, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    call("convert", prototxt, "-o", out, "--pass", "strip_training")
    changed = tmp_path / "changed.prototxt"
    changed.write_text(prototxt.read_text().replace("data: 2", "data: 7"))
    assert not np.array_equal(run(load(changed)), WANT)
    assert np.array_equal(run(load(changed, out / "weights.caffemodel")), WANT)
    call("convert", changed, out / "weights.caffemodel", "-o", other)
    assert "blobs" not in (other / "deploy.prototxt").read_text()
    stored = read_caffemodel(other / "weights.caffemodel").layers[-2]
    assert stored.blobs[0].array.ravel().tolist() == [2, -3]


def test_an_edit_elsewhere_leaves_them_alone():
    net = Net.parse(INPUT + V2)
    net.layer("r").proto.relu_param.negative_slope = 0.5
    old, new = (INPUT + V2).splitlines(), net.text().splitlines()
    assert old[:-1] == new[: len(old) - 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("data: -3 }", "}", r"layer \"c\".*shape \(2, 1, 1, 1\) does not fit its 1 values"),
        ("{ data: [0.5, 1] shape { dim: 2 } }", "{ data: [0.5, 1] shape { dim: 1 dim: 2 } }",
         r"blob 1 in the prototxt has the shape \(1, 2\), but it must have \(2\)"),
        ("  blobs { data: [0.5, 1] shape { dim: 2 } }\n", "",
         "the prototxt gives it 1 blobs, but it has 2"),
        ("data: -3", "data: nan", "NaN or infinite"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path, old, new, message):
    assert old in V2
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + V2.replace(old, new))
    with pytest.raises(ModelError, match=message):
        load(path)
    refusal("run", path, "--random-input")
