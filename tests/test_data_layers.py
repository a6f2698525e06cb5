"""Layers that read data: their tops are fed; the prototxt or the user says their shapes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from caffe_scnn.cli import main
from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError, UnsupportedLayer
from caffe_scnn.evaluate.arrays import input_shapes
from caffe_scnn.layers import reference
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net

TRAIN_VAL = """
layer { name: "data" type: "%s" top: "data" top: "label" %s }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.mark.parametrize(
    ("kind", "param", "shape"),
    [
        ("MemoryData", "memory_data_param { batch_size: 4 channels: 3 height: 8 width: 9 }",
         (4, 3, 8, 9)),
        ("ImageData", "image_data_param { batch_size: 4 new_height: 8 new_width: 9 }",
         (4, 3, 8, 9)),
        ("ImageData", "image_data_param { batch_size: 4 new_height: 80 new_width: 90 "
         "is_color: false } transform_param { crop_size: 7 }", (4, 1, 7, 7)),
        ("WindowData", "window_data_param { batch_size: 4 } transform_param { crop_size: 7 }",
         (4, 3, 7, 7)),
        ("Data", "data_param { batch_size: 4 } transform_param { crop_size: 7 mean_value: 1 "
         "mean_value: 2 mean_value: 3 }", (4, 3, 7, 7)),
        ("Data", "data_param { batch_size: 4 } transform_param { crop_size: 7 force_gray: true }",
         (4, 1, 7, 7)),
    ],
)  # fmt: skip
def test_shapes_that_the_prototxt_says(kind, param, shape):
    shapes = infer_shapes(Net.parse(TRAIN_VAL % (kind, param))).blobs
    assert shapes["data"] == shape
    assert shapes["label"] == (4,)


def test_a_train_val_net_runs_on_what_it_is_fed(tmp_path):
    path = tmp_path / "train_val.prototxt"
    path.write_text(TRAIN_VAL % ("Data", "data_param { batch_size: 4 }"))
    net = load(path, inputs={"data": (2, 3, 8, 8)})
    assert input_shapes(net) == {"data": (2, 3, 8, 8), "label": (2,)}
    rng = np.random.default_rng(0)
    for layer in net:
        layer.blobs = [rng.standard_normal(blob.shape).astype("f4") for blob in layer.blobs]
    fed = {"data": rng.standard_normal((2, 3, 8, 8)), "label": np.array([3, 1])}
    executor = Executor(net)
    assert executor.inputs == ("data", "label")
    assert np.allclose(executor.run(fed)["loss"], reference.run(net, fed)["loss"], rtol=1e-5)
    assert "Data" in net.text() and "2 3 8 8" not in net.text()


def test_what_only_the_database_knows_is_asked_for():
    net = Net.parse(
        TRAIN_VAL % ("Data", "data_param { batch_size: 4 } transform_param { crop_size: 7 }")
    )
    with pytest.raises(ModelError, match=r'top "data".*\(4, \?, 7, 7\).*--input-shape data='):
        infer_shapes(net)
    assert infer_shapes(net, {"data": (2, 1, 7, 7)}).blobs["label"] == (2,)
    assert input_shapes(net) == {"data": None, "label": None}


def test_hdf5_and_python_data_take_the_shapes_of_all_tops():
    text = (
        'layer { name: "d" type: "HDF5Data" top: "a" top: "b" hdf5_data_param { batch_size: 3 } }\n'
        'layer { name: "p" type: "Python" top: "c" python_param { module: "m" layer: "L" } }\n'
    )
    net = Net.parse(text)
    with pytest.raises(ModelError, match="HDF5 files"):
        infer_shapes(net, {"a": (3, 2)})
    with pytest.raises(ModelError, match=r"m\.L"):
        infer_shapes(net, {"a": (3, 2), "b": (3,)})
    blobs = infer_shapes(net, {"a": (3, 2), "b": (3,), "c": (1,)}).blobs
    assert blobs == {"a": (3, 2), "b": (3,), "c": (1,)}


def test_python_without_its_code_is_named():
    text = (
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 } } }\n'
        'layer { name: "p" type: "Python" bottom: "d" top: "c" '
        'python_param { module: "m" layer: "L" } }\n'
    )
    with pytest.raises(UnsupportedLayer, match=r'"p" \(Python, line 2\).*m\.L.*register_layer'):
        infer_shapes(Net.parse(text))


def test_info_takes_the_shape(tmp_path):
    path = tmp_path / "train_val.prototxt"
    path.write_text(TRAIN_VAL % ("Data", "data_param { batch_size: 4 }"))
    refused = CliRunner().invoke(main, ["info", str(path)])
    assert refused.exit_code == 2 and "--input-shape data=" in refused.stderr
    shown = CliRunner().invoke(main, ["info", str(path), "--input-shape", "data=1,3,8,8", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["layers"][1]["macs"] == 2 * 27 * 36
    bad = CliRunner().invoke(main, ["info", str(path), "--input-shape", "data=1x3"])
    assert bad.exit_code == 2 and "sizes with commas" in bad.stderr
