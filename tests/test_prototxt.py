"""Prototxt text: Caffe's grammar, strict values, and nothing lost on the way back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from proto_strategies import layers

from caffe_scnn.errors import FormatError
from caffe_scnn.model import prototxt
from caffe_scnn.model.net import Net, refuse_unknown
from caffe_scnn.model.scalars import format_scalar
from caffe_scnn.proto import caffe_pb2 as pb

# --- the grammar ------------------------------------------------------------------------------


def layer_of(text: str) -> pb.LayerParameter:
    return Net.parse(text).layers[0].proto


@pytest.mark.parametrize(
    "text",
    [
        'layer { name: "a" type: "B" }',
        "layer{name:'a'type:'B'}",
        "layer < name: 'a' ; type: \"B\", >",
        'layer: { name: "a" # comment } with " quotes\n type: "B" }',
        'layer { name: "" \'a\' "" # between\n "" type: "\\x42" }',
        'layer { name: "\\141" type: "\\u0042" }',
        '\ufefflayer { name: "a" type: "B" }\r\n',
        'layer: [{ name: "a" type: "B" }]',
        'layer [< name: "a" type: "B" >]',
    ],
)
def test_spellings_of_one_layer(text: str) -> None:
    assert layer_of(text) == pb.LayerParameter(name="a", type="B")
    assert Net.parse(text).text() == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("0x1F", 31), ("017", 15), ("0", 0), ("4294967295", 2**32 - 1)],
)
def test_unsigned_integers(text: str, value: int) -> None:
    layer = layer_of(f"layer {{ convolution_param {{ num_output: {text} }} }}")
    assert layer.convolution_param.num_output == value


@pytest.mark.parametrize(
    ("text", "value"), [("-1", -1), ("- 1", -1), ("-0x10", -16), ("-2147483648", -(2**31))]
)
def test_signed_integers(text: str, value: int) -> None:
    assert layer_of(f"layer {{ concat_param {{ axis: {text} }} }}").concat_param.axis == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("1.", 1.0),
        (".5e-1", 0.05),
        ("2f", 2.0),
        ("1.5F", 1.5),
        ("-3e2", -300.0),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("1e400", math.inf),
    ],
)
def test_floats(text: str, value: float) -> None:
    slope = layer_of(f"layer {{ relu_param {{ negative_slope: {text} }} }}").relu_param
    assert slope.negative_slope == np.float32(value)


def test_nan_is_a_float() -> None:
    layer = layer_of("layer { relu_param { negative_slope: nan } }")
    assert math.isnan(layer.relu_param.negative_slope)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("t", True), ("True", True), ("1", True), ("false", False), ("0", False)],
)
def test_bools(text: str, value: bool) -> None:
    layer = layer_of(f"layer {{ convolution_param {{ bias_term: {text} }} }}")
    assert layer.convolution_param.bias_term is value


def test_lists_and_repetition_mix() -> None:
    layer = layer_of("layer { convolution_param { pad: [1, 2] pad: 3 kernel_size: [] } }")
    assert list(layer.convolution_param.pad) == [1, 2, 3]
    assert not layer.convolution_param.kernel_size


def test_strings_may_span_lines() -> None:
    text = 'layer { python_param { param_str: "a: 1\nb: 2" } }'
    assert layer_of(text).python_param.param_str == "a: 1\nb: 2"


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    raw = b'# caf\xe9\nlayer { name: "n\xff" type: "T" } # \x80\r\n'
    source = tmp_path / "a.prototxt"
    source.write_bytes(raw)
    net = Net.read(source)
    net.write(tmp_path / "b.prototxt")
    assert (tmp_path / "b.prototxt").read_bytes() == raw
    assert net.layers[0].name == "n\ufffd"


# --- what is refused --------------------------------------------------------------------------

REFUSED = {
    "name: ": ("1:7", "expected a value, found the end of the file"),
    "layer { name: }": ("1:15", 'expected a value, found "}"'),
    'layer { name "x" }': ("1:14", 'needs a ":"'),
    "layer { convolution_param { pad [1] } }": ("1:29", 'needs a ":"'),
    "layer { include { phase TEST } }": ("1:25", 'needs a ":"'),
    "\n\n  layer {": ("3:9", "never closed"),
    "layer { name: 'x' >": ("1:19", 'close it with "}"'),
    "layer { } }": ("1:11", "closes nothing"),
    'name: "x': ("1:7", "never closed"),
    'name: "x" = 1': ("1:11", "'=' has no meaning"),
    "layer { [a.b]: 1 }": ("1:11", "no meaning"),
    "layer { bottom: ['a' 'b', ] }": ("1:27", "expected a value"),
    "layer { bottom: ['a' : 'b'] }": ("1:22", '"," or "]"'),
    "layer { 5: 1 }": ("1:9", "expected a field name"),
    "layer: 5": ("1:8", "is a message"),
    "layer { name: { } }": ("1:15", "takes a plain value"),
    "layer { relu_param: 1 }": ("1:21", "is a message"),
    "layer { name: x }": ("1:15", "not a string"),
    "layer { name: 'a\\q' }": ("1:15", "unknown escape"),
    "layer { name: -'a' }": ("1:16", "expected a value"),
    "layer { name: 'a' name: 'b' }": ("1:19", "given twice in one layer"),
    "name: 'a' name: 'b'": ("1:11", "given twice in one net"),
    "layer { relu_param { } relu_param { } }": ("1:24", "given twice"),
    "layer { pooling_param { pad: [1] } }": ("1:25", "not a list"),
    "layer { pooling_param { pad: 1.5 } }": ("1:30", "not an integer"),
    "layer { pooling_param { pad: 1e3 } }": ("1:30", "not an integer"),
    "layer { pooling_param { pad: '1' } }": ("1:30", "not an integer"),
    "layer { pooling_param { pad: -1 } }": ("1:30", "from 0 to 4294967295"),
    "layer { pooling_param { pad: 4294967296 } }": ("1:30", "out of range"),
    "layer { pooling_param { pad: ٣ } }": ("1:30", "has no meaning"),
    "layer { type: \udcff }": ("1:15", "the byte 0xff is not UTF-8"),
    "layer { pooling_param { pad: %s } }" % ("9" * 5000): ("1:30", "out of range"),
    "layer { pooling_param { pad: 09 } }": ("1:30", "not an octal number"),
    "layer { concat_param { axis: 2147483648 } }": ("1:30", "out of range"),
    "layer { pooling_param { pool: MEDIAN } }": ("1:31", "not a value of PoolMethod"),
    "layer { pooling_param { pool: 'MAX' } }": ("1:31", "did you mean MAX?"),
    "layer { pooling_param { pool: 3 } }": ("1:31", "not a value of PoolMethod"),
    "layer { convolution_param { bias_term: yes } }": ("1:40", "neither true nor false"),
    "layer { convolution_param { bias_term: 2 } }": ("1:40", "neither true nor false"),
    "layer { relu_param { negative_slope: fast } }": ("1:38", "not a number"),
    "layer { relu_param { negative_slope: '1' } }": ("1:38", "without quotes"),
    "layer { relu_param { negative_slope: 0x1 } }": ("1:38", "without the leading 0"),
    "layer { clip_param { min: 0 } }": ("1:20", 'lacks the required field "max"'),
    "base_lr: 1 net: 'train.prototxt'": ("1:1", "the net it trains is 'train.prototxt'"),
    "layers { } layer { }": ("1:1", 'both "layer"'),
    "input: 'a' input_dim: 1": ("1:1", "1 inputs need 4 input_dim"),
    "input: 'a' input_shape { } input_shape { }": ("1:1", "1 inputs need 1 input_shape"),
    "layer " + "{ a " * 200: ("1:407", "nested deeper than 100"),
    "\x00\x01": ("1:1", "not a text file"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_place_and_reason(text: str) -> None:
    place, phrase = REFUSED[text]
    with pytest.raises(FormatError) as caught:
        Net.parse(text, "f.prototxt")
    assert str(caught.value).startswith(f"f.prototxt:{place}: ")
    assert phrase in str(caught.value)


def test_a_caffemodel_is_refused_from_its_first_bytes(tmp_path: Path, golden_dir: Path) -> None:
    path = golden_dir / "legacy" / "v1_lenet.caffemodel"
    with pytest.raises(FormatError, match=r"v1_lenet.caffemodel: .*\(is it a caffemodel\?\)"):
        Net.read(path)  # without a line: the file was not read to its end
    with pytest.raises(FormatError, match="not a text file"):
        Net.parse(path.read_bytes().decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("name", ["", "missing.prototxt"])
def test_unreadable_files_are_one_message(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        Net.read(tmp_path / name)


# --- fields of forks --------------------------------------------------------------------------

FORK = """\
quantize: true
layer {
  name: "c"
  type: "Convolution"
  fork_param { deep { kernal_size: [1, 2] x: ANY } }
  convolution_param {
    num_output: 2
    kernal_size: 3
  }
}
"""


def test_unknown_fields_are_listed_and_kept() -> None:
    net = Net.parse(FORK, "fork.prototxt")
    layer = net.layers[0]
    assert [(u.name, u.line, u.column) for u in layer.unknown] == [
        ("fork_param", 5, 3),
        ("kernal_size", 8, 5),
    ]
    assert [u.name for u in net.unknown] == ["quantize"]
    layer.proto.name = "d"
    assert net.text() == FORK.replace('"c"', '"d"')


def test_who_needs_the_numbers_refuses_unknown_fields() -> None:
    layer = Net.parse(FORK.replace("fork_param", "python_param"), "fork.prototxt").layers[0]
    with pytest.raises(FormatError, match=r"fork\.prototxt:5:18: python_param has no field"):
        refuse_unknown(layer)
    del layer.unknown[0]
    with pytest.raises(FormatError, match=r'8:5: .*"kernal_size"; did you mean kernel_size\?'):
        refuse_unknown(layer)


# --- printing ---------------------------------------------------------------------------------


@given(layers())
def test_printed_layers_read_back(layer: pb.LayerParameter) -> None:
    net = Net.parse("")
    net.layers = Net.parse("layer { }").layers
    net.layers[0].source = None
    net.layers[0].proto = layer
    for text in (net.text(), "layer {\n" + text_format.MessageToString(layer) + "}"):
        assert layer_of(text).SerializeToString() == layer.SerializeToString()
    official = text_format.Parse(net.text(), pb.NetParameter())
    assert official.layer[0].SerializeToString() == layer.SerializeToString()


@given(st.floats(width=32))
def test_floats_print_short_and_exact(value: float) -> None:
    field = pb.ReLUParameter.DESCRIPTOR.fields_by_name["negative_slope"]
    text = format_scalar(value, field)
    back = layer_of(f"layer {{ relu_param {{ negative_slope: {text} }} }}").relu_param
    assert np.float32(back.negative_slope).tobytes() == np.float32(value).tobytes() or (
        math.isnan(value) and math.isnan(back.negative_slope)
    )
    assert len(text) <= len(repr(value))


def test_numbers_print_as_people_write_them() -> None:
    field = pb.ReLUParameter.DESCRIPTOR.fields_by_name["negative_slope"]
    printed = [format_scalar(value, field) for value in (0.1, 1.0, 1e-05, 104.00699, -math.inf)]
    assert printed == ["0.1", "1", "1e-05", "104.00699", "-inf"]


# --- real files -------------------------------------------------------------------------------


@pytest.fixture
def real_files(data_dir: Path) -> list[Path]:
    return [path for path in sorted((data_dir / "prototxts").rglob("*")) if path.is_file()]


def test_all_real_files_survive_byte_for_byte(real_files: list[Path]) -> None:
    """Solvers, old generations and forks included: the tree knows no schema."""
    assert len(real_files) >= 248
    for path in real_files:
        document = prototxt.read(path)
        assert document.text.encode("utf-8", "surrogateescape") == path.read_bytes(), path


def test_all_real_nets_are_written_as_they_were(real_files: list[Path]) -> None:
    nets = 0
    for path in real_files:
        try:
            net = Net.read(path)
        except FormatError as error:
            # a solver, a template with placeholders for numbers, MSRA's own dialect of V0
            strange = ("template", "Zeiler_conv5", "pascal_finetune_fc_spm_t")
            assert "not a net" in str(error) or any(s in path.name for s in strange), error
            continue
        nets += 1
        assert net.text().encode("utf-8", "surrogateescape") == path.read_bytes(), path
    assert nets > 170


def test_a_fork_is_named_with_its_field():
    text = 'layer { name: "c" type: "Convolution"\n  convolution_param { filterwise_ratio: 1 } }'
    (unknown,) = Net.parse(text).layers[0].unknown
    message = str(unknown.error())
    assert "2:23" in message and '"filterwise_ratio"' in message
    assert "it is a field of yihui-he/caffe-pro" in message
    (unknown,) = Net.parse('layer { name: "c" type: "ReLU" relu_parm { } }').layers[0].unknown
    assert "did you mean relu_param?" in str(unknown.error())
