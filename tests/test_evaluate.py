"""Comparison, accuracy, arrays, lists and timing, each with an example that must fail."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cli_support import BRIGHTEST, TINY

from caffe_scnn.engine import Executor
from caffe_scnn.engine.timing import Timing, alternate
from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.evaluate.arrays import (
    input_shapes,
    pick_inputs,
    random_inputs,
    read_arrays,
    write_arrays,
)
from caffe_scnn.evaluate.benchmark import Comparison, benchmark, fill_randomly
from caffe_scnn.evaluate.classify import (
    Classifier,
    batches,
    evaluate,
    only_input,
    predict,
    top_classes,
)
from caffe_scnn.evaluate.compare import compare_nets, compare_with_golden, difference
from caffe_scnn.evaluate.golden import Golden
from caffe_scnn.evaluate.labels import read_class_names, read_labelled_arrays, read_list
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net

NO_CELLS = -np.finfo(np.float32).max


def opened(text: str, seed: int = 0) -> Net:
    net = Net.parse(text)
    bind(net, None)
    fill_randomly(net, seed)
    return net


# --- the measure of difference --------------------------------------------------------------------


def test_difference_and_magnitude_are_largest_absolute_values() -> None:
    assert difference(np.array([1.0, -4.0]), np.array([1.5, -4.0])) == (0.5, 4.0)
    assert difference(np.zeros((0,)), np.zeros((0,))) == (0.0, 0.0)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, NO_CELLS])
def test_special_values_are_left_out_where_both_have_them(special: float) -> None:
    both = np.float32([1, special])
    assert difference(both + np.float32([0.25, 0]), both) == (0.25, 1.0)


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        ([np.nan, 1.0], [1.0, 1.0]),
        ([1.0, 1.0], [1.0, np.nan]),
        ([np.inf, 1.0], [-np.inf, 1.0]),
        ([np.nan, 1.0], [np.inf, 1.0]),
        ([NO_CELLS, 1.0], [0.0, 1.0]),
        ([1.0], [1.0, 1.0]),
        ([[1.0, 1.0]], [1.0, 1.0]),
    ],
)
def test_special_values_elsewhere_and_other_shapes_differ_infinitely(
    got: list[float], wanted: list[float]
) -> None:
    assert difference(np.float32(got), np.float32(wanted))[0] == np.inf


# --- comparison of nets ---------------------------------------------------------------------------


def test_a_net_agrees_with_itself_exactly() -> None:
    net = opened(TINY)
    comparison = compare_nets(net, opened(TINY), random_inputs(input_shapes(net), 1), tolerance=0)
    assert comparison.passed
    assert [blob.blob for blob in comparison.blobs] == ["conv1", "conv2", "fc", "prob"]
    assert comparison.blobs[0].layer == "relu1"  # it writes conv1 last


def test_blobs_are_compared_in_the_order_of_their_last_values() -> None:
    text = BRIGHTEST + (
        'layer { name: "other" type: "ReLU" bottom: "data" top: "other" }\n'
        'layer { name: "last" type: "ReLU" bottom: "mean" top: "mean" }\n'
    )
    net = opened(text)
    comparison = compare_nets(net, opened(text), random_inputs(input_shapes(net), 1))
    assert [(blob.blob, blob.layer) for blob in comparison.blobs] == [
        ("other", "other"),
        ("mean", "last"),
    ]


def test_the_first_divergence_is_named_and_measured() -> None:
    net, other = opened(TINY), opened(TINY)
    net.layer("conv2").blobs[1][2] += 1e-2
    comparison = compare_nets(net, other, random_inputs(input_shapes(net), 1))
    first = comparison.first_divergence
    assert not comparison.passed
    assert first is not None
    assert (first.blob, first.layer) == ("conv2", "conv2")
    assert first.difference == pytest.approx(1e-2, rel=1e-3)
    assert first.relative == pytest.approx(first.difference / first.magnitude)
    assert comparison.blobs[0].agrees


def test_a_blob_of_zeros_must_be_matched_exactly() -> None:
    net, zero = opened(TINY), opened(TINY)
    for blob in zero.layer("fc").blobs:
        blob[...] = 0
    comparison = compare_nets(net, zero, random_inputs(input_shapes(net), 1), tolerance=1e9)
    assert comparison.first_divergence is not None
    assert comparison.first_divergence.blob == "fc"
    assert comparison.first_divergence.relative == np.inf


def test_nets_without_a_common_blob_cannot_be_compared() -> None:
    net, other = opened(TINY), opened(BRIGHTEST)
    with pytest.raises(ModelError, match="no blob of the same name"):
        compare_nets(net, other, random_inputs(input_shapes(net), 1))


@pytest.mark.parametrize("case", ["lenet", "googlenet", "scnn", "resnet"])
def test_goldens_agree_and_a_wrong_one_does_not(golden_dir: Path, case: str) -> None:
    from caffe_scnn.loading import load

    path = golden_dir / "nets" / f"{case}.prototxt"
    net = load(path, path.with_suffix(".caffemodel"))
    golden = Golden.read(path.with_suffix(".npz"))
    assert compare_with_golden(net, golden).passed
    name = next(name for name in golden.arrays if name.startswith("out/"))
    golden.arrays[name] = golden.arrays[name] * np.float32(1 + 1e-4)
    comparison = compare_with_golden(net, golden)
    assert comparison.first_divergence is not None
    assert comparison.first_divergence.blob == name.removeprefix("out/")


def test_a_golden_may_hold_pixels_a_second_run_and_first_items(tmp_path: Path) -> None:
    net = opened(BRIGHTEST)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    x = (pixels - np.float32([[[1]], [[2]], [[3]]])) * np.float32(0.5)
    arrays = {
        "u8/data": pixels,
        "mean/data": np.float32([1, 2, 3]),
        "scale/data": np.float32(0.5),
        "out/mean": x.mean((2, 3), keepdims=True),
        "first/data": x[:1],
    }
    write_arrays(tmp_path / "g.npz", arrays)
    comparison = compare_with_golden(net, Golden.read(tmp_path / "g.npz"))
    assert comparison.passed
    assert [blob.shape for blob in comparison.blobs] == [(1, 3, 4, 4), (2, 3, 1, 1)]
    twice = {
        "in/data": x,
        "out/mean": arrays["out/mean"],
        "in.2/data": x + 1,
        "out.2/mean": arrays["out/mean"],
    }
    write_arrays(tmp_path / "g.npz", twice)
    comparison = compare_with_golden(net, Golden.read(tmp_path / "g.npz"))
    assert [blob.agrees for blob in comparison.blobs] == [True, False]


def test_a_golden_s_options_come_from_the_json_beside_it(tmp_path: Path) -> None:
    write_arrays(tmp_path / "g.npz", {"out/x": np.zeros(1)})
    assert Golden.read(tmp_path / "g.npz").phase is None
    (tmp_path / "g.json").write_text('{"phase": "TRAIN", "level": 2, "stages": ["a"]}')
    golden = Golden.read(tmp_path / "g.npz")
    assert (golden.phase, golden.level, golden.stages) == ("TRAIN", 2, ("a",))
    (tmp_path / "g.json").write_text("[")
    with pytest.raises(FormatError, match=r"g\.json"):
        Golden.read(tmp_path / "g.npz")


def test_an_npz_without_results_is_no_golden(tmp_path: Path) -> None:
    write_arrays(tmp_path / "g.npz", {"in/x": np.zeros(1)})
    with pytest.raises(FormatError, match="out/<blob>"):
        Golden.read(tmp_path / "g.npz")


def test_a_golden_for_another_net_is_refused(tmp_path: Path) -> None:
    x = np.zeros((1, 3, 4, 4))
    write_arrays(tmp_path / "g.npz", {"in/data": x, "out/nothing": x})
    with pytest.raises(ModelError, match="nothing"):
        compare_with_golden(opened(BRIGHTEST), Golden.read(tmp_path / "g.npz"))


# --- arrays ---------------------------------------------------------------------------------------


def test_arrays_survive_their_file_whatever_their_names(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3.0), "fire2/conv": np.ones((1, 2), np.float32)}
    write_arrays(tmp_path / "a.npz", arrays)
    again = read_arrays(tmp_path / "a.npz")
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"name: 'net'", b"\x93NUMPY\x01"])
def test_a_file_without_arrays_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.npz"):
        read_arrays(tmp_path / "x.npz")


def test_python_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", data=np.array([{}], dtype=object))
    with pytest.raises(FormatError, match=r"x\.npz"):
        read_arrays(tmp_path / "x.npz")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", data=np.arange(1000.0))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[2000] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.npz"):
        read_arrays(tmp_path / "x.npz")
    assert zipfile.is_zipfile(tmp_path / "x.npz")


def test_inputs_are_found_by_name_by_prefix_or_alone() -> None:
    x = np.ones((2, 3), np.float64)
    wanted = {"data": (1, 3)}
    for arrays in ({"data": x}, {"in/data": x, "out/data": x + 1}, {"": x}):
        got = pick_inputs(arrays, wanted, "x.npz")
        np.testing.assert_array_equal(got["data"], x)
        assert got["data"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "phrase"),
    [
        ({"dada": np.ones((1, 3))}, 'no array for the input "data".*holds dada'),
        ({"data": np.ones(3)}, "batch axis is missing"),
        ({"data": np.array(["a"])}, "not numbers"),
        ({"data": np.ones((0, 3))}, "no values"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arrays: dict[str, np.ndarray], phrase: str) -> None:
    with pytest.raises(ModelError, match=phrase):
        pick_inputs(arrays, {"data": (1, 3)}, "x.npz")


def test_random_inputs_depend_on_the_seed_only() -> None:
    wanted = {"a": (1, 3, 2, 2), "b": (4,)}
    first, again, other = (random_inputs(wanted, seed, batch=2) for seed in (1, 1, 2))
    assert first["a"].shape == (2, 3, 2, 2)
    for name in wanted:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
    with pytest.raises(ModelError, match='"a"'):
        random_inputs({"a": None}, 0)


def test_shapes_of_inputs_are_read_from_the_prototxt() -> None:
    text = 'layer { name: "i" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 } } }'
    assert input_shapes(Net.parse(text)) == {"a": (2,), "b": (2,)}
    assert input_shapes(Net.parse('layer { name: "i" type: "Input" top: "a" }')) == {"a": None}


# --- classes --------------------------------------------------------------------------------------


def test_of_equal_scores_the_lower_class_comes_first() -> None:
    scores = np.float32([[1, 3, 3, 2], [5, 5, 5, 5]])
    np.testing.assert_array_equal(top_classes(scores, 3), [[1, 2, 3], [0, 1, 2]])
    many = np.tile(np.float32([1, 2]), (1, 500))
    np.testing.assert_array_equal(top_classes(many, 4), [[1, 3, 5, 7]])


def brightest() -> Classifier:
    return Classifier(Executor(opened(BRIGHTEST), threads=1))


def images(*channels: int) -> np.ndarray:
    x = np.zeros((len(channels), 3, 4, 4), np.float32)
    for i, channel in enumerate(channels):
        x[i, channel] = 1 + i
    return x


def test_accuracy_is_counted_in_percent_over_all_batches() -> None:
    x, labels = images(0, 1, 2, 1, 0), np.array([0, 1, 2, 0, 1])
    seen: list[int] = []
    accuracy = evaluate(brightest(), batches(x, 2), labels, seen.append)
    assert (accuracy.top1, accuracy.top5, accuracy.images) == (60.0, 100.0, 5)
    assert seen == [2, 2, 1]
    assert accuracy.seconds >= accuracy.net_seconds > 0


def test_top_5_takes_the_best_five_of_more_classes() -> None:
    text = BRIGHTEST.replace("dim: 3", "dim: 8")
    classifier = Classifier(Executor(opened(text), threads=1))
    x = np.zeros((8, 8, 4, 4), np.float32)
    x += np.arange(8, 0, -1, dtype=np.float32)[:, None, None]  # class 0 is best, class 7 worst
    accuracy = evaluate(classifier, batches(x, 3), np.arange(8))
    assert (accuracy.top1, accuracy.top5) == (12.5, 62.5)


@pytest.mark.parametrize(
    ("labels", "phrase"),
    [
        ([], "no images"),
        ([0, 3], r"image 2 of 2 has the label 3.*3 classes \(0 … 2\)"),
        ([0], "more images than the 1 labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: list[int], phrase: str) -> None:
    with pytest.raises(ModelError, match=phrase):
        evaluate(brightest(), batches(images(0, 1), 1), np.array(labels, np.int64))


def test_nan_is_no_class() -> None:
    with pytest.raises(ModelError, match="NaN"):
        brightest().scores(np.full((1, 3, 4, 4), np.nan, np.float32))


def test_names_go_with_the_classes() -> None:
    ranked = predict(brightest(), images(2), 2, ["blue", "green", "red"])[0]
    assert [(p.index, p.label) for p in ranked] == [(2, "red"), (0, "blue")]
    assert predict(brightest(), images(2), 1)[0][0].label is None
    with pytest.raises(ModelError, match=r"2 class names.*3 classes"):
        predict(brightest(), images(2), 1, ["a", "b"])


def test_a_net_of_several_inputs_or_outputs_is_refused() -> None:
    with pytest.raises(ModelError, match="this one has 2: a, b"):
        only_input(("a", "b"))
    two = TINY + 'layer { name: "p" type: "Softmax" bottom: "fc" top: "p" }'
    with pytest.raises(ModelError, match="--blob"):
        Classifier(Executor(opened(two)))
    with pytest.raises(ModelError, match='"conv1" has the shape'):
        Classifier(Executor(opened(two)), "conv1").scores(np.zeros((1, 3, 8, 8), np.float32))


# --- lists ----------------------------------------------------------------------------------------


def test_a_list_is_split_at_the_last_blank(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("a b.jpg 3\n\n  c.png   0 \n")
    pictures = read_list(tmp_path / "val.txt", Path("images"))
    assert [(p.path.as_posix(), p.label, p.line) for p in pictures] == [
        ("images/a b.jpg", 3, 1),
        ("images/c.png", 0, 3),
    ]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("a.jpg 0\nb.jpg\n", r"val\.txt:2"),
        ("a.jpg -1", r"val\.txt:1"),
        ("a.jpg cat", r"val\.txt:1"),
        ("7", r"val\.txt:1"),
    ],
)
def test_a_bad_list_is_refused_at_its_line(tmp_path: Path, text: str, phrase: str) -> None:
    (tmp_path / "val.txt").write_text(text)
    with pytest.raises(FormatError, match=phrase):
        read_list(tmp_path / "val.txt", tmp_path)


def test_a_binary_file_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match=r"val\.txt"):
        read_list(tmp_path / "val.txt", tmp_path)


def test_class_names_are_lines(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("n01 tench, Tinca\nn02 goldfish\n\n")
    assert read_class_names(tmp_path / "w.txt") == ["n01 tench, Tinca", "n02 goldfish"]
    (tmp_path / "w.txt").write_text("\n")
    with pytest.raises(FormatError, match="empty"):
        read_class_names(tmp_path / "w.txt")


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((2, 3))},
        {"x": np.zeros((2, 3)), "y": np.zeros(3, int)},
        {"x": np.zeros((2, 3)), "y": np.zeros(2)},
        {"x": np.zeros((0, 3)), "y": np.zeros(0, int)},
        {"x": np.array(["a"]), "y": np.zeros(1, int)},
    ],
)
def test_arrays_that_are_no_labelled_images_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(FormatError, match=r"d\.npz"):
        read_labelled_arrays(tmp_path / "d.npz")


# --- times ----------------------------------------------------------------------------------------


def test_candidates_take_turns_after_warming_up() -> None:
    order: list[str] = []
    timings = alternate(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeat=3, warmup=2
    )
    assert "".join(order) == "ab" * 5
    assert {len(timing.times_ms) for timing in timings.values()} == {3}


def test_times_are_milliseconds() -> None:
    timing = alternate({"a": lambda: time.sleep(0.01)}, repeat=2, warmup=0)["a"]
    assert 10 <= timing.min_ms < 1000
    assert Timing((3.0, 1.0, 8.0)).median_ms == 3.0
    assert Timing((3.0, 1.0, 8.0)).min_ms == 1.0


def test_a_benchmark_covers_all_layers_and_compares_whole_passes() -> None:
    net, against = opened(TINY), opened(TINY)
    inputs = random_inputs(input_shapes(net), 0)
    measured = benchmark(net, inputs, against, threads=1, repeat=2)
    layers = [name for layer in measured.layers for name in layer.name.split("+")]
    assert {"conv1", "conv2", "fc", "prob"} <= set(layers)
    assert measured.macs == 6 * 6 * 4 * 27 + 4 * 4 * 6 * 36 + 5 * 96
    assert measured.against is not None
    assert measured.ratio == measured.against.median_ms / measured.total.median_ms
    assert measured.gflops == pytest.approx(2e-6 * measured.macs / measured.total.median_ms)
    assert benchmark(net, inputs, threads=1, repeat=1).ratio is None


def test_random_weights_are_dense_finite_and_shared_where_the_net_shares(golden_dir: Path) -> None:
    net = Net.read(golden_dir / "nets" / "shared_params.prototxt")
    bind(net, None)
    fill_randomly(net, 3)
    blobs = [blob for layer in net for blob in layer.blobs]
    assert all((blob > 0).all() for blob in blobs)
    assert len({id(blob) for blob in blobs}) < len(blobs)
    results = Executor(net).run(random_inputs(input_shapes(net), 0))
    assert all(np.isfinite(values).all() for values in results.values())


def test_times_of_a_layer_are_those_of_the_same_layers_in_both_nets() -> None:
    """One net may compute in one step what the other computes in two."""
    timing = Timing((1.0,))
    before = {("a", "relu"): 6.0, ("d",): 1.0, ("e",): 2.0}
    after = {("a", "relu", "d"): 3.0, ("e/P",): 0.5, ("e/S",): 1.0}
    both = Comparison(timing, timing, before, after, 1)
    back = Comparison(timing, timing, after, before, 1)
    assert both.of_layers("a", ["a"]) == both.of_layers("d", ["d"]) == (7.0, 3.0)
    assert back.of_layers("a", ["a"]) == back.of_layers("d", ["d"]) == (3.0, 7.0)
    assert both.of_layers("e", ["e/P", "e/S"]) == (2.0, 1.5)
