"""Bases and the mix behind them, band by band: the bits of one convolution after the other."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_scnn.engine import Executor
from caffe_scnn.engine.ops import chain
from caffe_scnn.model.net import Net

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


def outputs(net, x, monkeypatch, whole, band, threads=1):
    """Run with these limits; return the results and the names of the ops."""
    monkeypatch.setattr(chain, "WHOLE_BYTES", whole)
    monkeypatch.setattr(chain, "BAND_BYTES", band)
    executor = Executor(net, threads=threads)
    result = executor.run({"data": x}, ["e", "next"])
    return result, [step.name for step in executor.plan({"data": x.shape}, ["e", "next"]).steps]


def test_bases_that_nobody_reads_have_no_weights(net, monkeypatch):
    monkeypatch.setattr(chain, "WHOLE_BYTES", 0)
    shapes = {"data": (2, 12, 23, 17)}

    def weights():
        steps = Executor(net, threads=1).plan(shapes, ["e", "next"]).steps
        return next(step.weight_bytes for step in steps if step.name == "chain")

    mix = net.layer("c/S").blobs[0]
    mix[:, 4:8] = 0  # all bases of one channel
    fewer = weights()
    mix[0, 4:8] = 1
    assert weights() >= fewer + 4 * 25 * 4


@pytest.mark.parametrize("rows", [1, 4, 23])
@pytest.mark.parametrize("threads", [1, 2])
def test_bands_change_no_bit(net, monkeypatch, rows, threads):
    x = np.random.default_rng(1).standard_normal((2, 12, 23, 17)).astype(np.float32)
    want, apart = outputs(net, x, monkeypatch, 1 << 60, 1)
    got, joined = outputs(net, x, monkeypatch, 0, 4 * 2 * 48 * 17 * rows, threads)
    assert "chain" in joined and "chain" not in apart
    assert len(joined) == len(apart) - 1
    for name in want:
        assert np.array_equal(got[name], want[name])


def test_bases_that_are_asked_for_stay_whole(net, monkeypatch):
    x = np.random.default_rng(1).standard_normal((2, 12, 23, 17)).astype(np.float32)
    monkeypatch.setattr(chain, "WHOLE_BYTES", 0)
    executor = Executor(net, threads=1)
    executor.run({"data": x}, ["c/Q", "c"])
    plan = executor.plan({"data": x.shape}, ["c/Q", "c"])
    assert "chain" not in [step.name for step in plan.steps]
