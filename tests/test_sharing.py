"""How threads share a layer: every way gives the same bits, and reads only what was written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine.nodes import Node, Program, Value
from caffe_scnn.engine.ops import convolution
from caffe_scnn.engine.packing import Run, Taps, Tasks, block_channels, stream
from caffe_scnn.engine.plan import build_plan
from caffe_scnn.engine.tile import tile_sizes
from caffe_scnn.layers.base import ConvolutionSpec

ISA = _kernels.best_isa()


@dataclass
class Named:
    """A layer as far as a node needs it."""

    name: str = "conv"


# name: items, channels, outputs, size, kernel, stride, group, density
LAYERS = {
    "large map": (1, 8, 16, (50, 45), 1, 1, 1, 0.3),
    "large map, 3x3": (2, 4, 9, (47, 50), 3, 1, 1, 0.2),
    "many inputs": (1, 96, 3, (14, 14), 1, 1, 1, 0.2),
    "many outputs": (1, 8, 90, (14, 14), 1, 1, 1, 0.3),
    "many outputs, 3x3": (3, 6, 60, (7, 7), 3, 1, 2, 0.2),
    "strided": (1, 12, 40, (31, 29), 3, 2, 1, 0.2),
    "few rows": (1, 64, 2, (1, 300), 1, 1, 1, 0.5),
    "more threads than rows": (1, 400, 1, (3, 40), 1, 1, 1, 0.2),
    "dense": (1, 40, 72, (14, 14), 3, 1, 1, 1.0),
    "dense, large map": (1, 16, 32, (50, 50), 1, 1, 1, 1.0),
    "dense, one block": (1, 64, 16, (14, 14), 1, 1, 1, 1.0),
    "dense, narrow": (2, 64, 128, (7, 7), 3, 1, 1, 1.0),
    "depthwise, large map": (2, 5, 5, (56, 50), 3, 1, 5, 1.0),
    "depthwise, strided": (1, 3, 3, (65, 65), 3, 2, 3, 1.0),
    "depthwise, small": (1, 7, 7, (9, 9), 5, 1, 7, 1.0),
}


def plan_of(layer, form, threads):
    """A plan of one convolution whose work is worth threads, and its input."""
    items, channels, outputs, size, kernel, stride, group, density = LAYERS[layer]
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((outputs, channels // group, kernel, kernel)).astype(np.float32)
    weights[rng.random(weights.shape) >= density] = 0
    pad = kernel // 2
    shape = [(n + 2 * pad - kernel) // stride + 1 for n in size]
    given = Value("x", (items, channels, *size))
    result = Value("y", (items, outputs, *shape))
    bias = rng.standard_normal(outputs).astype(np.float32)
    spec = ConvolutionSpec(weights, bias, (stride,) * 2, (pad,) * 2, (1, 1), group)
    node = Node([Named()], spec, [given], [result], form=form, nonzero_macs=10**9)
    program = Program([node], {"x": given}, {}, {"y": result})
    plan = build_plan(program, ISA, threads, exact=True)
    return plan, rng.standard_normal(given.shape).astype(np.float32)


@pytest.fixture(autouse=True)
def worthwhile(monkeypatch):
    """Share layers of any size."""
    monkeypatch.setattr("caffe_scnn.engine.threads.SERIAL_CYCLES", 0)


@pytest.mark.parametrize("layer", [name for name in LAYERS if name.startswith("dense")])
def test_threads_change_no_bit_of_tiles_along_channels(layer, monkeypatch):
    if not tile_sizes(ISA, "dense")[0]:
        pytest.skip("the instruction set has no such tiles")
    ranked = convolution.rank_tiles

    def along_channels(*given):
        return [tile for tile in ranked(*given) if tile.op == "dense"]

    monkeypatch.setattr(convolution, "rank_tiles", along_channels)
    same_bits(layer, "direct")


@pytest.mark.parametrize("form", ["direct", "bf16x6"])
@pytest.mark.parametrize("layer", LAYERS)
def test_threads_change_no_bit(layer, form):
    if form == "bf16x6" and ("depthwise" in layer or not _kernels.has_amx()):
        pytest.skip("not on a matrix unit")
    same_bits(layer, form)


def same_bits(layer, form):
    """Compare the results of several numbers of threads, from memory full of NaN."""
    found = []
    for threads in (1, 2, 3, 5):
        plan, x = plan_of(layer, form, threads)
        assert plan.steps[0].threads == threads
        for _ in range(2):  # what lies in memory must not matter
            plan.arena[...] = np.nan
            plan.feed({"x": x})
            plan.run()
            found.append(plan.output("y").copy())
    assert np.isfinite(found[0]).all()
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_there_is_a_chunk_of_channels_for_every_thread(rows, threads):
    streams = stream(np.ones((64, 3), np.float32), Taps(np.arange(3)[None]), rows)
    work = 64 * (3 + 5) if rows == 1 else 16 * (3 + 1)
    entries = Tasks.suited_to(streams, Run(1, 196, 196, 196), 16, threads).entries
    assert round(work / entries) >= threads


def test_each_thread_gets_neighbouring_channels_by_their_length():
    weights = np.tri(8, dtype=np.float32)  # row n has n + 1 weights
    none = np.zeros(8, bool)
    alone = block_channels(weights, 1, 1, none, by_length=True)
    shared = block_channels(weights, 1, 1, none, by_length=True, threads=2)
    assert alone.ravel().tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert shared.ravel().tolist() == [3, 2, 1, 0, 7, 6, 5, 4]
