"""Layers that run band by band: the bits of one layer after the other."""

from __future__ import annotations

import os
from itertools import product

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor
from caffe_scnn.engine import threads as threads_module
from caffe_scnn.engine.bands import Clear, Pass, Slide, Window, schedule
from caffe_scnn.engine.ops import bands
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net

ISAS = [isa for isa in _kernels.isas() if os.environ.get("CAFFE_SCNN_ISA") in (None, isa)]
TEXT = """
name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 12 dim: 23 dim: 17 } } }
layer { name: "c/Q" type: "Convolution" bottom: "data" top: "c/Q" convolution_param {
  num_output: 48 group: 12 kernel_size: 5 pad: 2 bias_term: false } }
layer { name: "c/S" type: "Convolution" bottom: "c/Q" top: "c" convolution_param {
  num_output: 20 kernel_size: 1 } }
layer { name: "e" type: "Eltwise" bottom: "c" bottom: "other" top: "e" }
layer { name: "relu" type: "ReLU" bottom: "e" top: "e" }
layer { name: "next" type: "Convolution" bottom: "e" top: "next" convolution_param {
  num_output: 4 kernel_size: 3 pad: 1 } }
"""
OTHER = """
layer { name: "other" type: "Convolution" bottom: "data" top: "other" convolution_param {
  num_output: 20 kernel_size: 1 } }
"""


@pytest.fixture
def net():
    rng = np.random.default_rng(0)
    made = Net.parse(TEXT.replace('layer { name: "c/Q"', OTHER + 'layer { name: "c/Q"'))
    shapes = {
        "other": [(20, 12, 1, 1), (20,)],
        "c/Q": [(48, 1, 5, 5)],
        "c/S": [(20, 48, 1, 1), (20,)],
        "next": [(4, 20, 3, 3), (4,)],
    }
    for name, blobs in shapes.items():
        made.layer(name).blobs = [rng.standard_normal(b).astype(np.float32) for b in blobs]
    mix = made.layer("c/S").blobs[0]
    mix *= rng.random(mix.shape) < 0.2
    mix[:, 5] = 0  # a basis that nobody reads is never computed
    return made


@pytest.fixture
def limits(monkeypatch):
    """Set from which size of a map on bands are used, and how large they are."""

    def change(whole, band, pixels=1):
        monkeypatch.setattr(bands, "WHOLE_BYTES", whole)
        monkeypatch.setattr(bands, "BAND_BYTES", band)
        monkeypatch.setattr(bands, "LEAST_PIXELS", pixels)

    return change


def outputs(net, x, blobs, threads=1, isa=None):
    """Run; return the results and the names of the ops."""
    executor = Executor(net, threads=threads, isa=isa, exact=True)
    result = executor.run({"data": x}, blobs)
    return result, [step.name for step in executor.plan({"data": x.shape}, blobs).steps]


def test_bases_that_nobody_reads_have_no_weights(net, limits):
    limits(0, 1 << 20)
    shapes = {"data": (2, 12, 23, 17)}

    def weights():
        steps = Executor(net, threads=1).plan(shapes, ["e", "next"]).steps
        return next(step.weight_bytes for step in steps if step.name == "bands")

    mix = net.layer("c/S").blobs[0]
    mix[:, 4:8] = 0  # all bases of one channel
    fewer = weights()
    mix[0, 4:8] = 1
    assert weights() >= fewer + 4 * 25 * 4


@pytest.mark.parametrize("rows", [1, 4, 23])
@pytest.mark.parametrize("threads", [1, 2])
def test_bands_change_no_bit(net, limits, rows, threads):
    x = np.random.default_rng(1).standard_normal((2, 12, 23, 17)).astype(np.float32)
    limits(1 << 60, 1)
    want, apart = outputs(net, x, ["e", "next"])
    limits(0, 1 << 20, 17 * rows)
    got, joined = outputs(net, x, ["e", "next"], threads)
    assert "bands" in joined and "bands" not in apart
    assert len(joined) == len(apart) - 1
    for name in want:
        assert np.array_equal(got[name], want[name])


def test_bases_that_are_asked_for_stay_whole(net, limits):
    x = np.random.default_rng(1).standard_normal((2, 12, 23, 17)).astype(np.float32)
    limits(0, 1 << 20)
    assert "bands" not in outputs(net, x, ["c/Q", "c"])[1]


@pytest.mark.parametrize(("outputs", "swollen"), [(16, True), (17, False)])
def test_bases_many_times_as_large_as_their_layer_leave_a_cache_sooner(limits, outputs, swollen):
    """48 maps made of 12, for 16 others: half the size is enough."""
    text = TEXT.replace('layer { name: "c/Q"', OTHER + 'layer { name: "c/Q"')
    made = Net.parse(text.replace("num_output: 20", f"num_output: {outputs}"))
    bind(made, None)
    size = 4 * 48 * 23 * 17
    for whole, expected in ((size - 1, True), (2 * size - 2, swollen), (2 * size, False)):
        limits(whole, 1 << 20)
        steps = Executor(made, threads=1).plan({"data": (2, 12, 23, 17)}, ["e", "next"]).steps
        assert ("bands" in [step.name for step in steps]) == expected


LONG = """
name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 61 dim: 45 } } }
layer { name: "first" type: "Convolution" bottom: "data" top: "first" convolution_param {
  num_output: 24 kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "dw1" type: "Convolution" bottom: "first" top: "dw1" convolution_param {
  num_output: 24 group: 24 kernel_size: 3 pad: 1 } }
layer { name: "dw1/relu" type: "ReLU" bottom: "dw1" top: "dw1" relu_param { negative_slope: 0.1 } }
layer { name: "pw1" type: "Convolution" bottom: "dw1" top: "pw1" convolution_param {
  num_output: 40 kernel_size: 1 } }
layer { name: "pw1/relu" type: "ReLU" bottom: "pw1" top: "pw1" }
layer { name: "dw2" type: "Convolution" bottom: "pw1" top: "dw2" convolution_param {
  num_output: 40 group: 40 kernel_size: 5 stride: 2 pad: 2 bias_term: false } }
layer { name: "wide" type: "Convolution" bottom: "dw2" top: "wide" convolution_param {
  num_output: 12 kernel_h: 3 kernel_w: 1 dilation: 2 pad_h: 3 pad_w: 1 } }
layer { name: "back" type: "Convolution" bottom: "wide" top: "back" convolution_param {
  num_output: 10 kernel_size: 3 pad: 1 group: 2 } }
"""
SHAPES = {
    "first": [(24, 3, 3, 3), (24,)],
    "dw1": [(24, 1, 3, 3), (24,)],
    "pw1": [(40, 24, 1, 1), (40,)],
    "dw2": [(40, 1, 5, 5)],
    "wide": [(12, 40, 3, 1), (12,)],
    "back": [(10, 6, 3, 3), (10,)],
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("pixels", [1, 20, 60, 1 << 20])
def test_long_chains_change_no_bit(limits, isa, density, pixels):
    rng = np.random.default_rng(0)
    net = Net.parse(LONG)
    for name, blobs in SHAPES.items():
        net.layer(name).blobs = [rng.standard_normal(b).astype(np.float32) for b in blobs]
        net.layer(name).blobs[0] *= rng.random(blobs[0]) < density
    x = rng.standard_normal((2, 3, 61, 45)).astype(np.float32)
    limits(1 << 60, 1)
    want, _ = outputs(net, x, ["back"], isa=isa)
    limits(0, 1 << 30, pixels)
    for threads in (1, 2):
        got, steps = outputs(net, x, ["back"], threads, isa)
        assert steps == ["bands"]
        assert np.array_equal(got["back"], want["back"])
    limits(0, 30_000, 20)
    got, steps = outputs(net, x, ["back"], isa=isa)
    assert "bands" in steps and len(steps) > 1  # what does not fit is cut into several
    assert np.array_equal(got["back"], want["back"])


POOLED = """
name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 62 dim: 45 } } }
layer { name: "p0" type: "Pooling" bottom: "data" top: "p0"
  pooling_param { pool: MAX kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "first" type: "Convolution" bottom: "p0" top: "first" convolution_param {
  num_output: 7 kernel_size: 5 stride: 1 pad: 2 } }
layer { name: "p1" type: "Pooling" bottom: "first" top: "p1"
  pooling_param { pool: %s kernel_size: 3 stride: 2 %s } }
layer { name: "back" type: "Convolution" bottom: "p1" top: "back" convolution_param {
  num_output: 5 kernel_size: 3 pad: 1 } }
layer { name: "p2" type: "Pooling" bottom: "back" top: "p2"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
"""


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pixels", [1, 30, 100, 1 << 20])
@pytest.mark.parametrize(
    ("method", "pad", "apart"),
    [("MAX", "", 0), ("MAX", "pad: 1", 0), ("AVE", "", 0), ("AVE", "pad: 1", 1)],
)
def test_poolings_clip_their_windows_to_the_image(limits, isa, pixels, method, pad, apart):
    """Pixels are negative, so that a padded zero would be the largest."""
    rng = np.random.default_rng(0)
    net = Net.parse(POOLED % (method, pad))
    net.layer("first").blobs = [
        -rng.random((7, 3, 5, 5), np.float32),
        np.full(7, -1, np.float32),
    ]
    net.layer("back").blobs = [
        rng.standard_normal((5, 7, 3, 3)).astype(np.float32),
        np.full(5, -50, np.float32),
    ]
    x = rng.random((2, 3, 62, 45), np.float32)
    limits(1 << 60, 1)
    want, _ = outputs(net, x, ["p2"], isa=isa)
    limits(0, 1 << 30, pixels)
    for threads in (1, 2):
        got, steps = outputs(net, x, ["p2"], threads, isa)
        assert steps.count("pooling") == apart
        assert np.array_equal(got["p2"], want["p2"])


@pytest.mark.parametrize("pixels", [1, 40, 200])
@pytest.mark.parametrize(
    ("size", "last"),
    [
        ("kernel_size: 1 pad: 2", "kernel_size: 3 pad: 2"),
        ("kernel_size: 3 pad: 4 dilation: 2", "kernel_size: 3 pad: 2"),
        ("kernel_size: 3 pad: 1", "kernel_size: 2 pad: 7"),
    ],
)
def test_maps_taller_than_what_they_are_made_of(limits, pixels, size, last):
    text = LONG.split('layer { name: "first"')[0] + (
        'layer { name: "a" type: "Convolution" bottom: "data" top: "a" '
        f"convolution_param {{ num_output: 9 {size} }} }}\n"
        'layer { name: "b" type: "Convolution" bottom: "a" top: "b" '
        f"convolution_param {{ num_output: 5 {size} }} }}\n"
        'layer { name: "c" type: "Convolution" bottom: "b" top: "c" '
        f"convolution_param {{ num_output: 4 {last} }} }}"
    )
    side = int(size.split()[1])
    end = int(last.split()[1])
    shapes = {"a": (9, 3, side, side), "b": (5, 9, side, side), "c": (4, 5, end, end)}
    rng, net = np.random.default_rng(0), Net.parse(text)
    for name, shape in shapes.items():
        weights = rng.standard_normal(shape).astype(np.float32)
        net.layer(name).blobs = [weights, np.ones(shape[0], np.float32)]
    x = rng.standard_normal((2, 3, 61, 45)).astype(np.float32)
    limits(1 << 60, 1)
    want, _ = outputs(net, x, ["c"])
    limits(0, 1 << 30, pixels)
    assert np.array_equal(outputs(net, x, ["c"])[0]["c"], want["c"])


AMONG_OTHERS = """
layer { name: "early" type: "Convolution" bottom: "data" top: "early" convolution_param {
  num_output: 30 kernel_size: 3 pad: 1 } }
layer { name: "source" type: "Convolution" bottom: "early" top: "source" convolution_param {
  num_output: 3 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "a" type: "Convolution" bottom: "source" top: "a" convolution_param {
  num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {
  num_output: 5 kernel_size: 3 pad: 1 } }
layer { name: "late" type: "Convolution" bottom: "b" top: "late" convolution_param {
  num_output: 6 kernel_size: 3 pad: 1 } }
"""


def test_the_padding_of_a_result_is_zero_where_other_maps_were(limits):
    """The chain's result lies where what was made before its source has been."""
    text = LONG.split('layer { name: "first"')[0] + AMONG_OTHERS
    rng, net, inputs = np.random.default_rng(0), Net.parse(text), 3
    for layer, wide in zip(list(net)[1:], (30, 3, 4, 5, 6), strict=True):
        weights = rng.standard_normal((wide, inputs, 3, 3)).astype(np.float32)
        layer.blobs, inputs = [weights, np.ones(wide, np.float32)], wide
    x = rng.standard_normal((2, 3, 61, 45)).astype(np.float32)
    limits(1 << 60, 1)
    want, _ = outputs(net, x, ["source", "b", "late"])
    limits(0, 1 << 30, 30)
    got, steps = outputs(net, x, ["source", "b", "late"])  # so the chain is a and b
    assert steps == ["convolution", "convolution", "bands", "convolution"]
    assert np.array_equal(got["late"], want["late"])


def test_the_input_of_a_chain_is_added_at_its_end(limits, monkeypatch):
    """On two threads, however small the passes."""
    text = LONG.split('layer { name: "dw2"')[0] + (
        'layer { name: "back" type: "Convolution" bottom: "pw1" top: "back" convolution_param {\n'
        "  num_output: 24 kernel_size: 1 } }\n"
        'layer { name: "sum" type: "Eltwise" bottom: "first" bottom: "back" top: "sum" }\n'
    )
    rng, net = np.random.default_rng(0), Net.parse(text)
    for name, shapes in {**SHAPES, "back": [(24, 40, 1, 1), (24,)]}.items():
        if name in ("first", "dw1", "pw1", "back"):
            blobs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
            net.layer(name).blobs = blobs
    x = rng.standard_normal((2, 3, 61, 45)).astype(np.float32)
    limits(1 << 60, 1)
    want, _ = outputs(net, x, ["sum"])
    limits(0, 1 << 30, 30)
    monkeypatch.setattr(threads_module, "SERIAL_CYCLES", 0)
    got, steps = outputs(net, x, ["sum"], threads=2)
    assert steps == ["convolution", "bands"]
    assert np.array_equal(got["sum"], want["sum"])
    plan = Executor(net, threads=2, exact=True).plan({"data": x.shape}, ["sum"])
    assert [step.threads for step in plan.steps] == [2, 2] and plan.threads == 2


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
def test_every_pass_finds_its_rows(rows):
    """Run schedules on row numbers in the place of rows."""
    spans, strides, pads = (1, 2, 3, 5), (1, 2, 3), (0, 1, 2)
    rng = np.random.default_rng(rows)
    kinds = [kind for kind in product(spans, strides, pads) if kind[2] < kind[0]]
    ceil = [0, 0, 1]  # poolings round up: their last window may end below the image
    for _ in range(200):
        height, windows = int(rng.integers(3, 60)), []
        for span, stride, pad in rng.choice(kinds, int(rng.integers(2, 5))):
            if height + 2 * pad < span:
                break
            above = height
            height = (height + 2 * pad - span + rng.choice(ceil) * (stride - 1)) // stride + 1
            height -= (height - 1) * stride - pad >= above  # as Caffe does
            windows.append(Window(int(span), int(stride), int(pad), height))
        if len(windows) > 1:
            follow(windows, rows)


def follow(windows, rows):
    """Check that each pass finds the rows it needs, and that all rows of the result are made."""
    plan = schedule(tuple(windows), rows)
    buffers = [[-1] * height for height in plan.heights]  # 0: a row of zeros; row n is n + 1
    made = set()
    for action in plan.actions:
        if isinstance(action, Clear):
            end = action.first + action.count
            buffers[action.buffer][action.first : end] = [0] * action.count
        elif isinstance(action, Slide):
            kept = buffers[action.buffer]
            kept[: action.count] = kept[action.first : action.first + action.count]
        else:
            check_pass(action, windows, plan, buffers)
            size = plan.rows[action.stage]
            done = range(action.row + 1, action.row + 1 + size)
            if action.stage < len(buffers):
                buffers[action.stage][action.target : action.target + size] = done
                assert len(buffers[action.stage]) == plan.heights[action.stage]
            else:
                assert action.target == action.row
                made.update(done)
    assert made == set(range(1, windows[-1].height + 1))


def check_pass(action, windows, plan, buffers):
    """Check what one pass reads."""
    assert isinstance(action, Pass) and action.row >= 0
    window = windows[action.stage]
    begin = window.begin(action.row)
    end = window.end(action.row + plan.rows[action.stage])
    if not action.stage:
        assert action.source == action.row * window.stride
        return
    height = windows[action.stage - 1].height
    wanted = [row + 1 if 0 <= row < height else 0 for row in range(begin, end)]
    assert buffers[action.stage - 1][action.source : action.source + end - begin] == wanted


def test_a_depthwise_layer_without_weights_reads_what_is_computed(net, limits):
    """Nothing of an earlier run comes back, not even times zero."""
    limits(1 << 60, 1)
    made = Net.parse(LONG.split('layer { name: "wide"')[0])
    rng = np.random.default_rng(0)
    for layer in list(made)[1:]:
        shapes = SHAPES.get(layer.name, [])
        layer.blobs = [rng.standard_normal(b).astype(np.float32) for b in shapes]
    made.layer("dw1").blobs[0][3] = 0
    made.layer("pw1").blobs[0][5:] = 0
    executor = Executor(made, threads=1)
    x = rng.standard_normal((2, 3, 61, 45)).astype(np.float32)
    want = executor.run({"data": x})
    executor.run({"data": np.full_like(x, np.nan)})
    assert np.array_equal(executor.run({"data": x})["dw2"], want["dw2"])
