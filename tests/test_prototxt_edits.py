"""A changed net differs from its file in the lines concerned and in no others."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from proto_strategies import layers

from caffe_scnn.errors import FormatError
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.proto import caffe_pb2 as pb

SPREAD = """\
# A net.
name: "n"  # its name

layer {
  name: "data"
  type: "Input"
  top: "data"
  input_param { shape: { dim: 10 dim: 3 dim: 8 dim: 8 } }
}
# first convolution
layer {
  bottom: "data"
  top: "conv1"  # the top
  name: "conv1"
  type: "Convolution"
  fork_param { keep: ME }
  convolution_param {
    num_output: 4  # few
    kernel_size: 3
    pad: [1, 1]
    bias_term: false
  }
}
layer {
  name: "relu1"
  type: "ReLU"
  bottom: "conv1"
  top: "conv1"
}
"""
TIGHT = """\
name: "t"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 4 } } # fc
layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }"""  # noqa: E501
TABS = SPREAD.replace("  ", "\t")
CRLF = SPREAD.replace("\n", "\r\n")
SPACED = SPREAD.replace("\n}\n", "\n}\n\n")


def diff(before: str, after: str) -> tuple[list[str], list[str]]:
    """Return the lines that went and the lines that came."""
    lines = list(difflib.ndiff(before.splitlines(True), after.splitlines(True)))
    gone = [line[2:] for line in lines if line.startswith("- ")]
    return gone, [line[2:] for line in lines if line.startswith("+ ")]


def changed(text: str, change: Callable[[Net], None]) -> tuple[list[str], list[str]]:
    net = Net.parse(text)
    change(net)
    written = net.text()
    again = Net.parse(written)
    assert [layer.proto for layer in again] == [layer.proto for layer in net]
    assert again.proto == net.proto
    assert again.text() == written
    return diff(text, written)


def rename(net: Net) -> None:
    net.layer("conv1").proto.name = "c1"


def new_layer() -> Layer:
    layer = Layer(pb.LayerParameter(name="P", type="Convolution", bottom=["a"], top=["b"]))
    layer.proto.convolution_param.num_output = 7
    layer.proto.relu_param.negative_slope = 0.1
    return layer


NEW = """\
layer {
  name: "P"
  type: "Convolution"
  bottom: "a"
  top: "b"
  convolution_param {
    num_output: 7
  }
  relu_param {
    negative_slope: 0.1
  }
}
"""


@pytest.mark.parametrize("text", [SPREAD, TIGHT, TABS, CRLF, SPACED])
def test_nothing_changed_nothing_written_differently(text: str) -> None:
    assert Net.parse(text).text() == text
    assert Net.parse(text).copy().text() == text


@pytest.mark.parametrize("text", [SPREAD, TABS, CRLF, SPACED])
def test_rename_changes_one_line(text: str) -> None:
    gone, came = changed(text, rename)
    assert came == [gone[0].replace("conv1", "c1")]


def test_number_changes_in_place_and_keeps_its_comment() -> None:
    def change(net: Net) -> None:
        net.layer("conv1").proto.convolution_param.num_output = 8

    assert changed(SPREAD, change) == (
        ["    num_output: 4  # few\n"],
        ["    num_output: 8  # few\n"],
    )


def test_list_element_changes_in_the_list() -> None:
    def change(net: Net) -> None:
        net.layer("conv1").proto.convolution_param.pad[1] = 0

    assert changed(SPREAD, change) == (["    pad: [1, 1]\n"], ["    pad: [1, 0]\n"])


def test_list_that_grows_is_written_as_a_list() -> None:
    def change(net: Net) -> None:
        net.layer("conv1").proto.convolution_param.pad.append(2)

    assert changed(SPREAD, change)[1] == ["    pad: [1, 1, 2]\n"]


@pytest.mark.parametrize("new", [[2, 3, 4], [3], [], [1, 2, 3, 4], [9, 1, 2]])
@pytest.mark.parametrize("form", ["pad: [1, 2, 3]", "pad: [1, 2] pad: 3", "pad: 1 pad: [2, 3]"])
def test_lists_become_any_other_list(form: str, new: list[int]) -> None:
    net = Net.parse(f"layer {{ convolution_param {{ {form} }} }}  # c\n")
    net.layers[0].proto.convolution_param.pad[:] = new
    written = Net.parse(net.text())
    assert list(written.layers[0].proto.convolution_param.pad) == new
    assert net.text().endswith("}  # c\n")


def test_other_elements_of_a_list_keep_their_spelling() -> None:
    net = Net.parse("layer { convolution_param { pad: [0x1, 2] } }")
    net.layers[0].proto.convolution_param.pad[1] = 3
    assert net.text() == "layer { convolution_param { pad: [0x1, 3] } }"


def test_layers_written_as_a_list_come_and_go() -> None:
    text = 'layer [{ name: "a" fork: 1 }, { name: "b" }]\nlayer { name: "c" }\n'
    net = Net.parse(text)
    net.layers[1].proto.name = "B"
    assert net.text() == text.replace('"b"', '"B"')
    net.layers[:] = [net.layers[0], net.layers[2], new_layer()]
    again = Net.parse(net.text())
    assert [layer.proto for layer in again] == [layer.proto for layer in net]
    assert 'layer { name: "a" fork: 1 }' in net.text()


def test_repeated_message_changes_inside() -> None:
    def change(net: Net) -> None:
        net.layer("data").proto.input_param.shape[0].dim[0] = 1

    line = "  input_param { shape: { dim: 10 dim: 3 dim: 8 dim: 8 } }\n"
    assert changed(SPREAD, change) == ([line], [line.replace("10", "1")])


@pytest.mark.parametrize(
    ("text", "indent", "end"), [(SPREAD, "  ", "\n"), (TABS, "\t", "\n"), (CRLF, "  ", "\r\n")]
)
def test_added_field_is_a_line_after_its_neighbour(text: str, indent: str, end: str) -> None:
    def change(net: Net) -> None:
        net.layer("conv1").proto.convolution_param.group = 2
        net.layer("relu1").proto.relu_param.negative_slope = 0.25
        net.layer("conv1").proto.top.append("conv1b")

    gone, came = changed(text, change)
    assert not gone
    assert came == [
        f'{indent}top: "conv1b"{end}',
        f"{indent}{indent}group: 2{end}",
        f"{indent}relu_param {{{end}",
        f"{indent}{indent}negative_slope: 0.25{end}",
        f"{indent}}}{end}",
    ]


def test_added_field_stays_on_the_line_of_a_one_line_layer() -> None:
    def change(net: Net) -> None:
        net.layer("ip").proto.inner_product_param.bias_term = False
        net.layer("relu").proto.relu_param.negative_slope = 0.5

    gone, came = changed(TIGHT, change)
    assert came == [
        gone[0].replace("num_output: 4 }", "num_output: 4 bias_term: false }"),
        gone[1].replace('top: "ip" }', 'top: "ip" relu_param { negative_slope: 0.5 } }'),
    ]


def test_added_field_is_kept_apart_from_what_follows() -> None:
    net = Net.parse("layer{convolution_param{num_output:4kernel_size:3}}")
    net.layers[0].proto.convolution_param.bias_term = False
    assert net.text() == "layer{convolution_param{num_output:4 bias_term: false kernel_size:3}}"


def test_added_field_does_not_bring_back_removed_neighbours() -> None:
    net = Net.parse('layer { bottom: "a" include { } relu_param { } }')
    layer = net.layers[0].proto
    layer.top.append("t")
    del layer.bottom[:], layer.include[:]
    assert net.text() == 'layer { top: "t" relu_param { } }'


def test_removed_field_takes_its_lines_and_comment() -> None:
    def change(net: Net) -> None:
        layer = net.layer("conv1").proto
        layer.convolution_param.ClearField("num_output")
        del layer.top[:]

    gone, came = changed(SPREAD, change)
    assert gone == ['  top: "conv1"  # the top\n', "    num_output: 4  # few\n"]
    assert not came


def test_fields_that_share_a_line_go_alone_or_with_it() -> None:
    text = 'layer {\n  name: "n"\n  bottom: "a"; top: "b" # c\n}\n'
    net = Net.parse(text)
    del net.layers[0].proto.bottom[:]
    assert net.text() == 'layer {\n  name: "n"\n  top: "b" # c\n}\n'
    del net.layers[0].proto.top[:]
    assert net.text() == 'layer {\n  name: "n"\n}\n'


def test_removed_fields_leave_their_neighbours_on_the_line() -> None:
    def change(net: Net) -> None:
        del net.layer("ip").proto.bottom[:]
        relu = net.layer("relu").proto
        relu.ClearField("name")
        relu.ClearField("type")

    gone, came = changed(TIGHT, change)
    assert came[0] == gone[0].replace(' bottom: "data"', "")
    assert came[1] == gone[1].replace(' name: "relu" type: "ReLU"', "")


@pytest.mark.parametrize(
    ("text", "new"),
    [
        (SPREAD, NEW),
        (TABS, NEW.replace("  ", "\t")),
        (CRLF, NEW.replace("\n", "\r\n")),
        (SPACED, "\n" + NEW),
    ],
)
@pytest.mark.parametrize("anchor", ["data", "conv1", "relu1"])
def test_inserted_layer_is_the_only_difference(text: str, new: str, anchor: str) -> None:
    net = Net.parse(text)
    old = net.layer(anchor).source
    assert old is not None
    at = text.index("\n", old.end) + 1
    net.insert_after(net.layer(anchor), new_layer(), new_layer())
    assert net.text() == text[:at] + new + new + text[at:]


def test_layers_inserted_at_the_front_and_into_an_empty_net() -> None:
    headless = SPREAD.partition("\n\n")[2]
    for head, tail in ((SPREAD[:31], SPREAD[31:]), ("", headless), ("# none\n", ""), ("", "")):
        net = Net.parse(head + tail)
        net.layers.insert(0, new_layer())
        assert net.text() == head + NEW + tail


def test_layer_appended_after_a_last_line_without_end() -> None:
    net = Net.parse(TIGHT)
    net.layers.append(new_layer())
    assert net.text() == TIGHT + "\n" + NEW.rstrip("\n")


def test_layers_of_one_line_are_separated() -> None:
    net = Net.parse('layer { name: "a" } layer { name: "b" }\n')
    commented = Net.parse(SPREAD).layer("conv1")
    net.insert_after(net.layers[0], Layer(pb.LayerParameter(name="x")), commented)
    assert [layer.name for layer in Net.parse(net.text())] == ["a", "x", "conv1", "b"]
    net.layers.insert(0, commented)
    del net.layers[1]
    assert [layer.name for layer in Net.parse(net.text())] == ["conv1", "x", "conv1", "b"]


def test_removed_layer_takes_only_its_lines() -> None:
    net = Net.parse(SPREAD)
    net.remove(net.layer("conv1"))
    start = SPREAD.index("layer {\n  bottom")
    assert net.text() == SPREAD[:start] + SPREAD[SPREAD.index('layer {\n  name: "relu1"') :]


def test_replaced_layer_makes_room_for_several() -> None:
    net = Net.parse(SPREAD)
    net.replace(net.layer("relu1"), new_layer(), new_layer())
    assert net.text() == SPREAD.partition('layer {\n  name: "relu1"')[0] + NEW + NEW


def test_moved_and_doubled_layers_keep_their_own_text() -> None:
    net = Net.parse(SPREAD)
    twin = net.layer("conv1").copy()
    twin.proto.name = "twin"
    net.layers = [net.layers[2], net.layers[0], net.layers[1], twin]
    again = Net.parse(net.text())
    assert [layer.name for layer in again] == ["relu1", "data", "conv1", "twin"]
    assert net.text().count("fork_param { keep: ME }") == 2
    assert net.text().count("num_output: 4  # few") == 2


def test_strings_of_moved_layers_keep_their_strange_characters() -> None:
    net = Net.parse('layer { name: "a\u2028\x0c\x85\r\nb" }\nlayer { name: "c" }\n')
    name = net.layers[0].name
    net.layers.reverse()
    assert Net.parse(net.text()).layers[1].name == name


def test_layers_of_another_file_come_with_their_text() -> None:
    net, other = Net.parse(TABS), Net.parse(SPREAD)
    net.layers.append(other.layer("conv1"))
    assert (
        net.text()
        == TABS
        + SPREAD[SPREAD.index("layer {\n  bottom") :].partition('layer {\n  name: "relu1"')[0]
    )


def test_net_name_and_state() -> None:
    def change(net: Net) -> None:
        net.proto.name = "m"
        net.proto.state.stage.append("deploy")

    gone, came = changed(SPREAD, change)
    assert gone == ['name: "n"  # its name\n']
    assert came == ['name: "m"  # its name\n', "state {\n", '  stage: "deploy"\n', "}\n"]


# --- old-style inputs -------------------------------------------------------------------------

OLD = """\
name: "old"
input: "data"  # pictures
input_dim: 10
input_dim: 3
input_dim: 8
input_dim: 8
layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
"""


def test_old_inputs_are_a_layer_and_stay_as_written() -> None:
    net = Net.parse(OLD)
    first = net.layers[0]
    assert (first.name, first.type, first.tops) == ("input", "Input", ["data"])
    assert list(first.proto.input_param.shape[0].dim) == [10, 3, 8, 8]
    assert not net.proto.input
    assert net.text() == OLD


def test_old_batch_size_changes_in_its_line() -> None:
    def change(net: Net) -> None:
        net.layers[0].proto.input_param.shape[0].dim[0] = 1

    assert changed(OLD, change) == (["input_dim: 10\n"], ["input_dim: 1\n"])


def test_what_old_inputs_cannot_say_becomes_a_layer() -> None:
    net = Net.parse(OLD)
    net.layers[0].proto.input_param.shape[0].dim.append(2)
    assert "input_dim" not in net.text()
    assert [layer.proto for layer in Net.parse(net.text())] == [layer.proto for layer in net]


def test_a_second_copy_of_old_inputs_becomes_a_layer() -> None:
    net = Net.parse(OLD)
    twin = net.layers[0].copy()
    twin.proto.top[0] = "other"
    net.layers.append(twin)
    again = Net.parse(net.text())
    assert [layer.tops for layer in again] == [["data"], ["r"], ["other"]]
    assert net.text().startswith(OLD)


def test_old_inputs_without_shapes_stay() -> None:
    text = 'input: "a"\ninput: "b"\n'
    net = Net.parse(text)
    assert net.layers[0].tops == ["a", "b"]
    assert not net.layers[0].proto.input_param.shape
    assert net.text() == text


def test_shapes_without_an_input_mean_nothing_and_stay() -> None:
    text = "input_dim: 1\nlayer { }\n"
    net = Net.parse(text)
    assert len(net.layers) == 1
    assert net.text() == text


def test_a_net_made_by_a_program_is_printed() -> None:
    net = Net(pb.NetParameter(name="made"), [new_layer()])
    assert net.text() == 'name: "made"\n' + NEW
    net.layers.append(Net.parse(SPREAD).layer("conv1"))
    assert "fork_param { keep: ME }" in net.text()
    assert Net(pb.NetParameter()).text() == ""


def test_removed_old_input_takes_its_lines() -> None:
    def remove(net: Net) -> None:
        del net.layers[0]

    gone, came = changed(OLD, remove)
    assert (len(gone), came) == (5, [])


# --- anything into anything -------------------------------------------------------------------


@given(layers(), layers())
def test_any_layer_can_become_any_other(old: pb.LayerParameter, new: pb.LayerParameter) -> None:
    """The patched text says what the new message says, in every layout of the old one."""
    for line in (False, True):
        body = text_format.MessageToString(old, as_one_line=line)
        net = Net.parse(f"# head\nlayer {{ {body}}}  # tail\n")
        assert net.layers[0].proto.SerializeToString() == old.SerializeToString()
        net.layers[0].proto.CopyFrom(new)
        again = Net.parse(net.text()).layers[0].proto
        assert again.SerializeToString() == new.SerializeToString()


def edit_everywhere(net: Net) -> None:
    """Rename every layer and give it one more param."""
    for layer in net.layers:
        layer.proto.name += "_x"
        layer.proto.param.add(lr_mult=0.5)


def test_real_files_survive_edits_of_every_layer(data_dir: Path) -> None:
    for path in sorted((data_dir / "prototxts").rglob("*.prototxt"))[::9]:
        try:
            net = Net.read(path)
        except FormatError:
            continue  # solvers; test_prototxt.py looks at them
        edit_everywhere(net)
        again = Net.parse(net.text())
        old_inputs = [layer for layer in again if layer.line is None]
        assert not old_inputs or net.layers[0].line is None
        assert [layer.proto for layer in again] == [layer.proto for layer in net], path
