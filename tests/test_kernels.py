"""Kernels against a float64 oracle: every tile × ISA, sizes around each edge, canaries.

To add a kernel: write it, add its line to kernels/registry.inc, and the tests below that go over
``_kernels.kernels()`` run it. A new operation needs one test here: a naive float64 form, sizes
around a vector, NaN in everything the kernel must not read, canaries around what it may not write.

The bound on a dot product of K terms is the usual one, (K + 2)·2⁻²⁴·(|W||x| + |b|): it is derived,
not tuned, and a lost term breaks it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn._kernels import Planes
from caffe_scnn.engine import choose
from caffe_scnn.engine import tile as tile_module
from caffe_scnn.engine.choose import Candidates
from caffe_scnn.engine.costs import shipped_costs
from caffe_scnn.engine.packing import (
    AHEAD,
    ENTRIES_OF_END,
    Finish,
    Run,
    Taps,
    Tasks,
    _chunks,
    _work,
    convolution,
    stream,
)
from caffe_scnn.engine.tensor import Border, Tensor
from caffe_scnn.engine.tile import Shape
from caffe_scnn.errors import KernelError

CAP = os.environ.get("CAFFE_SCNN_ISA")
ISAS = [isa for isa in _kernels.isas() if CAP in (None, isa)]
TILES = [
    (isa, rows, v, lanes)
    for _, op, isa, rows, v, lanes in _kernels.kernels()
    if op == "sconv" and isa in ISAS
]
CANARY = np.float32(-77.25)
ULP = 2.0**-24


def bound(weights, x, bias):
    """Forward error bound of weights @ x + bias for float32 sums in any order."""
    terms = weights.shape[1] + 2
    return terms * ULP * (np.abs(weights) @ np.abs(x) + np.abs(bias)[:, None])


def random_weights(rng, channels, columns, density):
    weights = rng.standard_normal((channels, columns)).astype(np.float32)
    weights[rng.random(weights.shape) >= density] = 0
    if density < 1 and channels > 2:
        weights[1] = 0  # a channel without any weight
    return weights


def run_matrix(isa, rows, vectors, lanes, weights, x, bias, finish=None, threads=1, **options):
    """Multiply on one tile size; NaN behind the operands, canaries around the result."""
    channels, columns = weights.shape
    width = x.shape[1]
    whole = -(-width // lanes) * lanes
    memory = np.full(columns * whole, np.nan, np.float32)
    memory.reshape(columns, whole)[:, :width] = x
    target = np.full(channels * (width + 3) + 5, CANARY, np.float32)
    taps = Taps(np.arange(columns)[None] * whole)
    streams = stream(weights, taps, rows, options.get("parts", 1))
    kernel = convolution(
        isa,
        lanes,
        streams,
        taps,
        Run(1, width, width, width),
        finish or Finish(bias),
        vectors=vectors,
        base=0,
        tasks=Tasks(40, options.get("blocks_first", True)),
    )
    planes = Planes(5, channels, 1, width, width, 0, width + 3)
    kernel.bind(
        memory, Planes(0, columns, 1, width, width, 0, whole), target, planes, None, 1, threads
    )()
    rows_out = target[5:].reshape(channels, width + 3)
    assert (target[:5] == CANARY).all() and (rows_out[:, width:] == CANARY).all()
    return rows_out[:, :width]


@pytest.mark.parametrize(("isa", "rows", "vectors", "lanes"), TILES)
def test_every_tile_at_every_edge(isa, rows, vectors, lanes):
    rng = np.random.default_rng(rows * 100 + vectors)
    sizes = {1, lanes - 1, *(lanes * vectors * n + more for n in (1, 2) for more in (-1, 0, 1))}
    for width, channels, density in product(sorted(sizes), (1, rows + 1, 13), (0.0, 0.5, 1.0)):
        weights = random_weights(rng, channels, 23, density)
        x = rng.standard_normal((23, width)).astype(np.float32)
        bias = rng.standard_normal(channels).astype(np.float32)
        parts = 1 + channels % 3
        got = run_matrix(isa, rows, vectors, lanes, weights, x, bias, parts=parts)
        want = weights.astype(np.float64) @ x + bias[:, None]
        assert (np.abs(got - want) <= bound(weights, x, bias)).all(), (width, channels, density)


def test_the_bound_catches_one_lost_term():
    """The comparison itself can fail: drop the smallest weight of one row."""
    rng = np.random.default_rng(0)
    weights = random_weights(rng, 13, 23, 0.5)
    x = rng.standard_normal((23, 40)).astype(np.float32)
    bias = np.zeros(13, np.float32)
    want = weights.astype(np.float64) @ x
    damaged = weights.copy()
    row = damaged[0]
    row[np.flatnonzero(row)[np.abs(row[row != 0]).argmin()]] = 0
    assert (np.abs(damaged.astype(np.float64) @ x - want) > bound(weights, x, bias)).any()


@pytest.mark.parametrize("isa", ISAS)
def test_threads_and_task_order_do_not_change_a_bit(isa):
    rng = np.random.default_rng(1)
    lanes = next(tile[3] for tile in TILES if tile[0] == isa)
    weights = random_weights(rng, 37, 64, 0.3)
    x = rng.standard_normal((64, 11 * lanes)).astype(np.float32)
    bias = rng.standard_normal(37).astype(np.float32)
    one = run_matrix(isa, 1, 4 if lanes > 4 else 2, lanes, weights, x, bias)
    for threads, blocks_first in product((2, 3), (True, False)):
        many = run_matrix(
            isa,
            1,
            4 if lanes > 4 else 2,
            lanes,
            weights,
            x,
            bias,
            threads=threads,
            blocks_first=blocks_first,
        )
        assert np.array_equal(one, many)


def test_the_cost_of_a_run_is_that_of_tiles_of_nearly_one_size():
    """A last tile of one vector would take as long as one of two."""
    numbers = (np.array([n]) for n in (4, 3, 1, 640, 10))  # rows, vectors, parts, entries, blocks
    tiles = Candidates(*numbers, Shape(25 * 8 - 3, 64, 0), 8)
    costs = shipped_costs("avx2")
    of_two, of_three = (tiles._tile(costs, np.array([size])) for size in (2, 3))
    assert tiles.cycles(costs) == pytest.approx(2 * of_two + 7 * of_three)


@pytest.mark.parametrize(("lanes", "better"), [(8, True), (16, False)])
def test_pixels_past_which_weights_stream_are_worth_a_cache(lanes, better, monkeypatch):
    """Dense tiles hide what they transfer only if their weights stay near instead."""
    for module in (choose, tile_module):
        monkeypatch.setattr(
            module, "cache_bytes", lambda level: 32 << 10 if level == 1 else 1 << 19
        )
    parts = np.array([1, 8])
    numbers = np.array([[4], [3], [1], [64 * 512], [64]]).repeat(2, axis=1)
    shape = Shape(30 * lanes, 512, 0)
    tiles = Candidates(*numbers[:2], parts, *numbers[3:], shape, lanes)
    one, eight = tiles.cycles(shipped_costs("avx2"))
    assert (eight < one) == better


def test_weights_of_short_vectors_stream_past_many_pixels():
    streams = stream(np.ones((64, 512), np.float32), Taps(np.arange(512)[None]), 4)
    run = Run(1, 196, 196, 196)
    long, short = (Tasks.suited_to(streams, run, lanes, 1) for lanes in (16, 8))
    assert 2048 <= long.entries < 2064 and long.blocks_first
    assert short.entries > 16 * 512  # all blocks


@pytest.mark.parametrize(
    ("columns", "pixels", "blocks"),
    [(27, 20_000, 1), (16, 20_000, 1), (27, 4_000, 8), (40, 20_000, 8)],
)
def test_short_sums_of_a_large_result_are_stored_a_few_channels_at_a_time(columns, pixels, blocks):
    weights = np.ones((64, columns), np.float32)
    streams = stream(weights, Taps(np.arange(columns)[None]), 8)
    tasks = Tasks.suited_to(streams, Run(1, pixels, pixels, pixels), 16, 1)
    assert tasks.blocks_first
    assert min(8, tasks.entries // columns) == blocks


@pytest.mark.parametrize("isa", ISAS)
def test_slope_and_clamp(isa):
    lanes = next(tile[3] for tile in TILES if tile[0] == isa)
    weights = np.array([[1.0], [1.0], [1.0]], np.float32)
    x = np.array([[-9, -1, -0.0, 0.5, 7, np.nan]], np.float32)
    bias = np.zeros(3, np.float32)
    slopes = np.array([0.25, 0, 2], np.float32)
    relu6 = run_matrix(isa, 1, 1, lanes, weights, x, bias, Finish(bias, None, 0, 6))
    assert np.array_equal(relu6[0], [0, 0, 0, 0.5, 6, np.nan], equal_nan=True)
    prelu = run_matrix(isa, 1, 1, lanes, weights, x, bias, Finish(bias, slopes))
    want = np.where(x < 0, slopes[:, None] * x, x)
    assert np.array_equal(prelu, want, equal_nan=True)


@pytest.mark.parametrize(("step", "unit", "size"), [(7001, 0, 2), (9500, 0, 4), (80000, 4, 2)])
def test_offsets_take_16_bits_where_they_fit(step, unit, size):
    weights = random_weights(np.random.default_rng(2), 6, 9, 0.6)
    weights[:, 0] = 0  # offsets count from the first weight's
    streams = stream(weights, Taps(5 * (step % 16) + np.arange(9)[None] * step), 1)
    (part,) = streams.parts
    assert (streams.unit, part.offset.itemsize) == (unit, size)
    for row, (begin, end) in zip(streams.channel, pairwise(part.start), strict=True):
        position = part.origin + (part.offset[begin:end].astype(np.int64) << unit)
        assert np.array_equal(position, 5 * (step % 16) + np.flatnonzero(weights[row]) * step)


def test_single_channels_come_by_falling_number_of_weights():
    weights = random_weights(np.random.default_rng(1), 40, 30, 0.3)
    weights[20:, 10:] = 0  # the second group has fewer
    for groups in (1, 2):
        streams = stream(weights, Taps(np.tile(np.arange(30), (groups, 1))), 1, by_length=True)
        (part,) = streams.parts
        count, size = np.diff(part.start), 40 // groups
        assert np.array_equal(count, np.count_nonzero(weights, axis=1)[streams.channel])
        for begin in range(0, 40, size):
            assert (np.diff(count[begin : begin + size]) <= 0).all()
            assert sorted(streams.channel[begin : begin + size]) == [*range(begin, begin + size)]
    assert stream(weights, Taps(np.arange(30)[None]), 1).channel.tolist() == [*range(40)]


@pytest.mark.parametrize(("outputs", "threads"), [(32, 2), (24, 2), (28, 3), (8, 3)])
def test_threads_take_the_same_channels_of_all_groups(outputs, threads):
    rng = np.random.default_rng(3)
    groups, inputs = 3, 40
    weights = rng.standard_normal((groups * outputs, inputs)).astype(np.float32)
    taps = Taps(np.arange(groups * inputs).reshape(groups, inputs))
    streams = stream(weights, taps, 4, across=threads)
    assert sorted(streams.channel) == [*range(groups * outputs)]
    tasks = Tasks.suited_to(streams, Run(1, 16, 16, 16), 8, threads)
    chunks = _chunks(streams, tasks.entries)
    assert (len(chunks) - 1) % threads == 0
    if outputs % (4 * threads) == 0:
        shares = np.split(streams.channel % outputs, threads)
        assert [set(share) for share in shares] == [
            {*range(t * outputs // threads, (t + 1) * outputs // threads)} for t in range(threads)
        ]


def test_threads_get_rows_of_about_equal_work():
    lengths = np.repeat([60, 2], [32, 480])  # a quarter of the work is in the ends of rows
    weights = (np.arange(64) < lengths[:, None]).astype(np.float32)
    streams = stream(weights, Taps(np.arange(64)[None]), 1)
    chunks = _chunks(streams, -(-int(_work(streams)[-1]) // 2))
    work = np.diff((streams.parts[0].start + ENTRIES_OF_END * np.arange(513))[chunks])
    assert len(work) == 2 and work.max() < 1.02 * work.mean()
    assert chunks[1] > 100  # with ends that cost one entry it would be the 28th row


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("density", [0.0, 0.3])
def test_sparse_and_dense_vector_products(isa, density):
    rng = np.random.default_rng(3)
    for n, k in product((1, 4, 5, 63, 130), (1, 7, 16, 33, 200)):
        weights = random_weights(rng, n, k, density)
        x, bias = (rng.standard_normal(size).astype(np.float32) for size in (k, n))
        want = weights.astype(np.float64) @ x + bias
        limit = bound(weights, x[:, None], bias)[:, 0]
        row, column = np.nonzero(weights)
        start = np.searchsorted(row, np.arange(n + 1)).astype(np.int64)
        for threads in (1, 2):
            y = np.full(n, np.nan, np.float32)
            _kernels.Gemv(isa, weights, bias, x, y, threads)()
            assert (np.abs(y - want) <= limit).all()
            y[:] = np.nan
            _kernels.spmv(
                isa, start, column.astype(np.uint16), weights[row, column], bias, x, y, threads
            )
            assert (np.abs(y - want) <= limit).all()


def place(shape, border, at):
    """A tensor of planes in an arena full of canaries."""
    tensor = Tensor(shape, border)
    tensor.at = at
    return tensor


def halo_of(tensor, arena):
    """The values of a tensor's planes that are not pixels (nor the slack of aligned planes)."""
    used = tensor.lead + (tensor.height + tensor.border.rows) * tensor.pitch
    planes = arena[tensor.at : tensor.at + tensor.size].reshape(-1, tensor.plane)[:, :used]
    pixels = np.zeros(used, bool)
    for y in range(tensor.height):
        begin = tensor.lead + y * tensor.pitch
        pixels[begin : begin + tensor.width] = True
    return planes[:, ~pixels]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("method", ["max", "ave"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad"),
    [
        ((7, 9), (3, 3), (2, 2), (0, 0)),
        ((7, 9), (3, 3), (2, 2), (1, 1)),
        ((5, 40), (2, 3), (1, 2), (1, 0)),
        ((6, 6), (6, 6), (1, 1), (0, 0)),
        ((1, 1), (1, 1), (1, 1), (0, 0)),
        ((13, 5), (2, 2), (3, 3), (0, 0)),
        ((5, 33), (3, 3), (2, 2), (0, 0)),
        ((5, 67), (3, 3), (2, 2), (1, 1)),
        ((4, 37), (3, 3), (1, 1), (1, 1)),
        *(
            (size, (3, 3), (1, 1), (1, 1))
            for size in [(7, 7), (1, 9), (2, 8), (6, 15), (3, 1), (4, 16)]
        ),
        ((5, 14), (2, 3), (1, 1), (0, 1)),
        ((6, 13), (4, 3), (2, 1), (1, 1)),
        ((3, 66), (3, 3), (1, 1), (0, 0)),
        ((6, 64), (2, 2), (2, 2), (0, 0)),
        ((7, 31), (2, 2), (2, 2), (0, 0)),
        ((5, 41), (5, 4), (2, 2), (2, 2)),
    ],
)
def test_pooling_windows(isa, method, size, kernel, stride, pad):
    rng = np.random.default_rng(4)
    out = [
        -(-max(n + 2 * p - k, 0) // s) + 1
        for n, k, s, p in zip(size, kernel, stride, pad, strict=True)
    ]
    out = [
        o - 1 if any(pad) and (o - 1) * s >= n + p else o
        for o, n, s, p in zip(out, size, stride, pad, strict=True)
    ]
    if any((o - 1) * s - p >= n for o, s, p, n in zip(out, stride, pad, size, strict=True)):
        pytest.skip("this geometry has an empty window, which the engine leaves to the reference")
    source = place((2, 3, *size), Border(1, 1, True), 16)
    target = place((2, 3, *out), Border(2, 1, True), 16 + source.size)
    arena = np.full(target.at + target.size + 64, CANARY)
    arena[source.at : target.at] = np.nan  # around the pixels there is nothing to read
    x = rng.standard_normal(source.shape).astype(np.float32)
    source.array(arena)[...] = x
    scratch = np.empty((2, 2 * (size[1] + kernel[1] + 16)), np.float32)
    _kernels.Pooling(
        isa, method, arena, source.planes(), target.planes(), kernel, stride, pad, 2, scratch, 2
    )()
    want = np.empty(target.shape)
    for y, z in np.ndindex(*out):
        top, left = y * stride[0] - pad[0], z * stride[1] - pad[1]
        bottom = min(top + kernel[0], size[0] + pad[0])
        right = min(left + kernel[1], size[1] + pad[1])
        window = x[:, :, max(top, 0) : bottom, max(left, 0) : right].astype(np.float64)
        if method == "max":
            want[:, :, y, z] = window.max(axis=(2, 3))
        else:
            want[:, :, y, z] = window.sum(axis=(2, 3)) / ((bottom - top) * (right - left))
    terms = kernel[0] * kernel[1] + 2
    assert np.abs(target.array(arena) - want).max() <= terms * ULP * np.abs(x).max()
    assert (halo_of(target, arena) == 0).all()
    assert (arena[: source.at] == CANARY).all() and (
        arena[target.at + target.size :] == CANARY
    ).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (2, 3)])
@pytest.mark.parametrize(
    "out",
    [(1, 1), (5, 2), (7, 7), (7, 14), (14, 16), (9, 17), (13, 33), (15, 15), (22, 14), (29, 17)],
)
@pytest.mark.parametrize("pad", [0, 1])
def test_depthwise(isa, stride, kernel, out, pad):
    rng = np.random.default_rng(7)
    size = [(o - 1) * stride + k - 2 * pad for o, k in zip(out, kernel, strict=True)]
    size = [max(n, 1) for n in size]
    source, target = (
        place((2, 3, *size), Border(1, 1, True), 16),
        place((2, 3, *out), Border(2, 1), 0),
    )
    target.at = source.at + source.size
    arena = np.full(target.at + target.size + 256, CANARY)
    arena[source.at : target.at] = 0
    x = rng.standard_normal(source.shape).astype(np.float32)
    source.array(arena)[...] = x
    weights = rng.standard_normal((3, *kernel)).astype(np.float32)
    bias, slope = rng.standard_normal((2, 3)).astype(np.float32)
    conv = _kernels.Depthwise(
        isa, weights, bias, slope, (stride, stride), (1, 1), (pad, pad), -np.inf, 2.0
    )
    conv.bind(arena, source.planes(), target.planes(), 2, 2)()
    padded = np.pad(
        x.astype(np.float64), ((0, 0), (0, 0), (pad, pad + stride), (pad, pad + stride))
    )
    want, limit = (np.empty((2, 3, *out)) for _ in range(2))
    for y, z in np.ndindex(*out):
        top, left = y * stride, z * stride
        window = padded[:, :, top : top + kernel[0], left : left + kernel[1]]
        want[:, :, y, z] = (window * weights).sum(axis=(2, 3)) + bias
        limit[:, :, y, z] = np.abs(window * weights).sum(axis=(2, 3)) + np.abs(bias)
    limit *= (weights[0].size + 3) * ULP * np.maximum(1, np.abs(slope))[:, None, None]
    want = np.minimum(2, np.where(want < 0, want * slope[:, None, None], want))
    assert (np.abs(target.array(arena) - want) <= limit).all()
    assert (halo_of(target, arena) == 0).all()
    assert (arena[: source.at] == CANARY).all()
    assert (arena[target.at + target.size :] == CANARY).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 5, 7])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 7, 8, 9, 15, 17])
@pytest.mark.parametrize("gap", [0, 1, 3])
def test_depthwise_on_some_rows_leaves_the_others_alone(isa, stride, rows, width, gap):
    """They may be another thread's."""
    rng = np.random.default_rng(8)
    pitch, height = width * stride + 3, rows * stride + 2
    weights = rng.standard_normal((1, 3, 3)).astype(np.float32)
    x = rng.standard_normal((height, pitch)).astype(np.float32)
    at, below = x.size + 64, 4
    arena = np.full(at + (below + rows) * (width + gap) + 64, CANARY)
    arena[: x.size] = x.ravel()
    source = Planes(0, 1, height, pitch, pitch, 0, x.size + 64)
    target = Planes(at, 1, rows, width, width + gap, 0, rows * (width + gap))
    conv = _kernels.Depthwise(
        isa, weights, None, None, (stride, stride), (1, 1), (0, 0), -np.inf, np.inf
    )
    conv.bind(arena, source, target, 1, 1, False)()
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3))[::stride, ::stride]
    want = (windows[:rows, :width].astype(np.float64) * weights[0]).sum(axis=(2, 3))
    got = arena[at : at + rows * (width + gap)].reshape(rows, width + gap)
    assert np.abs(got[:, :width] - want).max() <= 64 * ULP
    assert np.isin(got[:-1, width:], [0, CANARY]).all() and (got[-1, width:] == CANARY).all()
    assert (arena[at + rows * (width + gap) :] == CANARY).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("beta", "k"), [(0.75, 1.0), (0.5, 2.0), (1.3, 1.0)])
@pytest.mark.parametrize("border", [Border(), Border(1, 2, True)])
def test_lrn(isa, beta, k, border):
    rng = np.random.default_rng(5)
    source, target = place((2, 7, 9, 33), Border(), 0), place((2, 7, 9, 33), border, 0)
    target.at = source.size
    arena = np.full(target.at + target.size + 16, CANARY)
    x = rng.standard_normal(source.shape).astype(np.float32) * 3
    source.array(arena)[...] = x
    _kernels.lrn(isa, arena, source.planes(), target.planes(), 5, 0.7, beta, k, 2, 2)
    square = np.pad(x.astype(np.float64) ** 2, ((0, 0), (2, 2), (0, 0), (0, 0)))
    total = sum(square[:, i : i + 7] for i in range(5))
    want = x * (k + 0.7 / 5 * total) ** -beta
    # five products and sums, then a power: (7 + beta·ln) ulp; 16 leaves powf its own ulps
    assert (np.abs(target.array(arena) - want) <= 16 * ULP * np.abs(want) + 1e-30).all()
    assert (halo_of(target, arena) == 0).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("k", [1e-20, 1.0, 1e10])
def test_lrn_of_all_magnitudes(isa, k):
    rng = np.random.default_rng(0)
    source = place((1, 1, 1, 20000), Border(), 0)
    target = place((1, 1, 1, 20000), Border(), source.size)
    arena = np.full(2 * source.size + 16, CANARY)
    x = np.exp(rng.uniform(-40, 40, source.shape)).astype(np.float32)
    source.array(arena)[...] = x
    _kernels.lrn(isa, arena, source.planes(), target.planes(), 1, 1.0, 0.75, k, 1, 1)
    want = x * (np.float32(k) + x.astype(np.float64) ** 2) ** -0.75
    # two roundings in the sum, three in what a quarter is taken of, two behind them
    limit = (0.75 * 2 + 0.25 * 3 + 2) * ULP * want
    assert (np.abs(target.array(arena) - want) <= limit).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", [3, 33, 300])
def test_lrn_of_sums_that_are_too_large(isa, width):
    source = place((1, 7, 1, width), Border(), 0)
    target = place((1, 7, 1, width), Border(), source.size)
    arena = np.full(2 * source.size + 16, CANARY)
    x = np.ones(source.shape, np.float32)
    # the square is infinite, and its power 0; so is the value; is none
    x[0, 3] = np.resize(np.array([1e25, np.inf, np.nan], np.float32), width)
    source.array(arena)[...] = x
    _kernels.lrn(isa, arena, source.planes(), target.planes(), 3, 0.3, 0.75, 1.0, 1, 1)
    want = x * np.float32(1.3) ** np.float32(-0.75)
    want[0, [0, 6]] = np.float32(1.2) ** np.float32(-0.75)
    want[0, 2:5] = 0
    want[0, 2:5, 0, 2::3] = want[0, 3, 0, 1::3] = np.nan
    assert np.allclose(target.array(arena), want, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("half", [0, 1, 2, 7])
@pytest.mark.parametrize("size", [(1, 1), (3, 15), (5, 64), (4, 65), (6, 147)])
def test_lrn_within(isa, half, size):
    rng = np.random.default_rng(6)
    source = place((2, 3, *size), Border(1, 1, True), 16)
    target = place((2, 3, *size), Border(2, 1, True), 16 + source.size)
    arena = np.full(target.at + target.size + 64, CANARY)
    arena[source.at : target.at] = np.nan  # around the pixels there is nothing to read
    x = rng.standard_normal(source.shape).astype(np.float32) * 3
    source.array(arena)[...] = x
    side, (height, width) = 2 * half + 1, size
    square = np.pad(x.astype(np.float64) ** 2, ((0, 0), (0, 0), (half, half), (half, half)))
    total = sum(square[:, :, i : i + height, j : j + width] for i, j in np.ndindex((side, side)))
    scratch = np.full((2, width + 2 * half + 16), np.nan, np.float32)
    for beta in (0.75, 1.25):
        share = np.float32(0.7 / side**2)
        _kernels.lrn_within(
            isa, arena, source.planes(), target.planes(), half, share, beta, 2, scratch, 2
        )
        want = x * (1 + share * total) ** -beta
        # side² products and sums in s; share·s + 1 makes two more; then a power and a product
        limit = (beta * (side**2 + 3) + 6) * ULP * np.abs(want)
        assert (np.abs(target.array(arena) - want) <= limit).all()
        assert (halo_of(target, arena) == 0).all()
        assert (arena[: source.at] == CANARY).all()
        assert (arena[target.at + target.size :] == CANARY).all()
    with pytest.raises(KernelError, match="scratch"):
        _kernels.lrn_within(
            isa, arena, source.planes(), target.planes(), half + 1, 1.0, 1.0, 2, scratch, 2
        )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [1, 7, 16, 1000])
def test_softmax(isa, size):
    rng = np.random.default_rng(8)
    source, target = place((3, size), Border(), 16), place((3, size), Border(), 16 + 3 * size)
    arena = np.full(target.at + target.size + 16, CANARY)
    x = (50 * rng.standard_normal((3, size))).astype(np.float32)
    x[0, -1] = x[1, min(1, size - 1)] = 300  # overflows unless the maximum is taken off
    x[2, 0] = np.nan
    source.array(arena)[...] = x
    _kernels.Softmax(isa, arena, source.run(), target.run(), size, 2)()
    power = np.exp(x[:2].astype(np.float64) - x[:2].max(axis=1, keepdims=True, initial=-np.inf))
    want = power / power.sum(axis=1, keepdims=True)
    # the difference is rounded once, which its exponential multiplies by at most 2·max|x|
    limit = (2 * np.abs(x[:2]).max() + 4) * ULP * want + 1e-37
    got = target.array(arena)
    assert (np.abs(got[:2] - want) <= limit).all() and np.isnan(got[2]).all()
    assert (arena[: source.at] == CANARY).all()
    assert (arena[target.at + target.size :] == CANARY).all()
    with pytest.raises(KernelError, match="runs of"):
        _kernels.Softmax(isa, arena, source.run(), target.run(), 3 * size - 1 or 2, 1)


@pytest.mark.parametrize("isa", ISAS)
def test_affine_and_binary_keep_nan_and_halo(isa):
    rng = np.random.default_rng(6)
    a, b = place((2, 3, 4, 5), Border(), 0), place((2, 3, 4, 5), Border(1, 1, True), 128)
    c = place((2, 3, 4, 5), Border(0, 2, True), 128 + b.size)
    arena = np.full(c.at + c.size + 16, CANARY)
    x, y = (rng.standard_normal(a.shape).astype(np.float32) for _ in range(2))
    x[0, 0, 0, 0] = np.nan
    a.array(arena)[...], b.array(arena)[...] = x, y
    scale, shift, slope = (np.array(v, np.float32) for v in ([1, -2, 3], [0, 1, 2], [1, 0, 0.5]))
    _kernels.affine(isa, arena, a.planes(), c.planes(), scale, shift, slope, -2.0, 2.0, 2, 1)
    z = x * scale[:, None, None] + shift[:, None, None]
    z = np.clip(np.where(z < 0, z * slope[:, None, None], z), -2, 2)
    np.testing.assert_allclose(c.array(arena), z, rtol=4 * ULP, atol=4 * ULP)
    assert (halo_of(c, arena) == 0).all()
    for op, want in enumerate((2 * x - y, x * y, np.where(x > y, x, y))):
        _kernels.binary(isa, op, arena, a.planes(), b.planes(), c.planes(), 2.0, -1.0, -9, 9, 2, 2)
        np.testing.assert_allclose(c.array(arena), want, rtol=4 * ULP, atol=4 * ULP)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("stride", "pad"), [((2, 2), (1, 1)), ((4, 3), (0, 2)), ((1, 2), (3, 0)),
                                             ((3, 4), (1, 1)), ((1, 8), (0, 3))])  # fmt: skip
@pytest.mark.parametrize(("width", "columns"), [(11, 7), (61, 20), (131, 33), (259, 67), (64, 16)])
def test_phase_planes(isa, stride, pad, width, columns):
    rng = np.random.default_rng(7)
    source = place((2, 3, 9, width), Border(1, 1, True), 0)
    offsets = np.array(list(np.ndindex(*stride)), np.int32)
    target = place((2, 3 * len(offsets), 6, columns), Border(aligned=True), source.size)
    arena = np.full(target.at + target.size, CANARY)
    x = rng.standard_normal(source.shape).astype(np.float32)
    source.array(arena)[...] = x
    phases = _kernels.Phases(isa, offsets, stride, pad, 6, columns, target.plane)
    phases.run(arena, source.planes(), arena, target.planes(), 2, 2)
    wide = np.pad(x, ((0, 0), (0, 0), (pad[0], 40), (pad[1], columns * stride[1])))
    got = target.array(arena).reshape(2, 3, len(offsets), 6, columns)
    for p, (row, column) in enumerate(offsets):
        want = wide[:, :, row :: stride[0], column :: stride[1]][:, :, :6, :columns]
        assert np.array_equal(got[:, :, p], want)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", [1, 4, 13, 16, 17, 32, 47])
@pytest.mark.parametrize("border", [Border(), Border(1, 2, True), Border(0, 1, True, 3)])
def test_feed(isa, width, border):
    target = place((2, 3, 5, width), border, 4)
    x = np.random.default_rng(8).standard_normal(target.shape).astype(np.float32)
    for threads in (1, 2):
        arena = np.full(target.at + target.size + 16, CANARY)
        feed = _kernels.Feed(isa, arena, target.planes(), 2, threads)
        feed(x.ravel())
        assert np.array_equal(target.array(arena), x)
        if border.halo:
            assert (halo_of(target, arena) == 0).all()
        assert (arena[:4] == CANARY).all()
        assert (arena[target.at + target.size :] == CANARY).all()
    with pytest.raises(KernelError, match=f"values for 6 planes of {5 * width} pixels"):
        feed(x.ravel()[1:])


def test_operands_outside_their_memory_are_refused():
    arena = np.zeros(100, np.float32)
    inside, outside = Planes(0, 1, 2, 5, 5, 0, 10), Planes(91, 1, 2, 5, 5, 0, 10)
    one = np.ones(1, np.float32)
    with pytest.raises(KernelError, match="planes end at 101"):
        _kernels.affine("scalar", arena, inside, outside, one, one, one, 0, 1, 1, 1)
    with pytest.raises(KernelError, match="planes end at 101"):
        _kernels.Feed("scalar", arena, outside, 1, 1)
    with pytest.raises(KernelError, match="overlap"):
        Planes(0, 1, 2, 5, 4, 0, 10)
    taps = Taps(np.array([[0, 95]]))
    kernel = convolution(
        "scalar",
        4,
        stream(np.ones((1, 2), np.float32), taps, 1),
        taps,
        Run(1, 8, 8, 8),
        Finish(),
        vectors=1,
        base=0,
        tasks=Tasks(9, True),
    )
    with pytest.raises(KernelError, match="reaches outside"):
        kernel.bind(
            arena, Planes(0, 1, 1, 8, 8, 0, 8), arena, Planes(8, 1, 1, 8, 8, 0, 8), None, 1, 1
        )


def test_unknown_isa_is_refused(monkeypatch):
    monkeypatch.setenv("CAFFE_SCNN_ISA", "sse9")
    with pytest.raises(KernelError, match="sse9"):
        _kernels.best_isa()


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"origin": -1}, "reads behind"),
        ({"origin": 4}, "reads behind"),
        ({"offset": np.array([0, 7, *[0] * AHEAD], np.uint16)}, "reads behind"),
        ({"offset": np.array([0, 3, *[0] * (AHEAD - 1)], np.uint16)}, "do not fit together"),
        ({"start": np.array([0, 3])}, "do not fit together"),
    ],
)
def test_streams_that_read_elsewhere_are_refused(change, refused):
    taps = Taps(np.array([[0, 3]]))
    good = stream(np.ones((1, 2), np.float32), taps, 1)
    damaged = replace(good, parts=[replace(good.parts[0], **change)])
    run, more = Run(1, 8, 8, 8), {"vectors": 1, "base": 0, "tasks": Tasks(9, True)}
    convolution("scalar", 4, good, taps, run, Finish(), **more)
    with pytest.raises(KernelError, match=refused):
        convolution("scalar", 4, damaged, taps, run, Finish(), **more)


@pytest.mark.parametrize(("rows", "vectors"), [(0, 1), (1, 0), (-1, 1), (1, -1)])
def test_a_convolution_without_rows_or_vectors_is_refused(rows, vectors):
    numbers = np.zeros(2, np.int32)
    with pytest.raises(KernelError, match=r"needs (rows|vectors)"):
        _kernels.Convolution(
            "scalar", rows, vectors, 0, [()], np.zeros(1, np.float32), None, numbers, numbers,
            (numbers,) * 6 + (0, 0), 0, 0, 0.0, 1.0, True,
        )  # fmt: skip


@pytest.mark.parametrize("start", [[0, 9, 2], [-4, 1, 2], [1, 1, 2]])
def test_sparse_rows_that_run_backwards_or_begin_elsewhere_are_refused(start):
    with pytest.raises(KernelError, match="streams"):
        _kernels.spmv(
            "scalar", np.array(start), np.zeros(2, np.uint16), np.zeros(2, np.float32), None,
            np.zeros(4, np.float32), np.zeros(2, np.float32), 1,
        )  # fmt: skip
