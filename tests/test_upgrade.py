"""Old nets brought to the current form say what Caffe's own upgrade tool says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffe_scnn.errors import FormatError
from caffe_scnn.model.net import Net
from caffe_scnn.model.upgrade import upgrade

CASES = [
    "input_dim",
    "input_shape",
    "input_two",
    "bn_params",
    "bn_params_names",
    "text_enum_number",
    "text_interleaved",
    "text_odd",
    "blob_chunks",
    "blob_double",
    "blob_legacy4d",
    "blob_unpacked",
    "model_duplicate_layer",
    "model_extra_layers",
    "model_only_names",
    "model_partial",
    "v2_proto_v1_model",
    "v1_lenet",
    "v1_neurons",
    "v1_proto_v2_model",
    "v1_shared",
    "upgrade_v1_data",
    "v0_lenet",
    "v0_padding",
    "v0_proto_v2_model",
    "upgrade_v0_data",
]


@pytest.mark.parametrize("case", CASES)
def test_upgraded_net_is_that_of_caffe(golden_dir: Path, case: str) -> None:
    net = upgrade(Net.read(golden_dir / "legacy" / f"{case}.prototxt"))
    wanted = Net.read(golden_dir / "legacy" / f"{case}.upgraded.prototxt")
    for got in (net, Net.parse(net.text())):
        assert got.proto == wanted.proto
        assert [layer.proto for layer in got] == [layer.proto for layer in wanted]
        assert all(layer.line for layer in Net.parse(net.text()))


V1 = """\
name: "v1"  # net
# first
layers {
  name: "c"  # conv
  type: CONVOLUTION
  bottom: "data"
  top: "c"
  fork: 1
  blobs_lr: 1
  blobs_lr: 2
  convolution_param { num_output: 3 }
}
layers { name: "r" type: RELU bottom: "c" top: "c" }
"""
CURRENT = """\
name: "v1"  # net
# first
layer {
  name: "c"  # conv
  type: "Convolution"
  bottom: "data"
  top: "c"
  param {
    lr_mult: 1
  }
  param {
    lr_mult: 2
  }
  fork: 1
  convolution_param { num_output: 3 }
}
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
"""


def test_old_layers_stay_until_something_changes() -> None:
    net = Net.parse(V1)
    assert [layer.type for layer in net] == ["Convolution", "ReLU"]
    assert [unknown.name for unknown in net.layers[0].unknown] == ["fork"]
    assert net.text() == V1
    assert upgrade(net).text() == CURRENT
    net.layers[1].proto.name = "s"
    assert net.text() == CURRENT.replace('"r"', '"s"')
    net = Net.parse(V1)
    del net.layers[1]
    assert net.text() == CURRENT.partition('layer { name: "r"')[0]


def test_old_layers_come_to_another_net_in_the_current_form() -> None:
    net = Net.parse("")
    net.layers = [Net.parse(V1).layers[1], Net.parse(V0).layers[1]]
    assert net.text() == (
        'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }\n'
        'layer {\n  name: "b"\n  type: "Pooling"\n  bottom: "q"\n}\n'
    )


V0 = """\
layers { layer { name: "a" type: "relu" } }  # kept
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "x" top: "p" }
layers { layer { name: "b" type: "pool" } bottom: "q" }
layers { layer { name: "c" type: "conv" stride: 2 } bottom: "p" }
"""


def test_padding_layers_are_merged() -> None:
    net = Net.parse(V0.replace('"q"', '"p"'))
    assert [(layer.name, layer.bottoms) for layer in net] == [
        ("a", []),
        ("b", ["x"]),
        ("c", ["x"]),
    ]
    assert net.layers[1].proto.pooling_param.pad == 1
    assert list(net.layers[2].proto.convolution_param.pad) == [1]
    assert "# kept" in upgrade(net).text()
    assert [layer.proto for layer in upgrade(net)] == [layer.proto for layer in net]


@pytest.mark.parametrize(
    ("old", "new", "phrase"),
    [
        ('"relu"', '"relux"', '1:8: there is no V0 layer type "relux"'),
        ('"conv"', '"relu"', 'padding layer "pad" is read by "c"'),
        ('bottom: "p"', 'bottom: "p" bottom: "x"', "with one bottom"),
        ('top: "p"', 'top: "p" top: "z"', "one bottom and one top"),
    ],
)
def test_what_v0_cannot_mean_is_refused(old: str, new: str, phrase: str) -> None:
    with pytest.raises(FormatError, match=phrase):
        Net.parse(V0.replace(old, new))


def test_the_last_producer_of_a_blob_counts_for_padding() -> None:
    net = Net.parse(V0.replace('bottom: "q" }', 'bottom: "q" top: "p" }'))
    assert net.layers[2].bottoms == ["p"]
    assert not net.layers[2].proto.convolution_param.pad


def test_a_v0_field_of_another_type_is_dropped_with_a_warning() -> None:
    text = 'layers { layer { name: "a" type: "im2col" kernelsize: 3 } }\n'
    with pytest.warns(UserWarning, match='"kernelsize" means nothing for the type im2col'):
        net = Net.parse(text)
    assert net.text() == text


def test_blobs_go_along() -> None:
    net = Net.parse(V1)
    net.layers[0].blobs = [np.ones(3, np.float32)]
    assert upgrade(net).layers[0].blobs[0] is net.layers[0].blobs[0]


def test_upgrade_changes_only_what_is_old() -> None:
    text = '# c\nname: "n"\ninput: "a"  # in\ninput_dim: 1\ninput_dim: 2\ninput_dim: 3\n'
    text += 'input_dim: 4\n\nlayer { name: "r" bottom: "a" } # kept\n'
    net = Net.parse(text)
    upgraded = upgrade(net).text()
    assert net.text() == text
    assert upgraded.startswith('# c\nname: "n"\nlayer {\n  name: "input"\n  type: "Input"\n')
    assert upgraded.endswith('  }\n}\n\nlayer { name: "r" bottom: "a" } # kept\n')
    assert upgrade(Net.parse(upgraded)).text() == upgraded
