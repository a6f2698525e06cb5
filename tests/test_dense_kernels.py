"""The dense convolution along channels: every tile, groups, edges, and nothing outside."""

from __future__ import annotations

import os
from itertools import product

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine import choose
from caffe_scnn.engine.choose import candidates, dense_tiles, rank_tiles
from caffe_scnn.engine.costs import COSTS
from caffe_scnn.engine.dense import dense_convolution
from caffe_scnn.engine.packing import Finish, Taps
from caffe_scnn.engine.tensor import Border, Tensor
from caffe_scnn.engine.tile import Shape, Tile
from caffe_scnn.errors import KernelError

CAP = os.environ.get("CAFFE_SCNN_ISA")
TILES = [
    (isa, pixels, vectors, lanes)
    for _, op, isa, pixels, vectors, lanes in _kernels.kernels()
    if op == "dense" and isa in _kernels.isas() and CAP in (None, isa)
]
CANARY = np.float32(-77.25)
ULP = 2.0**-24

pytestmark = pytest.mark.skipif(not TILES, reason="no such kernels for this instruction set")


def convolve(tile, weights, x, finish, groups=1, residual=None, threads=1):
    """Run a 2x3 kernel on padded planes with NaN behind them; canaries stand around the result."""
    isa, pixels, vectors, lanes = tile
    items, channels, height, width = x.shape
    source = Tensor(x.shape, Border(1, 2, True))
    target = Tensor((items, len(weights), height - 1, width - 2), Border(1, 1, True))
    target.at = source.size + 160
    added = Tensor(target.shape, target.border, at=target.at + target.size + 160)
    memory = np.full(added.at + added.size + 160, CANARY)
    memory[: source.size] = 0
    source.array(memory)[...] = x
    if residual is not None:
        added.array(memory)[...] = residual
    before = memory.copy()
    tap = np.arange(2)[:, None] * source.pitch + np.arange(3)
    offset = np.arange(channels)[:, None] * source.plane + tap.ravel()
    kernel, _ = dense_convolution(
        isa,
        Tile("dense", pixels, vectors, 1, 0.0, lanes, ""),
        weights.reshape(len(weights), -1),
        Taps(offset.reshape(groups, -1), 6),
        finish,
        0,
    )
    kernel.bind(
        memory, source.planes(), memory, target.planes(),
        None if residual is None else added.planes(), items, threads,
    )()  # fmt: skip
    outside = np.ones(len(memory), bool)
    outside[target.at : target.at + target.size] = False
    assert np.array_equal(memory[outside], before[outside])
    result = target.array(memory).copy()
    target.array(memory)[...] = 0
    halo = memory[target.at : target.at + target.size]
    assert (halo[halo != CANARY] == 0).all()  # slack behind a plane is left as it was
    return result


def reference(weights, x, groups):
    """The sums in float64, and the sums of absolute products."""
    channels = x.shape[1] // groups
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (2, 3), (2, 3))
    parts = []
    per_group = len(weights) // groups
    for g in range(groups):
        w = weights[g * per_group : (g + 1) * per_group].astype(np.float64)
        part = windows[:, g * channels : (g + 1) * channels]
        parts.append((np.einsum("ochw,ncyxhw->noyx", w, part),
                      np.einsum("ochw,ncyxhw->noyx", np.abs(w), np.abs(part))))  # fmt: skip
    return tuple(np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))


@pytest.mark.parametrize("tile", TILES, ids=lambda t: f"{t[1]}x{t[2]}v__{t[0]}")
def test_every_tile_at_every_edge(tile):
    _, pixels, vectors, lanes = tile
    rng = np.random.default_rng(pixels)
    block = vectors * lanes
    for width, outputs in product((1, pixels, 2 * pixels - 1), (1, block - 1, block, block + 3)):
        weights = rng.standard_normal((outputs, 5, 2, 3)).astype(np.float32)
        weights[:, 2] = 0  # an input channel that nobody reads
        weights[1:-1:3] = 0  # filters without weights are moved behind the others
        x = rng.standard_normal((2, 5, 4, width + 2)).astype(np.float32)
        bias = rng.standard_normal(outputs).astype(np.float32)
        want, size = reference(weights, x, 1)
        got = convolve(tile, weights, x, Finish(bias))
        column = bias[:, None, None]
        limit = 32 * ULP * (size + np.abs(column))
        assert (np.abs(got - want - column) <= limit).all(), (width, outputs)


@pytest.mark.parametrize("threads", [1, 3])
def test_groups_slopes_clamps_and_residuals(threads):
    rng = np.random.default_rng(0)
    tile = TILES[-1]
    weights = rng.standard_normal((2 * 37, 3, 2, 3)).astype(np.float32)
    x = rng.standard_normal((2, 6, 5, 21)).astype(np.float32)
    bias, slope = rng.standard_normal((2, 74)).astype(np.float32)
    residual = rng.standard_normal((2, 74, 4, 19)).astype(np.float32)
    got = convolve(tile, weights, x, Finish(bias, slope, -1.5, 2.5), 2, residual, threads)
    want, size = reference(weights, x, 2)
    want = want + bias[:, None, None] + residual
    want = np.clip(np.where(want < 0, want * slope[:, None, None], want), -1.5, 2.5)
    limit = 32 * ULP * (size + np.abs(bias[:, None, None]) + np.abs(residual)) * 3
    assert (np.abs(got - want) <= limit).all()


@pytest.fixture
def costs_of_the_table(monkeypatch):
    """Choose as on the processor whose costs are the default, whatever this one is."""
    monkeypatch.setattr(choose, "costs_for", COSTS.__getitem__)


def test_dense_layers_choose_it_and_sparse_ones_do_not(costs_of_the_table):
    rng = np.random.default_rng(0)
    isa = TILES[0][0]
    weights = rng.standard_normal((256, 1152)).astype(np.float32)
    shape = Shape(14 * 15 - 1, 128, 32)
    assert rank_tiles(isa, weights, 1, shape, None, (14, 14))[0].op == "dense"
    weights *= rng.random(weights.shape) < 0.1
    assert rank_tiles(isa, weights, 1, shape, None, (14, 14))[0].op == "sconv"


def along_channels(weights, groups, height, width):
    isa = TILES[0][0]
    return dense_tiles(isa, weights, groups, height, width, COSTS[isa].dense)


def test_columns_without_weights_cost_nothing():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((64, 90)).astype(np.float32)
    (whole,) = along_channels(weights, 1, 14, 14)
    weights[:, ::2] = 0
    (half,) = along_channels(weights, 1, 14, 14)
    assert half.cycles < 0.6 * whole.cycles


def test_two_short_rows_cost_less_than_twice_one():
    weights = np.random.default_rng(0).standard_normal((64, 90)).astype(np.float32)
    for width, shared in ((7, True), (8, False)):
        (one,), (two,) = (along_channels(weights, 1, rows, width) for rows in (1, 2))
        assert (two.cycles < 2 * one.cycles) == shared


def test_filters_without_weights_cost_nothing():
    rng = np.random.default_rng(0)
    isa, pixels, vectors, lanes = TILES[0]
    weights = rng.standard_normal((2, 96, 90)).astype(np.float32)
    weights[:, 1::3] = 0
    weights[:, 2::3] = 0
    weights, kept = weights.reshape(192, 90), weights[:, ::3].reshape(64, 90)
    (sparse,), (narrow,) = (along_channels(w, 2, 14, 14) for w in (weights, kept))
    stores = along_channels(np.zeros_like(weights[:128]), 2, 14, 14)[0].cycles
    assert sparse.cycles == pytest.approx(narrow.cycles + stores)
    tile = Tile("dense", pixels, vectors, 1, 0.0, lanes, "")
    taps = Taps(np.arange(180).reshape(2, 90))
    sizes = [dense_convolution(isa, tile, w, taps, Finish(), 0)[1] for w in (weights, kept)]
    assert sizes[0] == sizes[1]


def test_operands_outside_their_memory_are_refused():
    isa, pixels, vectors, lanes = TILES[0]
    tile = Tile("dense", pixels, vectors, 1, 0.0, lanes, "")
    weights = np.ones((2, 3), np.float32)
    kernel, _ = dense_convolution(isa, tile, weights, Taps(np.array([[0, 40, 90]])), Finish(), 0)
    memory = np.zeros(100, np.float32)
    source = _kernels.Planes(0, 1, 2, 5, 5, 0, 10)
    with pytest.raises(KernelError, match="outside"):
        kernel.bind(memory, source, memory, _kernels.Planes(60, 2, 3, 5, 5, 0, 15), None, 1, 1)
    with pytest.raises(KernelError, match="outside"):
        kernel.bind(memory, source, memory, _kernels.Planes(60, 1, 1, 5, 5, 0, 5), None, 1, 1)


def test_parts_of_rows_end_by_surprise_and_count_for_more(costs_of_the_table):
    chance = np.random.default_rng(4).random((2, 96, 576)).astype(np.float32)
    weights = np.where(chance[0] < 0.1, chance[1], np.float32(0))
    tiles = candidates("avx2", weights, 1, Shape(196, 576, 0))
    surprised = tiles.surprises() > 0
    assert np.array_equal(surprised, (tiles.rows == 1) & (tiles.parts > 1)) and surprised.any()
    ranked = rank_tiles("avx2", weights, 1, Shape(196, 576, 0))
    assert all((tile.surprise > 0) == (tile.rows == 1 < tile.parts) for tile in ranked)
    foreseen = tiles.parts[np.argmin(tiles.cycles(COSTS["avx2"]))]
    assert ranked[0].parts < foreseen


def test_maps_from_memory_and_other_pitches_change_the_tile(costs_of_the_table):
    """Wide strips where maps come from memory; no flat run where its rows lie elsewhere."""
    weights = np.ones((48, 24), np.float32)
    near, far = (rank_tiles("avx512", weights, 1, Shape(n, 24, 0))[0] for n in (3136, 480_000))
    assert far.vectors > near.vectors
    weights = np.ones((384, 64), np.float32)
    flat, apart = (
        rank_tiles("avx512", weights, 1, Shape(196, 64, 0, placed), None, (14, 14))[0]
        for placed in (0, 10)
    )
    assert (flat.op, apart.op) == ("sconv", "dense")
