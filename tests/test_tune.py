"""Tiles chosen by timing: remembered, never another result, no error where none can be kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor, choose, costs, fit_costs
from caffe_scnn.engine.tile import Tile
from caffe_scnn.engine.tune import Tuner
from caffe_scnn.model.net import Net

TEXT = """
layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 24 dim: 20 dim: 20 } } }
layer { name: "a" type: "Convolution" bottom: "d" top: "a"
  convolution_param { num_output: 32 kernel_size: 3 pad: 1 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
  convolution_param { num_output: 24 kernel_size: 3 stride: 2 } }
layer { name: "e" type: "Convolution" bottom: "b" top: "e"
  convolution_param { num_output: 40 kernel_size: 1 } }
"""


@pytest.fixture
def net():
    rng = np.random.default_rng(0)
    net = Net.parse(TEXT)
    for name, shape in (("a", (32, 24, 3, 3)), ("b", (24, 32, 3, 3)), ("e", (40, 24, 1, 1))):
        weights = rng.standard_normal(shape).astype(np.float32)
        weights *= rng.random(shape) < 0.2
        net.layer(name).blobs = [weights, rng.standard_normal(shape[0]).astype(np.float32)]
    return net


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "caffe_scnn" / "tiles.json"


def test_tuning_changes_no_bit_and_is_remembered(net, memory):
    x = {"d": np.random.default_rng(1).standard_normal((1, 24, 20, 20)).astype(np.float32)}
    plain = Executor(net, threads=1, exact=True)
    tuned = Executor(net, threads=1, tune=True, exact=True)
    assert np.array_equal(plain.run(x)["e"], tuned.run(x)["e"])
    assert tuned.tuner.timed == 3
    assert all("timed" in step.why for step in tuned.plan().steps)
    again = Executor(net, threads=1, tune=True, exact=True)
    kernels = [step.kernel for step in again.plan().steps]
    assert again.tuner.timed == 0
    assert kernels == [step.kernel for step in tuned.plan().steps]
    assert len(json.loads(memory.read_text())) == 3


def test_the_form_of_a_dense_layer_is_timed_too(net, memory):
    net.layer("a").blobs[0][...] = 1  # a filled matrix
    plan = Executor(net, threads=1, tune=True).plan()
    chosen = {op for op, *_ in json.loads(memory.read_text()).values()}
    assert chosen & {"direct", "winograd2", "winograd4", "bf16x6"}
    timed = Executor(net, threads=1, tune=True)
    assert [step.kernel for step in timed.plan().steps] == [step.kernel for step in plan.steps]


def tiles():
    return [Tile("sconv", rows, 2, 1, float(rows), 16, "") for rows in (1, 2, 4)]


def test_the_fastest_is_chosen(memory):
    def build(tile):
        return lambda: sum(range(200_000 if tile.rows != 2 else 10))

    chosen = Tuner().choose("layer", tiles(), build)
    assert chosen.rows == 2
    assert "timed" in chosen.why


def test_what_only_timing_foresees_counts_against_a_tile(memory):
    def build(tile):
        return lambda: sum(range(10_000 if tile.rows == 1 else 30_000))

    plain = tiles()
    assert Tuner().choose("plain", plain, build).rows == 1
    surprised = [replace(plain[0], surprise=9.0), *plain[1:]]
    assert Tuner().choose("surprised", surprised, build).rows != 1


def test_a_damaged_memory_counts_as_empty_and_a_locked_one_is_no_error(memory, tmp_path):
    memory.parent.mkdir()
    memory.write_text("{ not json")
    assert Tuner().choose("layer", tiles(), lambda tile: list).rows in (1, 2, 4)
    (tmp_path / "file").touch()
    locked = Tuner(tmp_path / "file" / "tiles.json")
    assert locked.choose("layer", tiles(), lambda tile: list).rows in (1, 2, 4)


def test_a_tile_that_no_longer_exists_is_timed_anew(memory):
    tuner = Tuner()
    tuner.choose("layer", tiles(), lambda tile: list)
    tuner.known = {key: ["sconv", 16, 16, 16] for key in tuner.known}
    tuner.choose("layer", tiles(), lambda tile: list)
    assert tuner.timed == 2


def test_costs_fitted_on_this_machine_are_kept_and_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    costs.costs_for.cache_clear()
    isa = _kernels.best_isa()
    monkeypatch.setattr(fit_costs, "LAYERS", (fit_costs.Layer(16, 8, 1, 7),))
    monkeypatch.setattr(fit_costs, "DENSITIES", (0.2, 1.0))
    seen = []
    try:
        found = fit_costs.calibrate(isa, seen.append)
        assert seen == [1, 1]
        assert (found.fitted_regrets >= 1).all() and (found.before_regrets >= 1).all()
        assert costs.costs_path().exists() == found.better
        costs.keep_costs(isa, found.fitted)
        assert costs.costs_for(isa) == found.fitted
        costs.costs_for.cache_clear()
        assert costs.costs_for(isa) == found.fitted
        costs.costs_path().write_text("{nonsense")
        costs.costs_for.cache_clear()
        assert costs.costs_for(isa) == costs.shipped_costs(isa)
    finally:
        costs.costs_for.cache_clear()


def test_what_was_timed_on_other_kernels_is_timed_anew(net, memory, monkeypatch):
    Executor(net, threads=1, tune=True, exact=True).plan()
    monkeypatch.setattr(_kernels, "revision", lambda: "another")
    again = Executor(net, threads=1, tune=True, exact=True)
    again.plan()
    assert again.tuner.timed == 3


def test_processors_of_each_maker_have_costs_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = {}
    try:
        for vendor in ("AuthenticAMD", "GenuineIntel", ""):
            monkeypatch.setattr(costs, "vendor", lambda name=vendor: name)
            costs.costs_for.cache_clear()
            found[vendor] = costs.costs_for("avx512"), costs.costs_for("scalar")
    finally:
        costs.costs_for.cache_clear()
    assert found["AuthenticAMD"] == found[""] == (costs.COSTS["avx512"], costs.COSTS["scalar"])
    assert found["GenuineIntel"][0] != found[""][0] and found["GenuineIntel"][1] == found[""][1]


def test_the_dense_tile_counts_when_costs_are_judged():
    dense = costs.DenseCosts(1.0, 1.0, 1.0)
    tiles = choose.candidates("scalar", np.ones((4, 9), np.float32), 1, choose.Shape(16, 1, 2))
    us = np.arange(1.0, len(tiles.rows) + 1)
    measured = fit_costs.Measured(tiles, us, np.array([10.0, 20.0, 30.0]), 0.5)
    assert measured.best == 0.5
    assert measured.chosen(np.full(len(us), 61.0), dense) == 0.5
    assert measured.chosen(np.full(len(us), 59.0), dense) == 1.0
    assert measured.chosen(np.full(len(us), 61.0), None) == 1.0


@pytest.mark.parametrize(
    "fault",
    [{"overlap": 0}, {"near": float("nan")}, {"store": -1}, {"far": 10**400}, {"dense": None}],
)
def test_costs_that_are_none_are_not_used(tmp_path, monkeypatch, fault):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    costs.costs_for.cache_clear()
    try:
        path = costs.costs_path()
        path.parent.mkdir()
        path.write_text(json.dumps({"another machine": {"avx512": {}}}))
        fitted = replace(costs.COSTS["avx512"], entry=0.123)
        costs.keep_costs("avx512", fitted)
        assert costs.costs_for("avx512") == fitted
        known = json.loads(path.read_text())
        assert known.pop("another machine") == {"avx512": {}}
        ((machine, of_this),) = known.items()
        path.write_text(json.dumps({machine: {"avx512": of_this["avx512"] | fault}}))
        costs.costs_for.cache_clear()
        assert costs.costs_for("avx512") == costs.shipped_costs("avx512")
    finally:
        costs.costs_for.cache_clear()
