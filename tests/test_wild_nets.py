"""Prototxts as they lie about in public: what can be opened, and what is said of the others."""

from __future__ import annotations

import re
import warnings

import pytest

from caffe_scnn.errors import CaffeScnnError, FormatError
from caffe_scnn.layers.summary import summarize
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net
from caffe_scnn.model.wire import encode_head
from caffe_scnn.proto import caffe_pb2 as pb

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
                found = re.search(
                    r'^.+:\d+:\d+: layer "[^"]+": unknown layer type "(\w+)"'
                    r'|^layer "[^"]+" \((Python), line \d+\)',
                    str(error),
                )
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


def test_which_fields_of_forks_are_kept_without_being_understood(data_dir):
    """Of types that cannot be run here, and two that change results in a way nobody could check."""
    fields = set()
    for path in sorted((data_dir / "prototxts").rglob("*")):
        if path.is_file():
            try:
                net = Net.read(path)
            except (FormatError, UnicodeDecodeError):
                continue
            fields |= {(u.owner, u.name) for layer in net for u in layer.unknown}
    assert fields == {
        ("batch_norm_param", "scale_bias"),  # NVIDIA/caffe: two blobs more
        ("image_data_param", "images_in_color"),  # no fork has it
        *(("annotated_data_param", n)
          for n in ("yolo_data_type", "yolo_data_jitter", "train_diffcult", "single_class",
                    "seg_scales")),
        *(("layer", f"{n}_param")
          for n in ("yolov3", "imresize", "nms", "detectnet_groundtruth", "detectnet_augmentation",
                    "yolov3_detection_output", "yolo_detection_output", "yolo_seg", "flip")),
    }  # fmt: skip


def test_settings_of_training_and_of_execution_do_not_keep_a_net_from_running():
    """SkimCaffe's and wenwei202's nets: what they add says how to train or compute, not what."""
    net = Net.parse(
        """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 3 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  param { lr_mult: 1 breadth_decay_mult: 2 kernel_shape_decay_mult: 3 regularization_type: "L1"
    block_group_lasso { xdimen: 1 ydimen: 2 block_decay_mult: 3 }
    force_regularize { xdim: 1 ydim: 4 multi: 0.5 } force_mult: 2 }
  convolution_param { num_output: 2 kernel_size: 1 conv_mode: DIRECT_SCONV } }
layer { name: "f" type: "InnerProduct" bottom: "c" top: "f"
  inner_product_param { num_output: 2 gemm_mode: SPMDM spmdm_transpose_in: false } }
"""
    )
    assert not [field for layer in net for field in layer.unknown]
    assert summarize(net).total.macs > 0


def test_numbers_that_two_forks_use_are_not_taken_for_each_other():
    """143 is BVLC's input_param and DeepLab's interp_param, 137 three other messages.

    A layer of a caffemodel read as a message must not get parameters of a foreign type.
    """
    interp = b"\x08\x21\x10\x21"  # height: 33, width: 33
    normal = pb.LayerParameter(name="n", type="Interp").SerializeToString()
    layer = pb.LayerParameter.FromString(normal + encode_head(143, len(interp)) + interp)
    assert list(layer.input_param.shape) == []
    assert not layer.HasField("interp_param")
    roi = b"\x08\x06\x10\x06"  # pooled_h: 6, pooled_w: 6
    normal = pb.LayerParameter(name="n", type="ROIPooling").SerializeToString()
    layer = pb.LayerParameter.FromString(normal + encode_head(137, len(roi)) + roi)
    assert not layer.HasField("bn_param")
    assert not layer.HasField("upsample_param")
    text = 'layer { name: "i" type: "Interp" interp_param { height: 33 width: 33 } }'
    parsed = Net.parse(text).layer("i").proto
    assert (parsed.interp_param.height, parsed.interp_param.width) == (33, 33)
    assert not parsed.HasField("input_param")
