"""How many threads a net runs on where nobody says."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_scnn.decompose.costs import Meter
from caffe_scnn.engine import Executor
from caffe_scnn.engine import threads as threads_module
from caffe_scnn.engine.threads import MOVED, MULTIPLY_ADD, STREAMED
from caffe_scnn.errors import KernelError
from caffe_scnn.evaluate.benchmark import benchmark, compare_speed
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net

TEXT = """
name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 8 dim: 30 dim: 30 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 16 kernel_size: 3 pad: 1 } }
"""
# 16 · 8 · 9 · 900 multiply-accumulates a picture, 16 · 900 values, and 16 · 8 · 9 weights
CYCLES = MULTIPLY_ADD * 1_036_800 + MOVED * 14_400 + STREAMED * 1_152


@pytest.fixture
def net(monkeypatch):
    """A net whose convolution two threads of two share."""
    monkeypatch.setattr(threads_module, "SERIAL_CYCLES", 0)
    monkeypatch.setattr("caffe_scnn._kernels.processors", lambda: 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("caffe_scnn._kernels.openmp", lambda: True)
    made = Net.parse(TEXT)
    bind(made, None)
    made.layer("conv").blobs[0][...] = 1
    return made


def threads_of(net, items=1, **options):
    return Executor(net, **options).plan({"data": (items, 8, 30, 30)}).threads


@pytest.mark.parametrize(("limit", "threads"), [(CYCLES - 1, 2), (CYCLES + 1, 1)])
def test_small_nets_run_on_one_thread_unless_more_are_asked_for(net, monkeypatch, limit, threads):
    monkeypatch.setattr(threads_module, "SERIAL_NET_CYCLES", limit)
    assert threads_of(net) == threads
    assert threads_of(net, threads=2) == 2
    assert threads_of(net, threads=1) == 1


def test_a_batch_counts_and_zeros_do_not(net, monkeypatch):
    monkeypatch.setattr(threads_module, "SERIAL_NET_CYCLES", 2.5 * CYCLES)
    assert [threads_of(net, items) for items in (2, 3)] == [1, 2]
    net.layer("conv").blobs[0][:8] = 0  # the values are there still
    assert [threads_of(net, items) for items in (4, 5)] == [1, 2]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        # 2.4 million weights, each read once for one multiply-accumulate
        ('type: "InnerProduct" inner_product_param { num_output: 1000 }', (1, 2400)),
        # no multiply-accumulate, 1.4 million values
        ('type: "LRN"', (1, 30, 300, 160)),
    ],
)
def test_weights_and_values_count_as_work(net, layer, shape):
    dims = " ".join(f"dim: {size}" for size in shape)
    text = (
        f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}'
    )
    made = Net.parse(f'{text} layer {{ name: "only" bottom: "data" top: "only" {layer} }}')
    bind(made, None)
    for blob in made.layer("only").blobs:
        blob[...] = 1
    assert Executor(made).plan().threads == 2


@pytest.fixture
def plans(monkeypatch):
    """On how many threads each plan runs that is made."""
    made = []
    original = Executor.plan

    def noted(self, *args):
        plan = original(self, *args)
        made.append(plan.threads)
        return plan

    monkeypatch.setattr(Executor, "plan", noted)
    return made


@pytest.mark.parametrize(("limit", "threads"), [(CYCLES - 1, 2), (CYCLES + 1, 1)])
def test_nets_are_compared_on_the_threads_of_the_original(net, plans, monkeypatch, limit, threads):
    monkeypatch.setattr(threads_module, "SERIAL_NET_CYCLES", limit)
    inputs = {"data": np.ones((1, 8, 30, 30), np.float32)}
    smaller = Net.parse(TEXT)
    bind(smaller, None)  # no weights are left: alone it would run on one thread
    assert compare_speed(net, smaller, inputs, repeat=1).threads == threads
    assert benchmark(smaller, inputs, against=net, repeat=1).threads == threads
    assert set(plans) == {threads}
    plans.clear()
    assert benchmark(smaller, inputs, against=net, threads=2, repeat=1).threads == 2
    assert set(plans) == {2}


@pytest.mark.parametrize(("limit", "threads"), [(CYCLES - 1, 2), (CYCLES + 1, 1)])
def test_layers_are_timed_on_the_threads_of_the_whole_net(net, plans, monkeypatch, limit, threads):
    monkeypatch.setattr(threads_module, "SERIAL_NET_CYCLES", limit)
    smaller = Net.parse(TEXT)
    bind(smaller, None)
    meter = Meter(net, timed=True)
    meter.of_chains([(net.layer("conv"), [smaller.layer("conv")])])
    meter.of_net(smaller)
    meter.speedup(net, smaller)
    assert set(plans) == {threads}


def test_more_threads_than_a_system_may_have_are_refused(net):
    with pytest.raises(KernelError, match="99999 threads: at most"):
        Executor(net, threads=99_999)
