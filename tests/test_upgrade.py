"""Old nets brought to the current form say what Caffe's own upgrade tool says."""

from __future__ import annotations

from pathlib import Path

import pytest

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
]


@pytest.mark.parametrize("case", CASES)
def test_upgraded_net_is_that_of_caffe(golden_dir: Path, case: str) -> None:
    net = upgrade(Net.read(golden_dir / "legacy" / f"{case}.prototxt"))
    wanted = Net.read(golden_dir / "legacy" / f"{case}.upgraded.prototxt")
    for got in (net, Net.parse(net.text())):
        assert got.proto == wanted.proto
        assert [layer.proto for layer in got] == [layer.proto for layer in wanted]
        assert all(layer.line for layer in Net.parse(net.text()))


def test_upgrade_changes_only_what_is_old() -> None:
    text = '# c\nname: "n"\ninput: "a"  # in\ninput_dim: 1\ninput_dim: 2\ninput_dim: 3\n'
    text += 'input_dim: 4\n\nlayer { name: "r" bottom: "a" } # kept\n'
    net = Net.parse(text)
    upgraded = upgrade(net).text()
    assert net.text() == text
    assert upgraded.startswith('# c\nname: "n"\nlayer {\n  name: "input"\n  type: "Input"\n')
    assert upgraded.endswith('  }\n}\n\nlayer { name: "r" bottom: "a" } # kept\n')
    assert upgrade(Net.parse(upgraded)).text() == upgraded
