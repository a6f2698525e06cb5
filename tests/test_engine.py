"""The engine against its float64 twin and against real Caffe."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from caffe_scnn._kernels import Feed, FlushToZero, Planes, clear_halo
from caffe_scnn.engine import Executor, choose, pack, spmm
from caffe_scnn.engine import tile as tile_module
from caffe_scnn.engine.choose import choose_tile
from caffe_scnn.engine.tensor import ALIGNMENT, Border, Tensor
from caffe_scnn.engine.tile import Shape
from caffe_scnn.errors import KernelError, ModelError
from caffe_scnn.layers import reference
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net

GROUPS = ("layers", "nets", "legacy")
# Cases whose layer type does not exist here yet.
TOLERANCE = 2e-5  # of a blob's largest value; see tests/golden/README.md


def net_of(text, seed=0, density=1.0):
    """A net from the text of its layers, with random weights."""
    from caffe_scnn.layers import layer_type

    net = Net.parse(text)
    shapes = infer_shapes(net)
    rng = np.random.default_rng(seed)
    for layer in net.layers:
        for param in layer_type(layer).params(layer, shapes.bottoms[layer]):
            blob = rng.standard_normal(param.shape).astype(np.float32)
            if blob.ndim > 1:
                blob *= rng.random(blob.shape) < density
            if layer.type == "BatchNorm":
                blob = np.abs(blob) + np.float32(0.5)
            layer.blobs.append(blob)
    return net


def given(net, seed=1, batch=None):
    """Random inputs of the shapes in the prototxt."""
    rng = np.random.default_rng(seed)
    executor = Executor(net, threads=1)
    return {
        name: rng.standard_normal((batch or shape[0], *shape[1:])).astype(np.float32)
        for name, shape in executor.shapes.items()
    }


def difference(got, want):
    """Largest difference over the largest value, with special values at the same places."""
    assert got.shape == want.shape
    special = ~np.isfinite(want) | (np.abs(want) > 3e38)
    assert np.array_equal(got[special], want[special], equal_nan=True)
    if special.all():
        return 0.0
    largest = np.abs(want[~special]).max()
    error = np.abs(got[~special].astype(np.float64) - want[~special]).max()
    return error / largest if largest else error


def assert_like_reference(net, blobs=None, batch=None, **options):
    inputs = given(net, batch=batch)
    shapes = {name: array.shape for name, array in inputs.items()}
    got = Executor(net, shapes, **options).run(inputs, blobs)
    want = reference.run(net, inputs, list(got))
    for name in want:
        assert difference(got[name], want[name]) <= TOLERANCE, name
    return got


def test_the_comparison_sees_one_wrong_value():
    want = np.linspace(-1, 1, 100)
    wrong = want.copy()
    wrong[40] += 1e-4
    assert difference(want.copy(), want) == 0
    assert difference(wrong, want) > TOLERANCE
    with pytest.raises(AssertionError):
        difference(np.zeros(3), np.array([0, np.nan, 0]))


def golden_cases(folder):
    return sorted(
        path.with_suffix("") for group in GROUPS for path in (folder / group).glob("*.npz")
    )


def test_every_golden_case_of_real_caffe(golden_dir):
    """All our small nets that real Caffe ran: outputs, and every blob in between it noted."""
    cases = golden_cases(golden_dir)
    assert len(cases) == 132
    failed = []
    for case in cases:
        try:
            run_golden(case)
        except AssertionError as error:
            failed.append(f"{case.parent.name}/{case.name}: {error}")
    assert not failed, "\n".join(failed)


def run_golden(case):
    options = {}
    if case.with_suffix(".json").exists():
        options = json.loads(case.with_suffix(".json").read_text())
    weights = case.with_suffix(".caffemodel")
    partial = case.name == "model_partial"
    arrays = np.load(case.with_suffix(".npz"))
    inputs = {key[3:]: arrays[key] for key in arrays.files if key.startswith("in/")}
    wanted = {key[4:]: arrays[key] for key in arrays.files if key.startswith("out/")}
    arguments = {k: options[k] for k in ("phase", "level", "stages") if k in options}
    if partial:
        with pytest.warns(UserWarning, match="constant fillers"):
            net = load(case.with_suffix(".prototxt"), weights, allow_missing=True)
    else:
        net = load(
            case.with_suffix(".prototxt"), weights if weights.exists() else None, **arguments
        )
    shapes = {name: array.shape for name, array in inputs.items()}
    executor = Executor(net, shapes, threads=1)
    assert list(executor.outputs) == [str(name) for name in arrays["outputs"]]
    for again in ("", ".2"):  # a second forward on the same net, where there is one
        runs = {key: arrays[key] for key in arrays.files if key.split("/")[0] == f"in{again}"}
        if not runs and again:
            break
        fed = {key.split("/", 1)[1]: array for key, array in runs.items()}
        wanted = {
            key.split("/", 1)[1]: arrays[key]
            for key in arrays.files
            if key.split("/")[0] == f"out{again}"
        }
        got = executor.run(fed, list(wanted))
        for name, want in wanted.items():
            error = difference(got[name], want)
            assert error <= TOLERANCE, f'blob "{name}"{again} differs by {error:.1e}'


@pytest.mark.parametrize(
    "model", ["lenet_mnist", "cifar10_quick", "squeezenet", "mobilenet_v1_075"]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_real_models_agree_with_real_caffe(real_golden_dir, data_dir, model, threads):
    about = json.loads((real_golden_dir / f"{model}.json").read_text())
    prototxt = data_dir / about["prototxt"]
    if about.get("prototxt_relative_to", about["relative_to"]) != "shared/data":
        prototxt = real_golden_dir / about["prototxt"].split("/")[-1]
    arrays = np.load(real_golden_dir / f"{model}.npz")
    inputs = {}
    for key in arrays.files:
        if key.startswith("u8/"):
            blob = key[3:]
            mean = np.reshape(arrays[f"mean/{blob}"], (1, -1, 1, 1)).astype(np.float32)
            scale = np.float32(arrays[f"scale/{blob}"])
            inputs[blob] = (arrays[key].astype(np.float32) - mean) * scale
    net = load(prototxt, data_dir / about["caffemodel"])
    wanted = {key[4:]: arrays[key] for key in arrays.files if key.startswith("out/")}
    executor = Executor(net, {k: v.shape for k, v in inputs.items()}, threads=threads)
    got = executor.run(inputs, list(wanted))
    for name, want in wanted.items():
        assert difference(got[name], want) <= TOLERANCE
        scores, expected = (a.reshape(len(a), -1) for a in (got[name], want))
        assert np.array_equal(
            np.argsort(-scores, 1, kind="stable")[:, :5],
            np.argsort(-expected, 1, kind="stable")[:, :5],
        )
    first = {key[6:]: arrays[key] for key in arrays.files if key.startswith("first/")}
    got = executor.run({name: array[:1] for name, array in inputs.items()}, list(first))
    for name, want in first.items():
        assert difference(got[name].reshape(want.shape), want) <= TOLERANCE, name


INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { %s } } }\n'


def conv(name, bottom, top, param):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top}" '
        f"convolution_param {{ {param} }} }}\n"
    )


@pytest.mark.parametrize("density", [1.0, 0.3, 0.02])
@pytest.mark.parametrize(
    "param",
    [
        "num_output: 9 kernel_size: 3 pad: 1",
        "num_output: 8 kernel_size: 3 pad: 2 group: 2",
        "num_output: 7 kernel_size: 1 pad: 1",
        "num_output: 5 kernel_size: 5 stride: 2 pad: 2",
        "num_output: 4 kernel_size: 2 stride: 3",
        "num_output: 12 kernel_size: 3 group: 6 pad: 1",
        "num_output: 6 kernel_size: 3 group: 6 pad: 1 stride: 2",
        "num_output: 18 kernel_size: 5 group: 6 pad: 2 stride: 2",
        "num_output: 6 kernel_size: 3 group: 6 stride: 3 dilation: 2",
        "num_output: 6 kernel_size: 5 group: 6 pad: 2",
        "num_output: 6 kernel_size: 5 group: 6 pad: 4 stride: 2",
        "num_output: 6 kernel_h: 2 kernel_w: 4 group: 6 stride_h: 1 stride_w: 2",
        "num_output: 6 kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2 stride_h: 2 stride_w: 1",
        "num_output: 6 kernel_size: 3 dilation: 2 pad: 2 stride: 2",
        "num_output: 3 kernel_size: 11 pad: 5",
        "num_output: 3 kernel_h: 13 kernel_w: 17",
    ],
)
def test_convolution_of_every_form(param, density):
    text = INPUT % "dim: 2 dim: 6 dim: 13 dim: 17" + conv("c", "data", "c", param)
    for threads in (1, 3):
        assert_like_reference(net_of(text, density=density), threads=threads)


@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("edges", [(1, 0, 1, 0), (0, 1, 0, 1), (1, 1, 2, 0), (4, 0, 0, 0)])
def test_empty_edges_of_depthwise_kernels_are_cut_off(pad, edges):
    top, bottom, left, right = edges
    text = INPUT % "dim: 2 dim: 5 dim: 12 dim: 15"
    text += conv("c", "data", "c", f"num_output: 5 kernel_size: 4 group: 5 stride: 2 pad: {pad}")
    net = net_of(text)
    weights = net.layer("c").blobs[0]
    weights[:, :, :top] = weights[:, :, 4 - bottom :] = 0
    weights[..., :left] = weights[..., 4 - right :] = 0
    assert_like_reference(net, threads=1)


@pytest.mark.parametrize("height", range(1, 40))
@pytest.mark.parametrize("width", [7, 15, 28, 112])
def test_the_same_pixels_of_channels_lie_in_all_sets_of_a_cache(height, width):
    """A map of 9 rows of 113 floats took twice as long, a page from plane to plane."""
    tensor = Tensor((1, 4, height, width), Border(1, 1, aligned=True))
    assert tensor.plane % (2 * ALIGNMENT) == ALIGNMENT  # an odd number of lines
    assert 0 <= tensor.plane - (height + 2) * (width + 1) - 1 < 2 * ALIGNMENT


def test_planes_written_for_their_readers():
    """One blob read with several paddings, by a pooling, and by a concatenation."""
    text = INPUT % "dim: 2 dim: 3 dim: 9 dim: 10" + conv(
        "a", "data", "a", "num_output: 4 kernel_size: 1"
    )
    text += conv("p1", "a", "p1", "num_output: 3 kernel_size: 3 pad: 1")
    text += conv("p2", "a", "p2", "num_output: 5 kernel_size: 5 pad: 2")
    text += (
        'layer { name: "cat" type: "Concat" bottom: "p1" bottom: "a" bottom: "p2" top: "cat" }\n'
    )
    text += 'layer { name: "r" type: "ReLU" bottom: "cat" top: "cat" }\n'
    text += conv("last", "cat", "last", "num_output: 2 kernel_size: 3 pad: 1")
    text += (
        'layer { name: "pool" type: "Pooling" bottom: "cat" top: "pool" '
        "pooling_param { kernel_size: 3 stride: 2 } }\n"
    )
    net = net_of(text)
    assert_like_reference(net, ["last", "pool", "cat", "p1"])
    assert_like_reference(net, ["last", "pool"], batch=5)


RESIDUAL = (
    INPUT % "dim: 1 dim: 4 dim: 8 dim: 8"
    + conv("a", "data", "a", "num_output: 4 kernel_size: 3 pad: 1 bias_term: false")
    + 'layer { name: "bn" type: "BatchNorm" bottom: "a" top: "a" }\n'
    + 'layer { name: "sc" type: "Scale" bottom: "a" top: "a" scale_param { bias_term: true } }\n'
    + 'layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "a" top: "sum" }\n'
    + 'layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }\n'
    + conv("b", "sum", "b", "num_output: 3 kernel_size: 1")
)


def test_fusion_into_one_convolution():
    executor = Executor(net_of(RESIDUAL), threads=1)
    steps = executor.plan().steps
    assert [step.layers for step in steps] == [("a", "bn", "sc", "sum", "relu"), ("b",)]
    assert_like_reference(net_of(RESIDUAL))


def pooled(method, activation):
    return (
        INPUT % "dim: 2 dim: 3 dim: 9 dim: 9"
        + conv("a", "data", "a", "num_output: 4 kernel_size: 3")
        + 'layer { name: "pool" type: "Pooling" bottom: "a" top: "pool" '
        + f"pooling_param {{ pool: {method} kernel_size: 3 stride: 2 }} }}\n"
        + f'layer {{ name: "act" bottom: "pool" top: "pool" {activation} }}\n'
        + conv("b", "pool", "b", "num_output: 3 kernel_size: 1")
    )


@pytest.mark.parametrize(
    ("method", "activation", "moves"),
    [
        ("MAX", 'type: "ReLU"', True),
        ("MAX", 'type: "ReLU" relu_param { negative_slope: 0.3 }', True),
        ("MAX", 'type: "ReLU" relu_param { negative_slope: -0.3 }', False),
        ("MAX", 'type: "ReLU6"', True),
        ("AVE", 'type: "ReLU"', False),
        ("MAX", 'type: "TanH"', False),
    ],
)
def test_an_activation_that_rises_moves_before_a_max_pooling(method, activation, moves):
    net = net_of(pooled(method, activation))
    steps = Executor(net, threads=1).plan().steps
    assert (("a", "act") in [step.layers for step in steps]) == moves
    assert_like_reference(net)
    assert_like_reference(net, ["a", "b"])  # somebody asks for what is before the activation


def test_a_wanted_blob_is_not_fused_away():
    net = net_of(RESIDUAL)
    got = assert_like_reference(net, ["a", "sum", "b"])
    assert set(got) == {"a", "sum", "b"}


def test_depthwise_chain_skips_bases_that_nobody_reads():
    text = INPUT % "dim: 1 dim: 4 dim: 9 dim: 9"
    text += conv(
        "c/Q", "data", "c/Q", "num_output: 32 group: 4 kernel_size: 3 pad: 1 bias_term: false"
    )
    text += conv("c/S", "c/Q", "c", "num_output: 6 kernel_size: 1")
    net = net_of(text, density=1.0)
    s = net.layer("c/S").blobs[0]
    s.reshape(6, 4, 8)[:, :, [1, 2, 5, 6]] = 0
    assert_like_reference(net)
    weights = 4 * net.layer("c/Q").blobs[0].size
    half = Executor(net, threads=1).plan().steps[0]
    whole = Executor(net, threads=1).plan(blobs=["c/Q", "c"]).steps[0]
    assert whole.bytes - half.bytes >= weights / 2


@pytest.mark.parametrize(
    ("param", "size"),
    [("kernel_size: 3 pad: 1", 13), ("kernel_size: 1", 56), ("kernel_size: 1", 14)],
)
def test_sparse_weights_take_six_bytes_a_non_zero(param, size):
    text = INPUT % f"dim: 1 dim: 256 dim: {size} dim: {size}"
    net = net_of(text + conv("c", "data", "c", f"num_output: 64 {param}"), density=0.05)
    step = Executor(net, threads=1).plan().steps[0]
    assert "_1x" in step.kernel  # unstructured: blocks would hold zeros too
    assert step.weight_bytes <= 6.5 * np.count_nonzero(net.layer("c").blobs[0])
    assert Executor(net).plan().weight_bytes == step.weight_bytes


@pytest.mark.parametrize(("outputs", "size"), [(32, 6), (96, 33)])
def test_structured_zeros_are_squeezed_out(outputs, size, monkeypatch):
    """Filters and taps without weights, wherever they lie, cost what the smaller layer costs.

    But for dense tiles, which may pay all the same.
    """
    monkeypatch.setattr(choose, "dense_tiles", lambda *given: [])
    text = INPUT % f"dim: 1 dim: 8 dim: {size} dim: {size}"

    def step(count, group):
        param = f"num_output: {count} kernel_size: 3 pad: 1 group: {group}"
        return net_of(text + conv("c", "data", "c", param), density=1.0)

    for group in (1, 2):
        net, narrow = step(outputs, group), step(outputs // 2, group)
        weights = net.layer("c").blobs[0]
        weights.reshape(outputs, -1)[:, [0, 5, 7, 20]] = 0
        weights[1::2] = 0
        narrow.layer("c").blobs = [blob[::2].copy() for blob in net.layer("c").blobs]
        assert_like_reference(net)
        found, want = (Executor(n, threads=1).plan().steps[0] for n in (net, narrow))
        assert found.kernel.split("_")[1] == want.kernel.split("_")[1]
        assert found.weight_bytes <= 1.05 * want.weight_bytes


@pytest.mark.parametrize("batch", [1, 2, 7, 33])
@pytest.mark.parametrize("density", [1.0, 0.1])
def test_fully_connected_for_any_batch(batch, density):
    text = INPUT % "dim: 1 dim: 3 dim: 4 dim: 5"
    text += (
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" '
        "inner_product_param { num_output: 37 } }\n"
        'layer { name: "r" type: "ReLU" bottom: "ip" top: "ip" '
        "relu_param { negative_slope: 0.1 } }\n"
        'layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }\n'
    )
    assert_like_reference(net_of(text, density=density), ["ip", "prob"], batch=batch)


def test_many_inputs_of_a_batch_are_taken_in_parts_that_stay_in_cache(monkeypatch):
    monkeypatch.setattr(tile_module, "cache_bytes", lambda level: 48 << 10)
    weights = np.random.default_rng(0).random((64, 12800)).astype(np.float32)
    weights[weights > 0.15] = 0
    tile = choose_tile("avx512", weights, 1, Shape(96, 12800, 0))
    assert tile.parts >= 64
    assert tile.parts <= choose.PARTS[-1]
    ip = (
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" '
        "inner_product_param { num_output: 70 } }\n"
    )
    net = net_of(INPUT % "dim: 1 dim: 12800 dim: 1 dim: 1" + ip, density=0.15)
    assert_like_reference(net, ["ip"], batch=48)


@pytest.mark.parametrize("density", [1.0, 0.1])
def test_a_whole_image_of_one_pixel_that_another_layer_reads_with_a_halo(density):
    text = INPUT % "dim: 1 dim: 5 dim: 1 dim: 1"
    text += (
        'layer { name: "d" type: "ReLU" bottom: "data" top: "d" }\n'
        'layer { name: "a" type: "Convolution" bottom: "d" top: "a" '
        "convolution_param { num_output: 7 kernel_size: 3 pad: 1 } }\n"
        'layer { name: "b" type: "Convolution" bottom: "d" top: "b" '
        "convolution_param { num_output: 3 kernel_size: 1 } }\n"
    )
    assert_like_reference(net_of(text, density=density), ["a", "b"])


def test_threads_do_not_change_a_bit(golden_dir):
    case = golden_dir / "nets" / "googlenet"
    net = load(case.with_suffix(".prototxt"), case.with_suffix(".caffemodel"))
    inputs = given(net, batch=3)
    runs = [Executor(net, threads=threads).run(inputs) for threads in (1, 2, 3)]
    for other in runs[1:]:
        assert all(np.array_equal(runs[0][name], other[name]) for name in runs[0])


def test_a_run_leaves_nothing_behind():
    """The halo of one run must not hold what another run left in the same memory."""
    net = net_of(RESIDUAL)
    executor = Executor(net, threads=1)
    quiet, loud = given(net, seed=1), {"data": np.full((1, 4, 8, 8), 1e30, np.float32)}
    first = executor.run(quiet)
    executor.run(loud)
    assert np.array_equal(executor.run(quiet)["b"], first["b"])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a mode of x86-64 processors")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("density", [1.0, 0.1])
def test_denormal_weights_count_as_zero_and_the_caller_keeps_its_own(threads, density):
    """Intel's processors take a hundred times as long for each of them."""
    text = INPUT % "dim: 4 dim: 8 dim: 30 dim: 30" + conv(
        "c", "data", "c", "num_output: 32 kernel_size: 3"
    )
    net = net_of(text, density=density)
    weights = net.layer("c").blobs[0]
    weights *= np.float32(1e-40)  # and the bias stays
    assert 0 < np.abs(weights).max() < np.finfo(np.float32).tiny
    data = np.full((4, 8, 30, 30), 1e38, np.float32)  # which would make 0.01 of them
    executor = Executor(net, threads=threads)
    plan = executor.plan({"data": data.shape})
    planes = Planes(0, 64, 1, 1, 1, 1, 3)  # threads that begin here begin with the caller's mode
    clear_halo(np.empty(192, np.float32), planes, 1, threads)
    plan.feed({"data": data})
    plan.run()
    found = plan.output("c").copy()
    assert (found == net.layer("c").blobs[1][:, None, None]).all()
    executor.profile({"data": data}, 1)
    assert np.array_equal(plan.output("c"), found)
    tiny = np.array([1e-40], np.float32)
    assert (tiny * np.float32(1e30) > 0).all()
    product = spmm(pack(weights.reshape(32, -1)), np.full((72, 64), 1e30), threads=threads)
    assert (product == 0).all()
    assert (tiny * np.float32(1e30) > 0).all()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a mode of x86-64 processors")
def test_the_float_mode_survives_nesting_and_failures(monkeypatch):
    def flushes():
        return float(np.float32(1e-40) * np.float32(1e30)) == 0

    flush = FlushToZero(1)
    with flush:
        with flush:
            assert flushes()
        assert flushes()
    assert not flushes()
    plan = Executor(net_of(RESIDUAL), threads=1).plan()

    def fail():
        raise ZeroDivisionError(flushes())

    monkeypatch.setattr(plan, "calls", [fail])
    with pytest.raises(ZeroDivisionError, match="True"):
        plan.run()
    assert not flushes()
    for threads in (0, -1):
        with pytest.raises(KernelError, match="at least one is needed"):
            FlushToZero(threads)
        with pytest.raises(KernelError, match="at least one is needed"):
            Feed("scalar", np.zeros(9, np.float32), Planes(0, 1, 1, 9, 9, 0, 9), 1, threads)


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "30000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_do_not_wait_long_unless_the_user_says_so(given, found):
    code = "import os, caffe_scnn; print(os.environ.get('GOMP_SPINCOUNT'))"
    own = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=own | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == found


def test_a_plan_of_small_layers_starts_no_threads():
    small = (
        INPUT % "dim: 1 dim: 2 dim: 5 dim: 5"
        + conv("c", "data", "c", "num_output: 2 kernel_size: 3")
        + 'layer { name: "m" type: "ArgMax" bottom: "c" top: "m" }'
    )
    large = INPUT % "dim: 1 dim: 16 dim: 64 dim: 64" + conv(
        "c", "data", "c", "num_output: 32 kernel_size: 3"
    )
    assert Executor(net_of(small), threads=2).plan().threads == 1
    assert Executor(net_of(large), threads=2).plan().threads == 2


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [7, 30])
def test_an_output_may_be_fed_again_without_a_copy(size, threads):
    text = (
        INPUT % f"dim: 1 dim: 8 dim: {size} dim: {size}"
        + conv("c", "data", "c", "num_output: 16 kernel_size: 1")
        + conv("d", "c", "d", "num_output: 8 kernel_size: 3 pad: 1")
    )
    executor = Executor(net_of(text), threads=threads)
    plan = executor.plan()
    first = executor.run(given(executor.net))["d"]
    assert np.shares_memory(plan.output("d"), plan.arena)
    plan.feed(given(executor.net))
    plan.run()
    plan.feed({"data": plan.output("d")})
    plan.run()
    assert np.array_equal(plan.output("d"), executor.run({"data": first})["d"])


@pytest.mark.usefixtures("nothing_copied")
def test_memory_of_the_plan_may_be_given_to_a_convolution_that_reads_it_in_place():
    text = (
        INPUT % "dim: 1 dim: 8 dim: 8 dim: 8"
        + conv("c", "data", "c", "num_output: 8 kernel_size: 2 stride: 2 pad: 4")
        + conv("d", "c", "d", "num_output: 8 kernel_size: 1")
    )
    executor = Executor(net_of(text), threads=1)
    plan, data = executor.plan(), given(executor.net)["data"]
    want = executor.run({"data": data})["d"]
    for begin in range(len(plan.arena) - data.size + 1):  # wherever it lies
        inside = plan.arena[begin : begin + data.size].reshape(data.shape)
        inside[...] = data
        assert np.array_equal(executor.run({"data": inside})["d"], want)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("items", [1, 2])
def test_large_inputs_and_outputs_are_not_copied(items, threads):
    text = (
        INPUT % f"dim: {items} dim: 3 dim: 120 dim: 121"
        + conv("c", "data", "c", "num_output: 8 kernel_size: 5 stride: 4 pad: 2")
        + conv("d", "c", "d", "num_output: 40 kernel_size: 3 pad: 1")
        + conv("e", "c", "e", "num_output: 4 kernel_size: 1")
    )
    executor = Executor(net_of(text), threads=threads)
    plan, data = executor.plan(), given(executor.net)
    plan.feed(data)
    plan.run()
    want = {name: plan.output(name).copy() for name in ("d", "e")}
    assert want["e"].nbytes < 1 << 17 < want["d"].nbytes
    plan.arena[...] = np.nan
    first, second = executor.run(data), executor.run({"data": -data["data"]})
    for name, values in want.items():
        assert np.array_equal(first[name], values) and not np.array_equal(second[name], values)
        assert not np.shares_memory(first[name], plan.arena)
    assert np.isnan(plan.input("data")).any()  # neither has been in the arena since
    assert not np.array_equal(plan.output("d"), second["d"])
    for name in ("data", "c"):  # what others want, too, has to lie in the arena
        both = executor.run(data, [name, "d"])
        assert np.array_equal(both["d"], want["d"])
    assert np.array_equal(executor.run(data, ["data"])["data"], data["data"])
    again = plan.input(
        "data"
    )  # memory of the plan itself may be given, and is read before it changes
    again[...] = data["data"]
    assert np.array_equal(executor.run({"data": again})["d"], want["d"])
    with pytest.raises(KernelError, match=r"is .* not"):
        plan.compute({"data": np.zeros((1, 3, 7, 7), np.float32)})


@pytest.mark.usefixtures("nothing_copied")
def test_outputs_that_are_more_than_a_result_of_a_convolution_are_copied():
    text = (
        INPUT % "dim: 3 dim: 2 dim: 5 dim: 6"
        + 'layer { name: "s" type: "Input" top: "s" input_param { shape { dim: 3 } } }\n'
        + 'layer { name: "f" type: "Filter" bottom: "data" bottom: "s" top: "f" }\n'
        + conv("few", "f", "few", "num_output: 3 kernel_size: 3")
        + conv("a", "data", "a", "num_output: 2 kernel_size: 1")
        + 'layer { name: "b" type: "Dropout" bottom: "a" top: "b" }\n'
        + conv("c", "data", "c", "num_output: 2 kernel_size: 1")
        + 'layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "data" top: "sum" }\n'
    )
    net = net_of(text)
    data = given(net)["data"]
    inputs = {"data": data, "s": np.array([0, 1, 1], np.float32)}
    want = reference.run(net, inputs, ["few", "a", "sum"])
    executor = Executor(net, threads=1)
    got = executor.run(inputs, ["few", "a", "b", "sum"])
    assert got["few"].shape == (2, 3, 3, 4)
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-5)
    assert np.array_equal(got["a"], got["b"]) and not np.shares_memory(got["a"], got["b"])


def test_what_is_fed_has_the_shape_of_the_input():
    plan = Executor(net_of(RESIDUAL), threads=1).plan()
    with pytest.raises(KernelError, match=r'input "data" is \(1, 4, 8, 8\), not \(1, 8, 8, 4\)'):
        plan.feed({"data": np.zeros((1, 8, 8, 4), np.float32)})
    plan.feed({"data": np.ones((1, 4, 8, 8), np.uint8)})
    assert (plan.input("data") == 1).all()


def test_what_is_asked_for_must_exist():
    net = net_of(RESIDUAL)
    executor = Executor(net, threads=1)
    with pytest.raises(ModelError, match='"date" is not an input; the net\'s inputs are data'):
        executor.run({"date": np.zeros((1, 4, 8, 8))})
    with pytest.raises(ModelError, match='"data" is missing'):
        executor.run({})
    with pytest.raises(ModelError, match='no blob "conv9"'):
        executor.run(given(net), ["conv9"])
    with pytest.raises(ModelError, match="layer"):
        executor.run({"data": np.zeros((1, 5, 8, 8))})
    with pytest.raises(KernelError, match="at least one"):
        Executor(net, threads=0)
    with pytest.raises(KernelError, match="neon"):
        Executor(net, isa="neon")


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (33, 64, 100), (16, 300, 48)])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_spmm(shape, density):
    m, k, n = shape
    rng = np.random.default_rng(m)
    a = rng.standard_normal((m, k)).astype(np.float32) * (rng.random((m, k)) < density)
    x = rng.standard_normal((k, n)).astype(np.float32)
    packed = pack(a)
    assert packed.shape == (m, k) and packed.nonzeros == np.count_nonzero(a)
    bound = (k + 2) * 2.0**-24 * (np.abs(a) @ np.abs(x))
    for threads in (1, 2):
        got = spmm(packed, x, threads=threads, out=np.full((m, n), np.nan, np.float32))
        assert np.array_equal(got, spmm(packed, x))
        assert (np.abs(got - a.astype(np.float64) @ x) <= bound).all()


def test_spmm_refuses_what_does_not_fit():
    with pytest.raises(KernelError, match="2x3 with an array of shape"):
        spmm(pack(np.ones((2, 3))), np.ones((2, 4)))
    with pytest.raises(KernelError, match="takes a matrix"):
        pack(np.ones(3))
    with pytest.raises(KernelError, match="out must be"):
        spmm(pack(np.ones((2, 3))), np.ones((3, 4)), out=np.empty((4, 2), np.float32).T)


def test_plans_that_were_not_used_for_longest_go_first():
    net = net_of(RESIDUAL)
    sizes = [{"data": (items, 4, 8, 8)} for items in (1, 2, 3)]
    every = Executor(net, threads=1)
    one, two, three = (every.plan(shapes) for shapes in sizes)
    assert [every.plan(shapes) for shapes in sizes] == [one, two, three]
    few = Executor(net, threads=1, plan_bytes=one.nbytes + three.nbytes)
    first, second = few.plan(sizes[0]), few.plan(sizes[1])
    assert few.plan(sizes[0]) is first
    third = few.plan(sizes[2])
    assert few.plan(sizes[2]) is third
    assert few.plan(sizes[0]) is first
    assert few.plan(sizes[1]) is not second
    alone = Executor(net, threads=1, plan_bytes=1)  # what runs is kept, however large
    assert alone.plan(sizes[2]) is alone.plan(sizes[2])


@pytest.mark.parametrize("kind", ["kernel_size: 1", "kernel_size: 3 group: 8"])
def test_small_layers_stay_on_one_thread_and_batches_of_them_do_not(kind):
    text = INPUT % "dim: 1 dim: 8 dim: 12 dim: 12"
    net = net_of(text + conv("c", "data", "c", f"num_output: 8 {kind}"))
    assert Executor(net, threads=2).plan().steps[0].threads == 1
    assert Executor(net, threads=2).plan({"data": (64, 8, 12, 12)}).steps[0].threads == 2


WHOLE_IMAGE_INSIDE = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 5 dim: 5 } } }
layer { name: "whole" type: "Convolution" bottom: "data" top: "whole"
  convolution_param { num_output: 6 kernel_size: 5 } }
layer { name: "relu" type: "ReLU6" bottom: "whole" top: "whole" }
layer { name: "around" type: "Convolution" bottom: "whole" top: "around"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
"""


def test_a_fully_connected_result_that_is_read_with_padding_has_a_clean_halo_and_a_clamp():
    net = net_of(WHOLE_IMAGE_INSIDE)
    net.layer("whole").blobs[1][:] = [-50, 50, 0, 1, 50, 3]  # cut off below and above
    inputs = given(net)
    executor = Executor(net, threads=1)
    plan = executor.plan(None, ["around"])
    assert [step.name for step in plan.steps] == ["inner_product", "convolution"]
    plan.arena.fill(np.nan)
    got = executor.run(inputs, ["around"])["around"]
    want = reference.run(net, inputs, ["whole", "around"])
    assert want["whole"].min() == 0 and want["whole"].max() == 6
    assert difference(got, want["around"]) <= TOLERANCE


def test_a_profile_times_each_step_where_it_stands():
    net = net_of(WHOLE_IMAGE_INSIDE)
    inputs = given(net)
    executor = Executor(net, threads=1)
    want = executor.run(inputs)["around"]
    plan = executor.plan()
    plan.arena.fill(np.nan)
    times = executor.profile(inputs, repeat=1)
    assert [time.step for time in times] == plan.steps
    assert np.array_equal(plan.output("around"), want)


def test_a_channel_of_a_picture_is_fed_as_it_lies():
    net = Net.parse(TEXT_OF_ONE)
    picture = np.random.default_rng(0).random((5, 8, 3), np.float32)
    every = picture[None, None, :, ::2, 1]
    found = Executor(net, threads=1).run({"x": every})["y"]
    assert np.array_equal(found, np.maximum(every - np.float32(0.5), 0))


def test_names_of_blobs_are_a_list():
    executor = Executor(Net.parse(TEXT_OF_ONE), threads=1)
    with pytest.raises(ModelError, match=r'\["y"\], not "y"'):
        executor.run({"x": np.zeros((1, 1, 5, 4), np.float32)}, "y")


TEXT_OF_ONE = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 5 dim: 4 } } }
layer { name: "p" type: "Power" bottom: "x" top: "p" power_param { shift: -0.5 } }
layer { name: "y" type: "ReLU" bottom: "p" top: "y" }
"""
