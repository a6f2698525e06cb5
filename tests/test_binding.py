"""Weights meet layers by Caffe's rules, and what does not meet is said."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.layers.binding import attach, bind, count_nonfinite
from caffe_scnn.layers.reference import run
from caffe_scnn.loading import load, load_weights, open_net
from caffe_scnn.model.blob import StoredBlob
from caffe_scnn.model.caffemodel import (
    StoredLayer,
    StoredNet,
    read_caffemodel,
    write_caffemodel,
)
from caffe_scnn.model.net import Net
from caffe_scnn.model.upgrade import upgrade
from caffe_scnn.proto import caffe_pb2 as pb

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "f" type: "InnerProduct" bottom: "data" top: "f"
  inner_product_param { num_output: 3 } }
layer { name: "g" type: "InnerProduct" bottom: "data" top: "g"
  inner_product_param { num_output: 3 } }
"""
SHARED = NET.replace(
    "inner_product_param", 'param { name: "w" } param { name: "b" } inner_product_param'
)


def values(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def stored(*layers: tuple[str, list[NDArray[np.float32]]], legacy: bool = False) -> StoredNet:
    made = [
        StoredLayer(name, "T", [StoredBlob(blob.shape, legacy, blob) for blob in blobs])
        for name, blobs in layers
    ]
    return StoredNet("weights.caffemodel", "n", made, "V2")


def fc(seed: int = 0) -> list[NDArray[np.float32]]:
    return [values(3, 4, seed=seed), values(3, seed=seed)]


# --- the rules --------------------------------------------------------------------------------


def test_layers_meet_by_name_whatever_their_type() -> None:
    net = Net.parse(NET)
    weights = {"f": fc(0), "g": fc(1)}
    binding = bind(net, stored(("g", weights["g"]), ("f", weights["f"]), ("z", fc(2))))
    for name, blobs in weights.items():
        for blob, array in zip(net.layer(name).blobs, blobs, strict=True):
            np.testing.assert_array_equal(blob, array)
            assert np.shares_memory(blob, array)
    assert binding.counts() == {"loaded": 4, "missing": 0, "ignored": 2, "mismatched": 0}
    assert [(r.layer, r.blob, r.wanted, r.found) for r in binding.with_status("ignored")] == [
        ("z", 0, None, (3, 4)),
        ("z", 1, None, (3,)),
    ]


def test_old_shapes_are_padded_on_the_left_and_taken_as_the_layers_own() -> None:
    net = Net.parse(NET)
    old = [values(1, 1, 3, 4), values(1, 1, 1, 3)]
    bind(net, stored(("f", old), ("g", old), legacy=True))
    assert [blob.shape for blob in net.layer("f").blobs] == [(3, 4), (3,)]
    with pytest.raises(ModelError, match=r"the net has \(3, 4\), the file has \(1, 1, 3, 4\)"):
        bind(net, stored(("f", old), ("g", old)))


@pytest.mark.parametrize("shape", [(3, 4, 1, 1), (3, 1, 1, 4), (1, 1, 4, 3), (1, 3, 4)])
def test_old_shapes_are_not_padded_elsewhere(shape: tuple[int, ...]) -> None:
    net = Net.parse(NET)
    old = [values(*shape), values(1, 1, 1, 3)]
    with pytest.raises(ModelError, match="the net has"):
        bind(net, stored(("f", old), ("g", old), legacy=True))


def test_the_last_layer_of_a_name_in_the_file_wins() -> None:
    net = Net.parse(NET)
    bind(net, stored(("f", fc(1)), ("g", fc(2)), ("f", fc(3))))
    np.testing.assert_array_equal(net.layer("f").blobs[0], fc(3)[0])


def test_the_first_layer_of_a_name_in_the_net_is_filled() -> None:
    net = Net.parse(NET.replace('"g" type', '"f" type'))
    with pytest.warns(UserWarning, match=r'layer "f", blob 0: the net has \(3, 4\)'):
        bind(net, stored(("f", fc(1))), allow_missing=True)
    np.testing.assert_array_equal(net.layers[1].blobs[0], fc(1)[0])
    assert not net.layers[2].blobs[0].any()


def test_sharers_hold_one_array_and_the_last_one_loaded_wins() -> None:
    net = Net.parse(SHARED)
    bind(net, stored(("g", fc(1)), ("f", fc(2))))
    first, second = net.layer("f").blobs, net.layer("g").blobs
    assert first[0] is second[0]
    assert first[1] is second[1]
    np.testing.assert_array_equal(first[0], fc(2)[0])
    assert net.layer("f").blobs[0] is not Net.parse(SHARED).layer("f").blobs


def test_one_sharer_in_the_file_is_enough() -> None:
    net = Net.parse(SHARED)
    binding = bind(net, stored(("g", fc(1))))
    np.testing.assert_array_equal(net.layer("f").blobs[0], fc(1)[0])
    assert binding.counts()["missing"] == 0


def test_permissive_sharers_share_memory_in_their_own_shapes() -> None:
    text = SHARED.replace("num_output: 3 } }\n", "num_output: 4 } }\n", 1).replace(
        'name: "w" }', 'name: "w" share_mode: PERMISSIVE }'
    )
    text = text.replace('param { name: "b" }', "").replace("num_output: 3", "num_output: 2")
    text = text.replace("num_output", "bias_term: false num_output")
    text = text.replace('bottom: "data" top: "g"', 'bottom: "wide" top: "g"').replace(
        'layer { name: "g"',
        'layer { name: "wide" type: "Concat" bottom: "data" bottom: "data" top: "wide" }\n'
        'layer { name: "g"',
    )
    net = Net.parse(text)
    binding = bind(net, stored(("f", [values(4, 4)])))
    assert [blob.shape for name in "fg" for blob in net.layer(name).blobs] == [(4, 4), (2, 8)]
    assert np.shares_memory(net.layer("f").blobs[0], net.layer("g").blobs[0])
    assert binding.counts()["loaded"] == 1


# --- what does not meet -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "phrase"),
    [
        ([("f", fc())], r'layer "g", blob 0: the net has \(3, 4\), the file has none; layer "g"'),
        ([("f", fc()), ("g", [])], r'layer "g", blob 1: the net has \(3\), the file has none'),
        ([("f", fc()), ("g", fc()[:1])], "but another number of blobs"),
        ([("f", fc()), ("g", [*fc(), values(1)])], r"the file has \(1\), the net has none"),
        ([("f", fc()), ("g", [values(4, 3), values(3)])], "as many values, but weights are never"),
        ([("f", fc()), ("g", [values(3, 5), values(3)])], r"the file has \(3, 5\); is this the"),
        ([("f", fc()), ("data", [values(1)]), ("g", fc())], r'"data", blob 0: the file has \(1\)'),
    ],
)
def test_what_does_not_fit_is_refused_with_both_shapes(
    layers: list[tuple[str, list[NDArray[np.float32]]]], phrase: str
) -> None:
    with pytest.raises(ModelError, match=phrase) as caught:
        bind(Net.parse(NET), stored(*layers))
    assert str(caught.value).startswith("weights.caffemodel: the weights do not fit the net")
    assert str(caught.value).endswith("is this the right caffemodel?")


def test_missing_weights_may_be_allowed_and_are_constants() -> None:
    net = Net.parse(NET.replace("num_output: 3 } }", "num_output: 3 bias_filler { value: 2 } } }"))
    with pytest.warns(UserWarning, match="constant fillers"):
        binding = bind(net, stored(("f", [values(4, 3), values(3)])), allow_missing=True)
    assert binding.counts() == {"loaded": 1, "missing": 2, "ignored": 0, "mismatched": 1}
    assert [blob.shape for layer in net for blob in layer.blobs] == [(3, 4), (3,)] * 2
    assert net.layer("g").blobs[1].tolist() == [2, 2, 2]
    assert not net.layer("f").blobs[0].any()


def test_without_a_file_everything_is_constant_and_nobody_complains() -> None:
    net = Net.parse(NET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bind(net, None).rows == []
    assert [blob.shape for layer in net for blob in layer.blobs] == [(3, 4), (3,)] * 2


def test_blobs_beyond_what_caffe_can_count_are_refused() -> None:
    net = Net.parse(NET.replace("num_output: 3", "num_output: 2147483647"))
    with pytest.raises(ModelError, match=r'"f" .*blob 0 of shape \(2147483647, 4\)'):
        bind(net, None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    blobs = fc()
    blobs[0][1, 1:3] = value
    with pytest.raises(ModelError, match='layer "g", blob 0: 2 of 12 values'):
        bind(Net.parse(NET), stored(("f", fc()), ("g", blobs)))
    bind(Net.parse(NET), stored(("f", fc()), ("g", blobs)), allow_nonfinite=True)


def test_large_numbers_are_numbers() -> None:
    huge = np.full(10, 3e38, np.float32)
    with np.errstate(over="ignore"):
        assert not np.isfinite(huge.sum())
    assert count_nonfinite(huge) == 0
    assert count_nonfinite(np.array([np.inf, -np.inf, 0], np.float32)) == 2


# --- steps that do not look at layer types ----------------------------------------------------


def test_attached_blobs_need_no_known_layer_type() -> None:
    net = Net.parse('layer { name: "a" type: "Strange" } layer { name: "f" type: "InnerProduct" }')
    odd = values(2, 3)
    old = StoredLayer("f", "InnerProduct", [])
    old.blobs = [StoredBlob(b.shape, True, b) for b in (values(1, 1, 3, 4), values(1, 1, 1, 3))]
    file = stored(("a", [odd]), ("z", [odd]))
    file.layers.append(old)
    binding = attach(net, file)
    assert net.layer("a").blobs[0] is odd
    assert [blob.shape for blob in net.layer("f").blobs] == [(3, 4), (3,)]
    assert binding.counts() == {"loaded": 3, "missing": 0, "ignored": 1, "mismatched": 0}


# --- files ------------------------------------------------------------------------------------

RUNNABLE = [
    "blob_chunks", "blob_double", "blob_legacy4d", "blob_unpacked", "bn_params", "bn_params_names",
    "input_dim", "input_shape", "input_two", "model_duplicate_layer", "model_extra_layers",
    "model_only_names", "text_odd", "text_enum_number", "text_interleaved", "v0_lenet",
    "v0_padding", "v0_proto_v2_model", "v1_lenet", "v1_proto_v2_model", "v1_shared",
    "v2_proto_v1_model",
]  # fmt: skip


def assert_golden(net: Net, path: Path) -> None:
    with np.load(path.with_suffix(".npz")) as golden:
        inputs = {k[3:]: golden[k] for k in golden.files if k.startswith("in/")}
        wanted = {k[4:]: golden[k] for k in golden.files if k.startswith("out/")}
    for name, got in run(net, inputs, list(wanted)).items():
        assert got.shape == wanted[name].shape
        assert np.abs(got - wanted[name]).max() <= 2e-5 * np.abs(wanted[name]).max()


@pytest.mark.parametrize("case", RUNNABLE)
def test_every_form_of_file_gives_the_numbers_of_caffe(
    golden_dir: Path, tmp_path: Path, case: str
) -> None:
    path = golden_dir / "legacy" / f"{case}.prototxt"
    net = load(path, path.with_suffix(".caffemodel"))
    assert_golden(net, path)
    net.write(tmp_path / "a.prototxt")
    write_caffemodel(net, tmp_path / "a.caffemodel")
    again = load(tmp_path / "a.prototxt", tmp_path / "a.caffemodel")
    for layer, other in zip(net, again, strict=True):
        assert layer.proto == other.proto
        for blob, read in zip(layer.blobs, other.blobs, strict=True):
            assert blob.tobytes() == read.tobytes()


@pytest.mark.parametrize("case", RUNNABLE)
def test_attached_weights_of_old_files_are_what_caffe_reads(
    golden_dir: Path, tmp_path: Path, case: str
) -> None:
    path = golden_dir / "legacy" / f"{case}.prototxt"
    net = upgrade(Net.read(path))
    attach(net, read_caffemodel(path.with_suffix(".caffemodel")))
    net.write(tmp_path / "a.prototxt")
    write_caffemodel(net, tmp_path / "a.caffemodel")
    official = pb.NetParameter.FromString((tmp_path / "a.caffemodel").read_bytes())
    assert not any(blob.HasField("num") for layer in official.layer for blob in layer.blobs)
    again = load(tmp_path / "a.prototxt", tmp_path / "a.caffemodel")
    for layer, other in zip(load(path, path.with_suffix(".caffemodel")), again, strict=True):
        for blob, read in zip(layer.blobs, other.blobs, strict=True):
            assert blob.shape == read.shape
            assert blob.tobytes() == read.tobytes()


def test_partial_weights_keep_constant_fillers(golden_dir: Path) -> None:
    path = golden_dir / "legacy" / "model_partial.prototxt"
    with pytest.raises(ModelError, match="is this the right caffemodel"):
        load(path, path.with_suffix(".caffemodel"))
    with pytest.warns(UserWarning, match="constant fillers"):
        net = load(path, path.with_suffix(".caffemodel"), allow_missing=True)
    assert_golden(net, path)


def test_shared_arrays_stay_shared_through_a_file(golden_dir: Path, tmp_path: Path) -> None:
    path = golden_dir / "nets" / "shared_params.prototxt"
    net = load(path, path.with_suffix(".caffemodel"))
    arrays = [blob for layer in net for blob in layer.blobs]
    assert len({id(array) for array in arrays}) < len(arrays)
    write_caffemodel(net, tmp_path / "a.caffemodel")
    again = load(path, tmp_path / "a.caffemodel")
    assert_golden(again, path)


def test_the_table_is_there_for_who_wants_to_show_it(golden_dir: Path) -> None:
    path = golden_dir / "legacy" / "model_extra_layers.prototxt"
    binding = load_weights(open_net(path), path.with_suffix(".caffemodel"))
    counts = binding.counts()
    assert counts["loaded"] > 0 < counts["ignored"]
    stored_layers = read_caffemodel(path.with_suffix(".caffemodel")).layers
    assert len(binding.rows) == sum(len(layer.blobs) for layer in stored_layers)


def test_misspelt_fields_of_the_net_are_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NET + 'layr { name: "h" }\n')
    with pytest.raises(FormatError, match=r'7:1: net has no field "layr"; did you mean layer\?'):
        load(path)


def test_layers_of_other_states_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    fork = (
        'layer { name: "h" type: "ReLU" fork_param { } '
        'include { stage: "odd" min_level: 3 phase: TRAIN } }\n'
    )
    path.write_text(NET + fork)
    assert len(load(path).layers) == 3
    with pytest.raises(FormatError, match="fork_param"):
        load(path, phase="TRAIN", level=3, stages=["odd"])


def test_inputs_may_have_other_shapes_than_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    net = load(path, inputs={"data": (7, 5)})
    assert net.layer("f").blobs[0].shape == (3, 5)


# What real Caffe refuses while it parses text or loads weights, and what we say.
REFUSED = {
    "float_for_int": "21:18: kernel_size: 2.5 is not an integer",
    "list_for_single": '"kernel_size" takes one value, not a list',
    "message_twice": '"convolution_param" is given twice in one layer',
    "missing_colon": '14:14: "name" needs a ":"',
    "scalar_twice": '19:3: "name" is given twice in one layer',
    "unclosed_brace": '14:7: the "{" of "layer" is never closed',
    "unknown_enum": "MEDIAN is not a value of PoolMethod",
    "unknown_field": '21:5: convolution_param has no field "kernal_size"; did you mean kernel_size',
    "layer_and_layers": 'both "layer" (line 1) and the old "layers" (line 14)',
    "include_exclude": "has both include and exclude rules",
    "empty_prototxt": "has no layers",
    "v0_unknown_type": 'there is no V0 layer type "lstm"',
    "model_bias_2d": 'layer "c", blob 1: the net has (3), the file has (1, 3)',
    "model_blob_count": 'layer "c", blob 1: the net has (3), the file has none',
    "model_count": "the shape (3) = 3 values, but 2 are stored",
    "model_garbage": "damaged, cut off or no protobuf file",
    "model_layer_and_layers": 'has both "layer" and the old "layers"',
    "model_legacy_and_shape": "the old form counts",
    "model_no_blobs": 'layer "c", blob 0: the net has (3, 4, 3, 3), the file has none',
    "model_shape": "the net has (5, 48), the file has (6, 40)",
    "model_shape_only": "= 108 values, but 0 are stored",
    "model_text": "looks like text",
    "model_transposed": "the file has (48, 5) (as many values, but weights are never reshaped)",
    "model_truncated": "a field claims 1007 bytes, but 263 are left",
    "model_v1_type_shape": "the net has (3, 4, 3, 3), the file has (3, 4, 9, 1)",
    "model_wrong_wire": "but 0 are stored",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_caffe_refuses_is_refused_with_its_cause(golden_dir: Path, case: str) -> None:
    path = golden_dir / "errors" / f"{case}.prototxt"
    model = path.with_suffix(".caffemodel")
    with pytest.raises((FormatError, ModelError)) as caught:
        load(path, model if model.exists() else None)
    assert REFUSED[case] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_parse_and_load_case_has_its_phrase(golden_dir: Path) -> None:
    stages = ("stage: parse", "stage: load")
    cases = [p.stem for p in (golden_dir / "errors").glob("*.txt")
             if p.read_text().startswith(stages)]  # fmt: skip
    assert set(cases) <= set(REFUSED)
