"""Where the vectors of a convolution's flat run go: in place, or in pieces to rows elsewhere."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn._kernels import Planes
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, place_vectors, stream
from caffe_scnn.engine.tile import tile_sizes
from caffe_scnn.errors import KernelError

CHANNELS, OUTPUTS = 3, 9
# height, width, floats from row to row of the run and of the result
RUNS = [
    (7, 7, 7, 8),
    (6, 14, 14, 15),
    (5, 14, 16, 15),
    (9, 3, 3, 40),
    (9, 1, 4, 2),
    (4, 33, 33, 36),
    (6, 5, 30, 7),
    (7, 7, 8, 7),
    (6, 5, 9, 9),
    (1, 50, 50, 50),
]
UNTOUCHED = np.float32(77)


def sizes(isa):
    """Return some numbers of rows and vectors that an ISA has tiles of."""
    found, lanes = tile_sizes(isa)
    return [(rows, vectors[-1]) for rows, vectors in found.items()], lanes


@pytest.mark.parametrize("isa", _kernels.isas())
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("added", [False, True])
def test_results_come_where_they_belong(isa, run, added):
    rng = np.random.default_rng(3)
    height, width, pitch, out_pitch = run
    size, out_size = (height - 1) * pitch + width, (height - 1) * out_pitch + width
    weights = rng.standard_normal((OUTPUTS, CHANNELS)).astype(np.float32)
    weights[rng.random(weights.shape) < 0.3] = 0
    slope = rng.standard_normal(OUTPUTS).astype(np.float32)
    bias = rng.standard_normal(OUTPUTS).astype(np.float32)
    plane, out_plane = size + 3, out_size + 21
    taps = Taps(np.arange(CHANNELS)[None] * plane)
    x = rng.standard_normal((CHANNELS, plane)).astype(np.float32)
    given = np.concatenate([x.ravel(), np.zeros(1024, np.float32)])
    at, item = 10, OUTPUTS * out_plane
    source = Planes(0, CHANNELS, height, width, pitch, 0, plane)
    target = Planes(at, OUTPUTS, height, width, out_pitch, 0, out_plane)
    residual = Planes(at + item, OUTPUTS, height, width, out_pitch, 0, out_plane)
    rows_in = np.arange(height)[:, None] * pitch + np.arange(width)
    rows_out = np.arange(height)[:, None] * out_pitch + np.arange(width)
    want = weights @ x[:, rows_in.ravel()] + bias[:, None]
    memory = np.full(at + 2 * item + 64, UNTOUCHED)
    addend = memory[at + item :][:item].reshape(OUTPUTS, out_plane)
    addend[:, rows_out.ravel()] = rng.standard_normal(want.shape).astype(np.float32)
    if added:
        want += addend[:, rows_out.ravel()]
    want = np.clip(np.where(want < 0, want * slope[:, None], want), -1, 1.5)
    tiles, lanes = sizes(isa)
    for (rows, vectors), parts, threads in product(tiles, (1, 2), (1, 2)):
        kernel = convolution(
            isa, lanes, stream(weights, taps, rows, parts), taps,
            Run(height, width, pitch, out_pitch), Finish(bias, slope, -1, 1.5),
            vectors=vectors, base=0, threads=threads,
        )  # fmt: skip
        result = memory.copy()
        kernel.bind(given, source, result, target, residual if added else None, 1, threads)()
        planes = result[at : at + item].reshape(OUTPUTS, out_plane)
        np.testing.assert_allclose(planes[:, rows_out.ravel()], want, rtol=1e-5, atol=1e-5)
        gaps = np.delete(planes[:, :out_size], rows_out.ravel(), axis=1)
        assert np.isin(gaps, [0, UNTOUCHED]).all()
        assert (planes[:, out_size:] == UNTOUCHED).all()
        result[at : at + item] = UNTOUCHED
        memory[at : at + item] = UNTOUCHED
        assert np.array_equal(result, memory)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("run", RUNS)
def test_each_piece_lies_side_by_side_and_behind_the_one_before(lanes, run):
    height, width, pitch, out_pitch = run
    keep, whole, tail, piece, vector, place, lane, order = place_vectors(Run(*run), lanes)
    assert whole == (pitch == out_pitch) and tail < 1 << lanes
    assert len(keep) == len(piece) - 1 == -(-((height - 1) * pitch + width) // lanes)
    from_, to = [], []
    for p, (v, begin, mask) in enumerate(zip(vector, place, lane, strict=True)):
        assert piece[v] <= p < piece[v + 1]
        count = int(mask).bit_length()
        assert mask == (1 << count) - 1
        from_ += [v * lanes + one for one in order.reshape(-1, lanes)[p, :count]]
        to += range(begin, begin + count)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    assert from_ == (rows * pitch + columns).ravel().tolist()
    assert to == (rows * out_pitch + columns).ravel().tolist()
    if out_pitch == width:
        assert len(vector) == len(set(vector.tolist()))  # whatever rows a vector has parts of


def small(store):
    """Make a convolution of eight pixels that go to these places."""
    numbers = np.zeros(1, np.int32)
    streams = (np.zeros(2, np.int64), 0, np.zeros(8, np.uint16), np.zeros(0, np.float32))
    return _kernels.Convolution(
        "scalar", 1, 1, 0, [streams], np.zeros(1, np.float32), None, numbers,
        np.array([0, 1], np.int32), store, 0, 0, 0.0, 1.0, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, []),
        (3, [0, 2]),
        (3, [0, 2, 3]),
        (3, [1, 2, 4]),
        (3, [0, 5, 4]),
        (4, [0, 0, 0, 1]),
        (4, [0, 0, 1, 2]),
        (4, [0, 0, 1, -1]),
        (5, [0, 1, 5, 8]),
        (5, [0, 3, 2, 8]),
        (6, [3, 3, 0, 3]),
        (6, [3, 3, 5, 3]),
        (6, [3, 3, 31, 3]),
        (7, [0, 1, 0, 4] + [0] * 12),
        (7, [0, 1]),
    ],
)
def test_places_that_do_not_fit_together_are_refused(field, value):
    store = list(place_vectors(Run(4, 2, 2, 3), 4))
    assert [part.tolist() for part in store[3:7]] == [
        [0, 2, 4], [0, 0, 1, 1], [0, 3, 6, 9], [3, 3, 3, 3],
    ]  # fmt: skip
    small(tuple(store))
    store[field] = np.array(value, store[field].dtype)
    with pytest.raises(KernelError, match="places of a convolution's result do not fit together"):
        small(tuple(store))


def test_a_convolution_cannot_add_what_it_writes_over():
    taps, run = Taps(np.array([[0]])), Run(2, 5, 5, 6)
    kernel = convolution(
        "scalar", 4, stream(np.ones((1, 1), np.float32), taps, 1), taps, run, Finish(),
        vectors=1, base=0,
    )  # fmt: skip
    memory = np.zeros(100, np.float32)
    source, target = Planes(0, 1, 2, 5, 5, 0, 10), Planes(40, 1, 2, 5, 6, 0, 12)
    for at, fits in ((29, True), (30, False), (40, False), (50, False), (51, True)):
        residual = Planes(at, 1, 2, 5, 6, 0, 12)
        if fits:
            kernel.bind(memory, source, memory, target, residual, 1, 1)
            continue
        with pytest.raises(KernelError, match="cannot add what it writes over"):
            kernel.bind(memory, source, memory, target, residual, 1, 1)
