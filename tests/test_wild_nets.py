"""Prototxts as they lie about in public: what can be opened, and what is said of the others."""

from __future__ import annotations

import re
import warnings

import pytest

from caffe_scnn.errors import CaffeScnnError, FormatError
from caffe_scnn.layers.summary import summarize
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net

# First types without a description here, of the deploy nets that have one.
MISSING = {"ImResize", "Switch", "Yolov3DetectionOutput", "YoloDetectionOutput", "Python"}


def deploy_nets(folder):
    """Nets that say what goes in."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".prototxt", ".pt", ".txt") and path.is_file():
            try:
                net = Net.read(path)
            except FormatError as error:
                assert "solver" in str(error) or "template" in path.name, error
                continue
            if any(layer.type == "Input" for layer in net):
                yield path


def test_deploy_nets_have_shapes_and_macs_or_name_what_is_missing(data_dir):
    good, types = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old layers with fields that mean nothing
        for path in deploy_nets(data_dir / "prototxts"):
            try:
                summary = summarize(load(path))
            except CaffeScnnError as error:
                found = re.search(r'^layer "[^"]+" \((?:line \d+\): unknown layer type "(\w+)"'
                                  r"|(Python), line \d+\))", str(error))  # fmt: skip
                assert found, error
                types.append(found[1] or found[2])
            else:
                good.append(path)
                assert all(all(n > 0 for n in row.shape) for row in summary.layers)
                assert summary.total.macs > 0 or "test__" in path.name, path
    assert len(good) + len(types) == 98
    assert len(good) >= 87
    assert set(types) <= MISSING


@pytest.mark.parametrize(
    "name", ["Zeiler_conv5", "pascal_finetune_fc_spm_test", "pascal_finetune_fc_spm_train"]
)
def test_the_dialect_of_spp_net_reads_as_its_v1_form(data_dir, name):
    """Parameters of V1 inside layers of V0: the same numbers as in any later form."""
    net = load(data_dir / "prototxts" / "ShaoqingRen+SPP_net" / f"model-defs__{name}.prototxt")
    summary = summarize(net)
    rows = {row.name: row for row in summary.layers}
    if name == "Zeiler_conv5":
        assert rows["conv1"].shape == (128, 96, 110, 110)
        assert net.layer("norm1").proto.lrn_param.local_size == 3
        assert rows["pool1"].shape[2:] == (55, 55)
    else:
        assert rows["fc6"].shape == (128, 4096)
        assert rows["fc6"].params == 12800 * 4096 + 4096
    assert {layer.type for layer in net} <= {
        "Input", "Convolution", "ReLU", "LRN", "Pooling", "Flatten", "Concat", "InnerProduct",
        "Dropout", "Softmax", "SoftmaxWithLoss", "Accuracy",
    }  # fmt: skip
