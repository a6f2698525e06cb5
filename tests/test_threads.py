"""How many threads a net runs on where nobody says."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_scnn.decompose.costs import Meter
from caffe_scnn.engine import Executor
from caffe_scnn.engine import threads as threads_module
from caffe_scnn.evaluate.benchmark import benchmark, compare_speed
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net

# 16 · 8 · 9 · 900 = 1,036,800 multiply-accumulates a picture
TEXT = """
name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 8 dim: 30 dim: 30 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 16 kernel_size: 3 pad: 1 } }
"""
MACS = 1_036_800


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


@pytest.mark.parametrize(("limit", "threads"), [(MACS, 2), (MACS + 1, 1)])
def test_small_nets_run_on_one_thread_unless_more_are_asked_for(net, monkeypatch, limit, threads):
    monkeypatch.setattr(threads_module, "SERIAL_MACS", limit)
    assert threads_of(net) == threads
    assert threads_of(net, threads=2) == 2
    assert threads_of(net, threads=1) == 1


def test_a_batch_counts_and_zeros_do_not(net, monkeypatch):
    monkeypatch.setattr(threads_module, "SERIAL_MACS", 3 * MACS)
    assert [threads_of(net, items) for items in (2, 3)] == [1, 2]
    net.layer("conv").blobs[0][:8] = 0
    assert [threads_of(net, items) for items in (5, 6)] == [1, 2]


def test_what_is_timed_says_on_how_many_threads(net, monkeypatch):
    monkeypatch.setattr(threads_module, "SERIAL_MACS", MACS + 1)
    inputs = {"data": np.ones((1, 8, 30, 30), np.float32)}
    assert benchmark(net, inputs, repeat=1).threads == 1
    assert benchmark(net, inputs, threads=2, repeat=1).threads == 2
    smaller = Net.parse(TEXT)
    bind(smaller, None)  # no weights are left: alone it would run on one thread
    assert compare_speed(net, smaller, inputs, repeat=1).threads == 2


def test_layers_are_timed_on_the_threads_that_whole_nets_use(net, monkeypatch):
    asked = []
    original = Executor.__init__

    def noted(self, net, *args, **options):
        asked.append(options["threads"])
        original(self, net, *args, **options)

    monkeypatch.setattr(Executor, "__init__", noted)
    meter = Meter(net, timed=True)
    meter.of_chains([(net.layer("conv"), [net.layer("conv")])])
    meter.of_net(net)
    assert asked == [2, 2]
