"""Convolutions on panels: the bits of the direct kernel, whatever a layer looks like."""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import astuple, replace

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor, choose, panel_tiles
from caffe_scnn.engine import panels as panels_module
from caffe_scnn.engine import threads as threads_module
from caffe_scnn.engine.choose import rank_tiles
from caffe_scnn.engine.costs import shipped_costs
from caffe_scnn.engine.fit_costs import Layer, Scene, _panel_costs, fit, measure
from caffe_scnn.engine.ops import bands
from caffe_scnn.engine.ops import convolution as convolution_module
from caffe_scnn.engine.packing import Finish
from caffe_scnn.engine.panel_tiles import panel_candidates
from caffe_scnn.engine.panels import Patches, panel_convolution
from caffe_scnn.engine.tile import MOST_PARTS, PanelShape, Tile, near_bytes, tile_sizes
from caffe_scnn.errors import KernelError
from caffe_scnn.model.net import Net

ISAS = [isa for isa in _kernels.isas() if os.environ.get("CAFFE_SCNN_ISA") in (None, isa)]
# What the first layer looks like: (channels, outputs, height, width), convolution_param
LAYERS = {
    "small": ((9, 21, 14, 13), "kernel_size: 3 pad: 1"),
    "blocks that overlap nowhere": ((5, 7, 16, 16), "kernel_size: 3 pad: 1"),
    "blocks that overlap both ways": ((6, 33, 21, 27), "kernel_size: 5 pad: 2"),
    "wide": ((3, 5, 6, 331), "kernel_size: 3 pad: 1"),
    "high": ((2, 5, 150, 5), "kernel_size: 3 pad: 1"),
    "one row": ((8, 10, 1, 70), "kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2"),
    "no padding": ((7, 11, 19, 22), "kernel_size: 4"),
    "more padding": ((4, 6, 8, 9), "kernel_size: 3 pad: 3"),
    "groups": ((12, 20, 13, 13), "kernel_size: 3 pad: 1 group: 2"),
    "many groups": ((10, 30, 14, 26), "kernel_size: 3 pad: 1 group: 5"),
    "strided": ((6, 19, 33, 35), "kernel_size: 5 pad: 2 stride: 2"),
    "strided in columns": ((5, 8, 12, 100), "kernel_h: 3 kernel_w: 7 stride_h: 1 stride_w: 4"),
    "dilated": ((6, 8, 18, 21), "kernel_size: 3 pad: 2 dilation: 2"),
    "dilated, strided": ((3, 4, 40, 31), "kernel_size: 3 pad: 3 dilation: 3 stride: 2"),
}
TEXT = """
name: "n"
layer {{ name: "x" type: "Input" top: "x"
  input_param {{ shape {{ dim: 2 dim: {0} dim: {2} dim: {3} }} }} }}
layer {{ name: "before" type: "Convolution" bottom: "x" top: "b" convolution_param {{
  num_output: {0} kernel_size: 3 pad: 1 }} }}
layer {{ name: "first" type: "Convolution" bottom: "b" top: "y" convolution_param {{
  num_output: {1} {4} }} }}
layer {{ name: "bent" type: "PReLU" bottom: "y" top: "y" }}
layer {{ name: "second" type: "Convolution" bottom: "y" top: "z" convolution_param {{
  num_output: {1} kernel_size: 3 pad: 1 }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "y" bottom: "z" top: "s" }}
layer {{ name: "relu" type: "ReLU" bottom: "s" top: "s" }}
layer {{ name: "last" type: "Convolution" bottom: "s" top: "out" convolution_param {{
  num_output: 3 kernel_size: 5 pad: 2 }} }}
"""


def net_of(layer, density=0.3):
    """Return convolutions around one that looks as named, with a sum and slopes."""
    shape, parameters = LAYERS[layer]
    rng, net = np.random.default_rng(0), Net.parse(TEXT.format(*shape, parameters))
    sizes = convolution_sizes(shape, parameters)
    for one in net:
        if one.name in sizes:
            size = sizes[one.name]
            weights = rng.standard_normal(size) * (rng.random(size) < density)
            one.blobs = [weights.astype(np.float32), rng.standard_normal(size[0]).astype("f")]
    net.layer("bent").blobs = [rng.random(shape[1]).astype(np.float32)]
    return net


def convolution_sizes(shape, parameters):
    """Return the shapes of all weights."""
    words = dict(word.split(": ") for word in parameters.replace(" ", "\n").replace(":\n", ": ")
                 .split("\n"))  # fmt: skip
    kernel = [int(words.get(key, words.get("kernel_size", 1))) for key in ("kernel_h", "kernel_w")]
    channels, outputs = shape[:2]
    return {
        "before": (channels, channels, 3, 3),
        "first": (outputs, channels // int(words.get("group", 1)), *kernel),
        "second": (outputs, outputs, 3, 3),
        "last": (3, outputs, 5, 5),
    }


@pytest.fixture
def only(monkeypatch):
    """Let convolutions run on panels if they can, or all directly, one channel at a time."""
    ranked = choose.rank_tiles
    monkeypatch.setattr(threads_module, "SERIAL_CYCLES", 0)

    def change(op, number=0):
        def rank(*given):
            single = [t for t in ranked(*given) if t.rows == 1]
            tiles = [t for t in single if t.op == op] or [t for t in single if t.op == "sconv"]
            return tiles[number % len(tiles) :]

        monkeypatch.setattr(convolution_module, "rank_tiles", rank)

    return change


def several_parts(isa, monkeypatch):
    """Let panels hold few channels, of many of whom then come parts."""
    monkeypatch.setattr(panel_tiles, "near_bytes", lambda: 400 * tile_sizes(isa)[1])


def result(net, isa, threads=1):
    """Run a net in memory that was full of NaN; return its kernels and its result."""
    executor = Executor(net, isa=isa, threads=threads, exact=True)
    (shape,) = executor.shapes.values()
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    executor.run({"x": x})
    plan = executor.plan()
    plan.arena[...] = np.nan
    plan.feed({"x": x})
    plan.run()
    return [step.kernel for step in plan.steps], plan.output("out").copy()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layer", LAYERS)
def test_panels_give_the_bits_of_the_direct_kernel(isa, layer, only, monkeypatch):
    several_parts(isa, monkeypatch)
    net = net_of(layer)
    only("sconv")
    _, expected = result(net, isa)
    assert np.isfinite(expected).all()
    for number in range(0, 12, 3):
        only("panel", number)
        for threads in (1, 2, 3):
            kernels, found = result(net, isa, threads)
            assert all("panel" in kernel for kernel in kernels[1:3])
            assert np.array_equal(found, expected), (number, threads)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layer", ["blocks that overlap both ways", "high"])
def test_panels_compute_bands(isa, layer, only, monkeypatch):
    """Some rows of a map at a time, and nothing around them."""
    several_parts(isa, monkeypatch)
    net = net_of(layer)
    only("sconv")
    _, expected = result(net, isa)
    monkeypatch.setattr(bands, "WHOLE_BYTES", 0)
    monkeypatch.setattr(bands, "LEAST_PIXELS", 1)
    monkeypatch.setattr(bands, "LEAST_BANDS", 4)  # of rows enough for sixteen blocks
    for size, number, threads in ((1 << 13, 0, 1), (1 << 14, 3, 2), (1 << 15, 6, 1)):
        monkeypatch.setattr(bands, "BAND_BYTES", size)
        only("panel", number)
        kernels, found = result(net, isa, threads)
        assert any(kernel.count("panel") == 2 for kernel in kernels), kernels
        assert np.array_equal(found, expected), (size, number)


@pytest.mark.parametrize("isa", ISAS[:1])
@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
def test_panels_at_any_density(isa, density, only):
    net = net_of("groups", density)
    only("sconv")
    _, expected = result(net, isa)
    only("panel")
    assert np.array_equal(result(net, isa, 2)[1], expected)


@pytest.mark.parametrize("isa", ISAS[:1])
def test_sums_are_cut_to_what_the_cache_keeps(isa, only, monkeypatch):
    made = []
    chunks = panels_module._chunks
    monkeypatch.setattr(panels_module, "_chunks", lambda *a: made.append(chunks(*a)) or made[-1])
    several_parts(isa, monkeypatch)
    net = net_of("groups")
    only("sconv")
    _, expected = result(net, isa)
    only("panel")
    assert np.array_equal(result(net, isa)[1], expected)
    assert made[1][0].tolist() == [0, 10, 20] and made[1][1].tolist() == [0, 1]
    monkeypatch.setattr(panel_tiles, "SUMS", 1)
    assert np.array_equal(result(net, isa)[1], expected)
    assert made[-3][0].tolist() == list(range(21))
    monkeypatch.setattr(panel_tiles, "near_bytes", lambda: 1 << 20)  # one part has no sums to keep
    result(net, isa)
    assert made[-3][0].tolist() == [0, 10, 20]


@pytest.mark.parametrize("isa", ISAS[:1])
def test_threads_share_channels_where_tiles_are_too_few(isa, only, monkeypatch):
    made = []
    chunks = panels_module._chunks
    monkeypatch.setattr(panels_module, "_chunks", lambda *a: made.append(chunks(*a)) or made[-1])
    only("panel")
    monkeypatch.setattr(Tile, "shared_evenly", lambda *given: False)
    result(net_of("groups"), isa, threads=3)
    assert len(made[1][0]) == 7 and len(made[0][0]) == 4  # three of each group
    made.clear()
    monkeypatch.setattr(Tile, "shared_evenly", lambda *given: True)
    result(net_of("groups"), isa, threads=3)
    assert len(made[1][0]) == 3 and len(made[0][0]) == 2


def test_tiles_that_are_shared_evenly():
    tile = Tile("panel", 1, 8, 1, 0.0, 4, "", columns=4, bands=2)
    # blocks of 6 rows and 8 columns: 3 tiles below each other, 2 side by side
    assert tile.shared_evenly(12, 16, 1) and tile.shared_evenly(12, 16, 2)
    assert not tile.shared_evenly(12, 16, 4)
    assert tile.shared_evenly(12 * 8, 16, 5)  # one of 48 more does not matter


def test_a_panel_holds_a_patch_of_the_map():
    """A 3x3 kernel reads two rows and columns beside those of a tile."""
    tap = (np.arange(3)[:, None] * 20 + np.arange(3)).ravel()
    patches = Patches.of(tap, 20, 500)
    assert patches.start.tolist() == [0]
    assert patches.beyond.tolist() == [2] and patches.across.tolist() == [2]
    assert patches.shape(7) == PanelShape(7, (2,), (2,))
    assert patches.shape(7).vectors(4, 5) == (4 + 2) * (5 + 2)
    # tap (1, 2) of vectors of 8 lanes, in rows of seven vectors
    assert patches.offsets(4, 5, 8)[5] == (1 * 7 + 2) * 8
    below = Patches.of(tap[[4, 6, 7]], 20, 500)  # what no tap reads is left out
    assert below.start.tolist() == [20]
    assert below.beyond.tolist() == [1] and below.across.tolist() == [1]
    assert below.row.tolist() == [0, 1, 1] and below.column.tolist() == [1, 0, 1]


def test_each_phase_has_a_patch():
    tap = np.array([0, 1, 20, 502, 521])  # of two phases
    patches = Patches.of(tap, 20, 500)
    assert patches.start.tolist() == [0, 501]
    assert patches.beyond.tolist() == [1, 1] and patches.across.tolist() == [1, 1]
    # the second begins behind the first: 3 rows of 6 vectors
    assert patches.offsets(2, 5, 4).tolist() == [4 * n for n in (0, 1, 6, 18 + 1, 18 + 6)]


def scene_of(layer, density):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((layer.outputs, layer.channels * layer.kernel**2))
    return Scene(layer, np.where(rng.random(weights.shape) < density, weights, 0))


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa != "scalar"])
def test_panels_are_chosen_where_many_weights_read_them(isa):
    def best(outputs, channels, density, threads=1, kernel=3):
        scene = scene_of(Layer(outputs, channels, kernel, 28), density)
        return rank_tiles(isa, scene.weights, 1, scene.shape, None, (28, 28), threads)[0]

    assert best(256, 128, 0.25).op == "panel"
    assert best(256, 128, 0.03).op == "sconv"
    assert best(16, 16, 0.1).op == "sconv"
    assert best(256, 128, 0.25, kernel=1).op == "sconv"  # whose loads are aligned
    alone, shared = (best(256, 128, 0.25, threads).cycles for threads in (1, 2))
    assert alone < shared


@pytest.mark.parametrize("isa", ISAS)
def test_panels_of_all_parts_fit_the_first_cache(isa):
    lanes = tile_sizes(isa)[1]
    found = panel_candidates(isa, PanelShape(100, (2, 1), (2, 3)), 7200, 8, 1, 28, 28)
    assert found
    for panels in found:
        rows = panels.vectors // panels.columns
        for height, parts in zip(rows.tolist(), panels.parts.tolist(), strict=True):
            channel = (2 * height + 3) * (panels.columns + 3) * 4 * lanes
            assert -(-100 // parts) * channel <= near_bytes()
            assert parts == 1 or -(-100 // (parts - 1)) * channel > near_bytes()


def test_what_tiles_on_panels_do_is_counted(monkeypatch):
    """A 3x3 layer of 6 channels on 16 × 32 pixels: blocks of 8 × 16 pixels, of 4 lanes."""
    monkeypatch.setattr(panel_tiles, "near_bytes", lambda: 2 * 28 * 16)  # two channels in 2 × 5
    layer = PanelShape(6, (2,), (2,)), 100, 20, 1, 16, 32
    found = {(p.bands, p.columns): p for p in panel_candidates("scalar", *layer)}
    panels = found[2, 4]
    tile = panels.vectors.tolist().index(8)
    assert panels.parts[tile] == 3
    tiles, vectors = 4 * 4, 4 * 6  # of a block; of a channel's panel
    counts = panels.counts[tile].tolist()
    assert counts[:3] == [100 * 8 * 16, 100 * tiles, tiles * 6 * vectors]
    # two blocks beside each other: of six columns in 1.3 cache lines each, then of four in 1.2
    lines = 2 * (tiles * 6 * 4 * 2 * (1 + 5 / 16) + tiles * 2 * 20 * 2 * (1 + 3 / 16))
    assert counts[3:5] == [lines, 0]  # all of which a cache keeps
    assert counts[5:] == [20 * 8 * 16, 20 * 8 * 16 * 2, tiles * 20 * 3]
    assert panels.ends[tile] == tiles * 20 * 3
    monkeypatch.setattr(panel_tiles, "SUMS", 8 * 16 * 10)  # of ten channels: filled twice
    monkeypatch.setattr(panel_tiles, "CACHED_BYTES", 1000)
    twice = {(p.bands, p.columns): p for p in panel_candidates("scalar", *layer)}[2, 4]
    assert twice.counts[tile, 2] == 2 * counts[2]
    assert twice.counts[tile, 4] == twice.counts[tile, 3] > lines


@pytest.mark.parametrize("isa", ISAS)
def test_there_are_no_more_parts_than_a_kernel_takes(isa, monkeypatch):
    """Many channels far apart: DeepLab's dilated layers."""

    lanes = tile_sizes(isa)[1]
    monkeypatch.setattr(panel_tiles, "near_bytes", lambda: 1000 * 4 * lanes)

    def parts(channels, apart=12):
        layer = PanelShape(channels, (apart,), (apart,)), 18, 2, 1, 33, 45
        return [n for panels in panel_candidates(isa, *layer) for n in panels.parts.tolist()]

    # tiles of one row of four columns take 13 · 16 vectors a channel: four channels a panel
    assert max(parts(64)) > min(parts(64)) == 16
    assert len(parts(1000)) < len(parts(64))  # others would be cut into more
    assert min(parts(1000)) == 250 and max(parts(1000)) <= MOST_PARTS
    assert not parts(1025)
    assert not parts(1, 40)  # whose panel the cache does not keep


def test_the_costs_of_panels_are_fitted():
    isa = ISAS[0]
    measured = measure(isa, Layer(64, 32, 3, 14), 0.3, seconds=0.0005)
    assert len(measured.panels) == len(measured.panels_us) > 1
    assert np.isfinite(measured.panels_us).all()
    costs = shipped_costs(isa)
    assert _panel_costs(costs, [replace(measured, panels=measured.panels[:0])]) == costs.panel
    best = int(np.argmin(np.where(measured.tiles.rows == 1, measured.us, np.inf)))
    slower = measured.us[best] / measured.tiles.cycles(costs)[best]
    true = np.array(astuple(costs.panel)) * 3
    exact = replace(measured, panels_us=measured.panels @ true * slower)
    found = np.array(astuple(_panel_costs(costs, [exact])))
    predicted = measured.panels @ found / (measured.panels @ true)
    assert ((predicted > 0.9) & (predicted < 1.02)).all()  # drawn a little towards the shipped ones
    fitted = fit(isa, [measured], trials=1)
    assert fitted.middle <= fitted.far  # fewer transfers are not dearer than more


def made(isa="scalar", size=16, tile=(2, 5, 2), **changed):
    """Return a panel kernel of a 3x3 layer, with some of its arguments changed.

    Its tiles have so many (rows, columns) of blocks, in so many bands; those of 4 lanes are 8 × 8.
    """
    lanes, (rows, columns, bands) = tile_sizes(isa)[1], tile
    scene = scene_of(Layer(4, 3, 3, size), 0.5)
    chosen = Tile("panel", 1, rows * columns, 1, 0.0, lanes, "", 0.0, columns, bands)
    given = {}

    class Seen:
        def __init__(self, *arguments):
            names = ("isa", "rows", "columns", "unit", "parts", "bias", "slope", "channel", "chunk",
                     "low", "high", "group", "source", "bound", "start", "beyond", "across",
                     "bands", "height", "width", "pitch", "base", "share_tiles")  # fmt: skip
            given.update(zip(names, arguments, strict=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caffe_scnn.engine.panels.PanelConvolution", Seen)
        panel_convolution(
            isa, chosen, scene.weights, scene.taps, scene.patches, scene.run, Finish(), scene.base
        )
    given["isa"] = changed.pop("vocabulary", isa)
    return _kernels.PanelConvolution(*{**given, **changed}.values()), scene


# What a kernel takes for a part of four output channels.
NO_WEIGHTS = (np.zeros(5, np.int64), 0, np.zeros(8, np.uint16), np.zeros(0, np.float32))
WIDE_OFFSETS = (np.arange(5), 0, np.zeros(12, np.uint32), np.ones(4, np.float32))


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": 0},
        {"rows": 5},
        {"columns": 0},
        {"parts": []},
        {"parts": [WIDE_OFFSETS]},
        {"bias": np.zeros(3, np.float32)},
        {"slope": np.zeros(3, np.float32)},
        {"channel": np.array([0, 1, 2, -1], np.int32)},
        {"chunk": np.array([0, 3], np.int32)},
        {"chunk": np.array([0, 0, 4], np.int32), "group": np.zeros(2, np.int32)},
        {"group": np.array([1], np.int32)},
        {"group": np.array([-1], np.int32)},
        {"group": np.zeros(2, np.int32)},
        {"source": np.zeros((1, 2), np.int64)},
        {"source": np.full((1, 3), -1, np.int64)},
        {"bound": np.array([0, 2], np.int32)},
        {"bound": np.array([1, 3], np.int32)},
        {"bound": np.array([0, 4, 3], np.int32), "parts": 2 * [NO_WEIGHTS]},
        {"bound": np.array([0, 2**31 - 1, -(2**31), -1, 3], np.int32), "parts": 4 * [NO_WEIGHTS]},
        {"chunk": np.array([0, 2**31 - 1, -(2**31), -1, 4], np.int32), "group": np.zeros(4, "i")},
        {"start": np.array([-1], np.int64)},
        {"start": np.array([0, 1], np.int64)},
        {"start": np.zeros(0, np.int64)},
        {"beyond": np.array([-1], np.int32)},
        {"beyond": np.array([2, 2], np.int32)},
        {"across": np.array([-1], np.int32)},
        {"across": np.array([2, 2], np.int32)},
        {"bands": 0},
        {"height": 0},
        {"width": 0},
        {"pitch": 0},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changed):
    with pytest.raises(KernelError, match=r"fit together|slope|a task"):
        made(**changed)


def test_sizes_that_no_kernel_has_are_refused():
    with pytest.raises(KernelError, match="no kernel"):
        made(columns=9)
    with pytest.raises(KernelError, match="cannot hold 3 rows of blocks"):
        made(bands=3)
    made(width=9)  # blocks of 5 columns are wide enough
    with pytest.raises(KernelError, match="larger than a block"):
        made(width=8)
    with pytest.raises(KernelError, match="larger than a block"):
        made(height=2)


def test_a_panel_that_is_too_small_is_refused():
    for beyond, across in ((0, 2), (2, 0)):
        with pytest.raises(KernelError, match="last weight"):
            made(beyond=np.array([beyond], np.int32), across=np.array([across], np.int32))


@pytest.mark.parametrize(
    "changed",
    [
        {"pitch": 1 << 40},
        {"start": np.array([2**63 - 150])},
        {"source": np.array([[0, 1, 2**63 - 150]])},
        {"beyond": np.array([2**31 - 1], np.int32)},
        {"across": np.array([2**31 - 1], np.int32)},
        {"across": np.array([1 << 26], np.int32), "source": np.zeros((1, 3), np.int64)},
        {"height": 2**31 - 1},
        {"height": 2**31 - 1, "width": 2**31 - 1},
    ],
)
def test_numbers_that_wrap_are_refused(changed):
    with pytest.raises(KernelError, match="outside"):
        kernel, scene = made(**changed)
        scene.runner(kernel)


def test_what_is_added_must_lie_elsewhere():
    """Tiles overlap, and would add it twice."""
    kernel, scene = made()
    given, target = scene.planes
    with pytest.raises(KernelError, match="what it writes over"):
        kernel.bind(scene.arena, given, scene.arena, target, target, 1, 1)


def test_another_height_would_leave_a_halo():
    kernel, scene = made()
    given, target = scene.planes

    def rows_more(rows):
        return _kernels.Planes(
            target.at, target.channels, target.height + rows, target.width, target.pitch,
            target.lead, target.plane + 64,
        )  # fmt: skip

    for rows in (-1, 1):
        with pytest.raises(KernelError, match="outside"):
            kernel.bind(scene.arena, given, scene.arena, rows_more(rows), None, 1, 1)
    kernel.bind(scene.arena, given, scene.arena, rows_more(1), None, 1, 1, False)
    few = _kernels.Planes(
        target.at, 3, target.height, target.width, target.pitch, target.lead, target.plane
    )
    with pytest.raises(KernelError, match="outside"):  # there are four output channels
        kernel.bind(scene.arena, given, scene.arena, few, None, 1, 1)


def one_plane(planes, at):
    """Return the first of the planes, moved."""
    return _kernels.Planes(
        at, 1, planes.height, planes.width, planes.pitch, planes.lead, planes.plane
    )


def test_planes_outside_their_memory_are_refused():
    kernel, scene = made()
    given, target = scene.planes
    scene.runner(kernel)()
    first = one_plane(given, 0)  # of three that are read
    with pytest.raises(KernelError, match="outside"):
        kernel.bind(scene.arena[: first.end(1)], first, scene.arena, target, None, 1, 1)
    far, _ = made(source=np.array([[0, 1, 10**6]]))
    with pytest.raises(KernelError, match="outside"):
        scene.runner(far)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bands", [1, 4])
@pytest.mark.parametrize("width", [16, 19])  # 19: the last blocks overlap others
def test_nothing_is_read_behind_what_the_bound_says(isa, bands, width):
    """The input ends where a page begins that nobody may read."""
    lanes = tile_sizes(isa)[1]
    kernel, scene = made(isa, width * lanes // 4, (1, 4, bands))
    given, target = scene.planes
    size = 1 << 18
    pages = mmap.mmap(-1, size + mmap.PAGESIZE)
    guard = ctypes.addressof(ctypes.c_char.from_buffer(pages)) + size
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), mmap.PAGESIZE, 0) == 0
    memory = np.frombuffer(pages, np.float32, size // 4)
    ran = 0
    for at in range(size // 4 - given.plane, 0, -1):
        try:
            call = kernel.bind(memory, one_plane(given, at), scene.arena, target, None, 1, 1)
        except KernelError:
            continue
        call()
        ran += 1
        if ran == 3:
            break
    # the last tap of the last channel's last row ends with the first call's memory
    last = at + 2 + given.lead + 2 * given.plane + given.height * given.pitch + given.width + 1
    assert last == size // 4
