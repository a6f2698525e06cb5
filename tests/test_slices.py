"""Convolutions that run slice by slice with a depthwise one: the bits of one after the other."""

from __future__ import annotations

import os

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor
from caffe_scnn.engine import plan as plan_module
from caffe_scnn.engine import threads as threads_module
from caffe_scnn.engine.ops import bands, convolution, depthwise, slices
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net

ISAS = [isa for isa in _kernels.isas() if os.environ.get("CAFFE_SCNN_ISA") in (None, isa)]
TEXT = """
name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 6 dim: 23 dim: 19 } } }
layer { name: "other" type: "Convolution" bottom: "data" top: "other" convolution_param {
  num_output: 6 kernel_size: 3 pad: 1 } }
layer { name: "expand" type: "Convolution" bottom: "other" top: "expand" convolution_param {
  num_output: 37 kernel_size: 3 pad: 1 } }
layer { name: "prelu" type: "PReLU" bottom: "expand" top: "expand" }
layer { name: "depthwise" type: "Convolution" bottom: "expand" top: "depthwise" convolution_param {
  num_output: 37 group: 37 kernel_size: 5 pad: 2 stride: 2 bias_term: false } }
layer { name: "prelu2" type: "PReLU" bottom: "depthwise" top: "depthwise" }
layer { name: "project" type: "Convolution" bottom: "depthwise" top: "project" convolution_param {
  num_output: 6 kernel_size: 3 pad: 1 } }
layer { name: "more" type: "Convolution" bottom: "data" top: "more" convolution_param {
  num_output: 5 kernel_size: 3 pad: 1 } }
"""
SHAPES = {
    "other": [(6, 6, 3, 3), (6,)],
    "expand": [(37, 6, 3, 3), (37,)],
    "prelu": [(37,)],
    "depthwise": [(37, 1, 5, 5)],
    "prelu2": [(37,)],
    "project": [(6, 37, 3, 3), (6,)],
    "more": [(5, 6, 3, 3), (5,)],
}
PLANE = 4 * 23 * 19


def net_of(density, text=TEXT):
    rng, net = np.random.default_rng(0), Net.parse(text)
    for name, blobs in SHAPES.items():
        net.layer(name).blobs = [rng.standard_normal(b).astype(np.float32) for b in blobs]
        net.layer(name).blobs[0] *= rng.random(blobs[0]) < density
    return net


@pytest.fixture
def limits(monkeypatch):
    """Set from which size of a map on slices are used, how large they and their inputs are."""

    def change(whole, size=16 * PLANE, given=1 << 30):
        monkeypatch.setattr(slices, "WHOLE_BYTES", whole)
        monkeypatch.setattr(slices, "SLICE_BYTES", size)
        monkeypatch.setattr(slices, "INPUT_BYTES", given)

    return change


def outputs(net, blobs, threads=1, isa=None):
    """Run; return the results and the steps."""
    x = np.random.default_rng(1).standard_normal((2, 6, 23, 19)).astype(np.float32)
    executor = Executor(net, threads=threads, isa=isa, exact=True)
    return executor.run({"data": x}, blobs), executor.plan({"data": x.shape}, blobs)


def names(plan):
    return [step.name for step in plan.steps]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize(
    "channels, wide, pad", [(8, 8, 2), (13, 8, 0), (20, 16, 2), (37, 24, 1), (40, 37, 0)]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_slices_change_no_bit(limits, monkeypatch, isa, density, channels, wide, pad, threads):
    """The result's padding lies where other maps were before; the last slice is smaller."""
    monkeypatch.setattr(threads_module, "SERIAL_CYCLES", 0)
    text = TEXT.replace("kernel_size: 5 pad: 2", f"kernel_size: 5 pad: {pad}")
    net, blobs = net_of(density, text), ["project", "more"]
    limits(1 << 60)
    want, apart = outputs(net, blobs, threads, isa)
    limits(0, channels * PLANE)
    got, joined = outputs(net, blobs, threads, isa)
    assert "slices" not in names(apart)
    (step,) = (step for step in joined.steps if step.name == "slices")
    assert step.buffer.channels == wide
    assert len(joined.steps) == len(apart.steps) - 1
    for name in blobs:
        assert np.array_equal(got[name], want[name])


def test_the_map_between_is_never_whole(limits):
    net = net_of(0.5)
    limits(1 << 60)
    _, apart = outputs(net, ["project"])
    limits(0, 8 * PLANE)
    _, joined = outputs(net, ["project"])
    (step,) = (step for step in joined.steps if step.name == "slices")
    assert step.why.startswith("slices of 8 channels, the first: density 0.")
    assert step.layers == ("expand", "prelu", "depthwise", "prelu2")
    assert list(step.slices) == [0, 8, 16, 24, 32] and step.buffer.channels == 8
    first, last = apart.steps[1:3]
    for name in ("macs", "nonzero_macs"):
        assert getattr(step, name) == getattr(first, name) + getattr(last, name)
        assert abs(sum(getattr(part, name) for part in step.parts()) - getattr(step, name)) < 10
    assert step.weight_bytes == sum(part.weight_bytes for part in step.parts()) > 4 * 37 * 25
    convolution, depthwise = step.slices[0]
    assert step.kernel.split()[:2] == [convolution.kernel, depthwise.kernel]
    assert depthwise.layers == ("depthwise", "prelu2")
    whole, part = 2 * 37 * PLANE, 8 * 4 * (23 + 4) * (19 + 4)  # two items; one slice with its halo
    assert joined.activation_bytes < apart.activation_bytes - whole + part


@pytest.mark.parametrize(
    "whole, size, given, blobs",
    [
        (37 * PLANE, 16 * PLANE, 1 << 30, ["project"]),  # it stays in the cache as it is
        (0, 8 * PLANE - 1, 1 << 30, ["project"]),  # planes are too large
        (0, 16 * PLANE, 6 * PLANE - 1, ["project"]),  # every slice would read much
        (0, 16 * PLANE, 1 << 30, ["expand", "project"]),  # somebody wants it
    ],
)
def test_where_slices_do_not_pay(limits, whole, size, given, blobs):
    limits(whole, size, given)
    assert "slices" not in names(outputs(net_of(1.0), blobs)[1])


def test_maps_that_do_not_grow_are_not_sliced(limits, monkeypatch):
    limits(0)
    for growth, found in ((37 / 6, True), (37 / 6 + 1e-3, False)):
        monkeypatch.setattr(slices, "GROWTH", growth)
        assert ("slices" in names(outputs(net_of(1.0), ["project"])[1])) == found


def test_what_is_just_small_enough_is_sliced(limits):
    limits(37 * PLANE - 1, 8 * PLANE, 6 * PLANE)
    assert "slices" in names(outputs(net_of(1.0), ["project"])[1])


@pytest.mark.parametrize(
    "change",
    [
        ("num_output: 37 kernel_size: 3", "num_output: 37 kernel_size: 3 stride: 2"),
        ("num_output: 37 kernel_size: 3", "num_output: 37 group: 2 kernel_size: 3"),
        ("group: 37 kernel_size: 5", "kernel_size: 5"),
    ],
)
def test_other_layers_stay_apart(limits, monkeypatch, change):
    monkeypatch.setattr(slices, "GROWTH", 0)
    found, wanted = change
    if "group: 2" in wanted:  # of as many channels as the groups share
        text = TEXT.replace(found, wanted).replace("37", "38")
    else:
        text = TEXT.replace(found, wanted)
    net = Net.parse(text)
    bind(net, None)
    limits(0)
    assert "slices" not in names(outputs(net, ["project"])[1])


def test_channels_that_the_first_layer_multiplies_by_zero_are_not_computed(limits):
    net = net_of(1.0)
    net.layer("expand").blobs[0][:, 2:5] = 0
    sizes = []
    for whole in (1 << 60, 0):
        limits(whole)
        sizes.append(outputs(net, ["project"])[1].steps[0].weight_bytes)
    assert sizes[0] == sizes[1]
    net.layer("expand").blobs[0][0, 2:5] = 1
    assert outputs(net, ["project"])[1].steps[0].weight_bytes > sizes[1]


def test_a_layer_in_another_form_stays_apart(limits, monkeypatch):
    def winograd(program, *_):
        for node in program.nodes:
            node.form = "winograd2" if node.name == "expand" else "direct"

    limits(0)
    monkeypatch.setattr(plan_module, "choose_forms", winograd)
    plan = Executor(net_of(1.0), threads=1).plan({"data": (2, 6, 23, 19)}, ["project"])
    assert "slices" not in names(plan) and any(name.startswith("winograd") for name in names(plan))


def test_a_sum_before_the_depthwise_layer_is_kept(limits):
    rng = np.random.default_rng(0)
    text = TEXT.replace(
        'layer { name: "prelu" ',
        """layer { name: "again" type: "Convolution" bottom: "other" top: "again"
  convolution_param { num_output: 37 kernel_size: 1 bias_term: false } }
layer { name: "sum" type: "Eltwise" bottom: "expand" bottom: "again" top: "sum" }
layer { name: "prelu" """,
    )
    text = text.replace('bottom: "expand" top: "expand"', 'bottom: "sum" top: "sum"')
    text = text.replace('bottom: "expand" top: "depthwise"', 'bottom: "sum" top: "depthwise"')
    net = net_of(1.0, text)
    net.layer("again").blobs = [rng.standard_normal((37, 6, 1, 1)).astype(np.float32)]
    limits(1 << 60)
    want, _ = outputs(net, ["project"])
    limits(0)
    got, _ = outputs(net, ["project"])
    assert np.array_equal(got["project"], want["project"])


def test_one_layer_on_two_threads_makes_it_two(limits, monkeypatch):
    """So denormal numbers count as zero on both."""
    monkeypatch.setattr(convolution, "threads_for", lambda cycles, threads: 1)
    monkeypatch.setattr(depthwise, "threads_for", lambda cycles, threads: threads)
    net = net_of(1.0)
    limits(0, 8 * PLANE)
    (step,) = (step for step in outputs(net, ["project"], 2)[1].steps if step.name == "slices")
    assert {op.threads for pair in step.slices.values() for op in pair} == {1, 2}
    assert step.threads == 2


def test_bands_leave_slices_alone(limits, monkeypatch):
    """Neither side of slices is drawn into a chain of layers that run band by band."""
    monkeypatch.setattr(bands, "LEAST_PIXELS", 20)
    net, want = net_of(1.0), None
    for whole in (1 << 60, 0):
        monkeypatch.setattr(bands, "WHOLE_BYTES", whole)
        limits(whole)
        got, plan = outputs(net, ["project"])
        want = got if want is None else want
        assert np.array_equal(got["project"], want["project"])
    assert names(plan) == ["convolution", "slices", "convolution", "convolution"]
