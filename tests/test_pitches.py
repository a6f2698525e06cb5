"""Gaps between rows that make convolutions faster: where they come; nothing is read there."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_scnn.engine import Executor, plan
from caffe_scnn.engine.nodes import lower_net
from caffe_scnn.engine.ops import bands
from caffe_scnn.engine.ops.convolution import Matrix, _run
from caffe_scnn.engine.ops.phases import phase_planes
from caffe_scnn.engine.packing import Run
from caffe_scnn.engine.pitches import Walk
from caffe_scnn.engine.tensor import Border, Tensor
from caffe_scnn.layers.base import ConvolutionSpec
from caffe_scnn.model.net import Net

INPUT = """
name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 33 dim: 29 } } }
"""


def conv(name, bottom, outputs, more="kernel_size: 1"):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {outputs} {more} }} }}\n"
    )


def layer(name, kind, bottoms, more=""):
    given = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {given} top: "{name}" {more} }}\n'


POOL = "pooling_param { kernel_size: 3 stride: 1 pad: 1 }"
SAME, HALF = "kernel_size: 3 pad: 1", "kernel_size: 3 pad: 1 stride: 2"
NETS = {
    "depthwise": conv("a", "data", 8, HALF)
    + conv("b", "a", 8, SAME + " group: 8")
    + conv("c", "b", 12)
    + conv("d", "c", 12, SAME + " group: 12")
    + conv("e", "d", 6),
    "residual": conv("a", "data", 12)
    + conv("b", "a", 6)
    + conv("c", "b", 6, SAME)
    + conv("d", "c", 12)
    + layer("sum", "Eltwise", ["d", "a"])
    + conv("e", "sum", 6)
    + conv("f", "e", 9, "kernel_size: 5 pad: 2")
    + conv("g", "sum", 9, "kernel_size: 1 stride: 2"),
    "fire": conv("a", "data", 8, "kernel_size: 3 stride: 2")
    + layer("pool", "Pooling", ["a"], POOL)
    + conv("b", "pool", 4)
    + conv("c", "b", 8)
    + conv("d", "b", 8, SAME)
    + layer("both", "Concat", ["c", "d"])
    + conv("e", "both", 4)
    + layer("mean", "Pooling", ["e"], "pooling_param { pool: AVE global_pooling: true }"),
}


def made(name, share=0.3):
    """Return a net with random weights, of which a share is not zero."""
    rng, net = np.random.default_rng(0), Net.parse(INPUT + NETS[name])
    for one in net:
        if one.type == "Convolution":
            spec = one.proto.convolution_param
            (size,), groups = spec.kernel_size, spec.group
            shape = (spec.num_output, inputs_of(net, one.bottoms[0]) // groups, size, size)
            weights = rng.standard_normal(shape).astype(np.float32)
            weights *= rng.random(shape) < share
            one.blobs = [weights, rng.standard_normal(len(weights)).astype(np.float32)]
    return net


def inputs_of(net, blob):
    """Return the channels of a blob."""
    if blob == "data":
        return 3
    maker = net.layer(blob)
    if maker.type == "Convolution":
        return maker.proto.convolution_param.num_output
    return sum(inputs_of(net, b) for b in maker.bottoms[: 2 if maker.type == "Concat" else 1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_gaps_change_no_bit_whatever_lies_in_them(name, threads, monkeypatch):
    net, x = made(name), np.random.default_rng(1).standard_normal((2, 3, 33, 29)).astype(np.float32)
    wide = Executor(net, threads=threads)
    wide.run({"data": np.full_like(x, np.nan)})
    got = wide.run({"data": x})
    monkeypatch.setattr(plan, "widened", lambda program, borders, alike, isa: borders)
    narrow = Executor(net, threads=threads)
    want = narrow.run({"data": x})
    assert list(got) == list(want)
    assert all(np.array_equal(got[top], want[top]) for top in want)
    assert pitches(wide) != pitches(narrow)


def pitches(executor):
    """Return the distance between the rows of the result of every layer."""
    return {step.layers[0]: step.writes[0].pitch for step in executor.plan().steps}


def test_maps_around_a_short_sum_get_rows_as_far_apart():
    found = pitches(Executor(made("depthwise"), threads=1))
    assert found["b"] == found["c"] == 16  # 15 pixels, and the padding that "d" reads
    found = pitches(Executor(made("residual"), threads=1))
    assert {found[name] for name in "abcd"} == {31}  # 29 pixels, and the padding that "f" reads


def test_what_the_caller_sees_stays_whole():
    net = made("depthwise")
    executor = Executor(net, threads=1)
    steps = executor.plan(blobs=["b", "e"]).steps
    assert {s.layers[0]: s.writes[0].pitch for s in steps if s.layers[0] in ("b", "e")} == {
        "b": 15,
        "e": 15,
    }


def test_long_sums_are_not_worth_a_gap():
    text = INPUT.replace("dim: 3 ", "dim: 600 ") + layer("a", "Pooling", ["data"], POOL)
    net, rng = (
        Net.parse(text + conv("b", "a", 8) + conv("c", "b", 8, SAME)),
        np.random.default_rng(0),
    )
    for name, shape in {"b": (8, 600, 1, 1), "c": (8, 8, 3, 3)}.items():
        weights = rng.standard_normal(shape).astype(np.float32)
        net.layer(name).blobs = [weights, np.zeros(len(weights), np.float32)]
    assert pitches(Executor(net, threads=1))["a"] == 29
    net.layer("b").blobs[0][:, 40:] = 0
    assert pitches(Executor(net, threads=1))["a"] == 30


def test_fully_connected_layers_read_maps_without_gaps():
    end = layer("ip", "InnerProduct", ["b"], "inner_product_param { num_output: 2 }")
    text = INPUT + conv("a", "data", 4, SAME) + conv("b", "a", 4, SAME) + end
    net, rng = Net.parse(text), np.random.default_rng(0)
    for name, shape in {"a": (4, 3, 3, 3), "b": (4, 4, 3, 3), "ip": (2, 4 * 33 * 29)}.items():
        weights = rng.standard_normal(shape).astype(np.float32)
        net.layer(name).blobs = [weights, np.zeros(len(weights), np.float32)]
    for step in Executor(net, threads=1).plan().steps:
        assert step.writes[0].contiguous == (step.layers[0] in ("b", "ip"))


def test_phase_planes_take_the_pitch_of_the_result():
    text = INPUT + conv("a", "data", 4, "kernel_size: 1 stride: 2") + conv("b", "a", 4, SAME)
    net, rng = Net.parse(text), np.random.default_rng(0)
    for name, shape in {"a": (4, 3, 1, 1), "b": (4, 4, 3, 3)}.items():
        weights = rng.standard_normal(shape).astype(np.float32)
        net.layer(name).blobs = [weights, np.zeros(len(weights), np.float32)]
    first, _ = Executor(net, threads=1).plan().steps
    assert first.planes.pitch == first.writes[0].pitch == 16  # 15 pixels


@pytest.mark.parametrize(("height", "pitch"), [(1, 4800), (8, 6000)])
def test_runs_end_with_the_last_pixel(height, pitch):
    """Not with the gap behind it, of which the arena has no memory; one row needs none."""
    text = INPUT.replace("dim: 33 dim: 29", f"dim: {height} dim: 6000") + conv("a", "data", 6)
    text += conv("b", "a", 14, "kernel_h: 1 kernel_w: 2 dilation: 1 dilation: 1200")
    end = layer("mean", "Pooling", ["b"], "pooling_param { pool: AVE global_pooling: true }")
    net, rng = Net.parse(text + end), np.random.default_rng(0)
    for name, shape in {"a": (6, 3, 1, 1), "b": (14, 6, 1, 2)}.items():
        weights = rng.standard_normal(shape).astype(np.float32)
        weights *= rng.random(shape) < 0.4
        net.layer(name).blobs = [weights, np.ones(len(weights), np.float32)]
    executor = Executor(net, threads=1)
    executor.run({"data": rng.random((1, 3, height, 6000), np.float32)})
    steps = executor.plan({"data": (1, 3, height, 6000)}).steps
    assert {s.layers[0]: s.writes[0].pitch for s in steps}["b"] == pitch


def test_one_row_is_one_run_however_far_apart_the_next_would_be():
    source = Tensor((1, 3, 1, 120))
    assert _run(source, Tensor((1, 4, 1, 21))) == Run(1, 21, 21, 21)
    source, target = Tensor((1, 3, 4, 20)), Tensor((1, 4, 4, 18), Border(gap=2))
    assert _run(source, target) == Run(1, 78, 78, 78)
    padded = Tensor((1, 4, 4, 18), Border(columns=2))
    assert _run(source, padded) == Run(4, 18, 20, 20)


def test_the_first_layer_of_bands_counts_with_its_buffer(monkeypatch):
    monkeypatch.setattr(bands, "WHOLE_BYTES", 0)
    text = NETS["depthwise"].split('layer { name: "e"')[0] + conv("x", "b", 4)
    net, rng = Net.parse(INPUT + text), np.random.default_rng(0)
    shapes = {"a": (8, 3, 3, 3), "b": (8, 1, 3, 3), "c": (12, 8, 1, 1), "d": (12, 1, 3, 3)}
    for name, shape in {**shapes, "x": (4, 8, 1, 1)}.items():
        weights = rng.standard_normal(shape).astype(np.float32)
        net.layer(name).blobs = [weights, np.zeros(len(weights), np.float32)]
    steps = Executor(net, threads=1).plan().steps
    chain = next(step for step in steps if step.layers == ("c", "d"))
    assert chain.name == "bands"
    assert chain.reads[0].pitch == chain.buffers[0].pitch == 16


def test_taps_of_a_phase_span_some_rows_of_its_plane():
    """And not the planes of all phases: a tile of pixels would seem to leave the cache."""
    weights = np.ones((4, 3, 11, 11), np.float32)
    spec = ConvolutionSpec(weights, None, (4, 4), (0, 0), (1, 1), 1)
    planes = phase_planes(spec, 1, 3, 55, 57)
    assert Matrix.of(spec, planes, Tensor((1, 4, 55, 55))).shape.span == 2 * 57 + 2


def test_rows_of_seven_pixels_lie_a_vector_apart_unless_a_dense_tile_runs():
    """Seven rows of seven are seven vectors of eight, and so are seven rows with a gap."""
    text = INPUT.replace("dim: 33 dim: 29", "dim: 7 dim: 7")
    net = Net.parse(text + conv("a", "data", 16) + conv("b", "a", 32) + conv("c", "b", 4, SAME))
    rng = np.random.default_rng(0)
    for name, shape in {"a": (16, 3, 1, 1), "b": (32, 16, 1, 1), "c": (4, 32, 3, 3)}.items():
        net.layer(name).blobs = [rng.random(shape, np.float32), np.zeros(shape[0], np.float32)]
    program = lower_net(net, {"data": (1, 3, 7, 7)}, ["c"])
    walks = {isa: Walk.of(program.nodes[1], isa) for isa in ("avx2", "avx512")}
    assert [walk.dense for walk in walks.values()] == [False, True]
    source, target = program.nodes[1].reads[0], program.nodes[1].writes[0]
    apart = {source: Border(), target: Border(1, 1)}
    alike = {source: Border(gap=1), target: Border(1, 1)}
    gain = {isa: walk.cycles(apart) - walk.cycles(alike) for isa, walk in walks.items()}
    assert gain["avx2"] > 0 and gain["avx512"] >= 0
    net.layer("b").blobs[0][:, ::2] = 0
    program = lower_net(net, {"data": (1, 3, 7, 7)}, ["c"])
    assert not Walk.of(program.nodes[1], "avx512").dense
