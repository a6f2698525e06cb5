"""Convolutions on panels: the bits of the direct kernel, whatever a layer looks like."""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor, choose
from caffe_scnn.engine import panels as panels_module
from caffe_scnn.engine import threads as threads_module
from caffe_scnn.engine.choose import (
    PanelShape,
    Shape,
    candidates,
    panel_candidates,
    rank_tiles,
    tile_sizes,
)
from caffe_scnn.engine.costs import shipped_costs
from caffe_scnn.engine.fit_costs import Layer, Measured, Scene, _panel_factor, fit, measure
from caffe_scnn.engine.ops import convolution as convolution_module
from caffe_scnn.engine.packing import Finish, Run, place_strips
from caffe_scnn.engine.panels import Copies, panel_convolution
from caffe_scnn.errors import KernelError
from caffe_scnn.model.net import Net

ISAS = [isa for isa in _kernels.isas() if os.environ.get("CAFFE_SCNN_ISA") in (None, isa)]
# What the first layer looks like: (channels, outputs, height, width), convolution_param
LAYERS = {
    "one vector a row": ((9, 21, 14, 13), "kernel_size: 3 pad: 1"),
    "rows fill their vectors": ((5, 7, 9, 16), "kernel_size: 3 pad: 1"),
    "two vectors a row": ((6, 33, 20, 27), "kernel_size: 5 pad: 2"),
    "wide": ((3, 5, 6, 131), "kernel_size: 3 pad: 1"),
    "strips": ((2, 5, 5, 300), "kernel_size: 3 pad: 1"),
    "narrow": ((12, 9, 11, 3), "kernel_size: 3 pad: 1"),
    "one row": ((8, 10, 1, 40), "kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2"),
    "no padding": ((7, 11, 15, 18), "kernel_size: 4"),
    "more padding": ((4, 6, 8, 9), "kernel_size: 3 pad: 3"),
    "groups": ((12, 20, 13, 13), "kernel_size: 3 pad: 1 group: 2"),
    "many groups": ((10, 30, 7, 13), "kernel_size: 3 pad: 1 group: 5"),
    "strided": ((6, 19, 23, 35), "kernel_size: 5 pad: 2 stride: 2"),
    "strided in columns": ((5, 8, 12, 40), "kernel_h: 3 kernel_w: 7 stride_h: 1 stride_w: 4"),
    "dilated": ((6, 8, 18, 21), "kernel_size: 3 pad: 2 dilation: 2"),
    "dilated, strided": ((3, 4, 26, 31), "kernel_size: 3 pad: 3 dilation: 3 stride: 2"),
    "kernel as wide as its input": ((5, 6, 4, 1), "kernel_size: 3 pad: 1"),
}  # fmt: skip
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
    """Let all convolutions run on a panel, or directly one channel at a time."""
    ranked = choose.rank_tiles
    monkeypatch.setattr(threads_module, "SERIAL_CYCLES", 0)

    def change(isa, op, number=0):
        lanes = tile_sizes(isa)[1]
        monkeypatch.setattr(choose, "LINE_BYTES", 4 * lanes)  # else only AVX-512 has panels

        def rank(*given):
            tiles = [t for t in ranked(*given) if t.op == op and t.rows == 1]
            return tiles[number % len(tiles) :]

        monkeypatch.setattr(convolution_module, "rank_tiles", rank)

    return change


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
    monkeypatch.setattr(choose, "NEAR_BYTES", 3000)  # several parts
    net = net_of(layer)
    only(isa, "sconv")
    _, expected = result(net, isa)
    assert np.isfinite(expected).all()
    for number in range(0, 12, 3):
        only(isa, "panel", number)
        for threads in (1, 2, 3):
            kernels, found = result(net, isa, threads)
            assert sum("panel" in kernel for kernel in kernels) >= 4
            assert np.array_equal(found, expected), (number, threads)


@pytest.mark.parametrize("isa", ISAS[:1])
@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
def test_panels_at_any_density(isa, density, only):
    net = net_of("groups", density)
    only(isa, "sconv")
    _, expected = result(net, isa)
    only(isa, "panel")
    assert np.array_equal(result(net, isa, 2)[1], expected)


@pytest.mark.parametrize("isa", ISAS[:1])
def test_sums_are_cut_to_what_the_cache_keeps(isa, only, monkeypatch):
    made = []
    chunks = panels_module._chunks
    monkeypatch.setattr(panels_module, "_chunks", lambda *a: made.append(chunks(*a)) or made[-1])
    monkeypatch.setattr(choose, "NEAR_BYTES", 3000)  # several parts
    net = net_of("groups")
    only(isa, "sconv")
    _, expected = result(net, isa)
    only(isa, "panel")
    assert np.array_equal(result(net, isa)[1], expected)
    assert made[1][0].tolist() == [0, 10, 20] and made[1][1].tolist() == [0, 1]
    monkeypatch.setattr("caffe_scnn.engine.panels.SUMS", 1)
    assert np.array_equal(result(net, isa)[1], expected)
    assert made[-3][0].tolist() == list(range(21))
    monkeypatch.setattr(choose, "NEAR_BYTES", 1 << 20)  # one part has no sums to keep
    result(net, isa)
    assert made[-3][0].tolist() == [0, 10, 20]
    result(net, isa, threads=3)  # three of each group
    assert len(made[-3][0]) == 7 and len(made[-4][0]) == 4


def test_copies_of_taps():
    """A 3x3 kernel is copied for three columns, with two rows below a tile's."""
    tap = (np.arange(3)[:, None] * 20 + np.arange(3)).ravel()
    copies = Copies.of(tap, 20, 500)
    assert copies.start.tolist() == [0, 1, 2] and copies.beyond.tolist() == [2, 2, 2]
    assert copies.floats(4, 32) == 3 * 6 * 32
    # tap (1, 2) is in the third copy, a row below its first
    assert copies.offsets(4, 32)[5] == (2 * 6 + 1) * 32
    below = Copies.of(tap[[3, 6, 7]], 20, 500)  # what no tap reads is not copied
    assert below.start.tolist() == [20, 41]
    assert below.beyond.tolist() == [1, 0] and below.row.tolist() == [0, 1, 0]


def test_phases_are_planes_of_their_own():
    tap = np.array([0, 1, 20, 500, 521])  # of two phases
    copies = Copies.of(tap, 20, 500)
    assert copies.start.tolist() == [0, 1, 500, 521]
    assert copies.beyond.tolist() == [1, 0, 0, 0]


def test_rows_share_no_vector():
    *_, keep, at, _, mode, _ = place_strips(Run(2, 20, 23, 25), 8, 2)
    # two strips of two vectors: columns 0 to 15, and 16 to 19
    assert at.tolist()[:6] == [0, 8, 25, 33, 16, 41] and mode == 3
    assert keep.tolist() == [255, 255, 255, 255, 15, 0, 15, 0]


def scene_of(layer, density):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((layer.outputs, layer.channels * layer.kernel**2))
    return Scene(layer, np.where(rng.random(weights.shape) < density, weights, 0))


@pytest.mark.skipif("avx512" not in ISAS, reason="no AVX-512")
def test_panels_are_chosen_where_many_weights_read_them():
    def best(outputs, channels, density, threads=1, kernel=3):
        scene = scene_of(Layer(outputs, channels, kernel, 28), density)
        size = (28, 28)
        return rank_tiles("avx512", scene.weights, 1, scene.shape, None, size, threads)[0]

    assert best(256, 128, 0.25).op == "panel"
    assert best(256, 128, 0.05).op == "sconv"
    assert best(16, 16, 0.1).op == "sconv"
    assert best(256, 128, 0.25, kernel=1).op == "sconv"  # whose loads are aligned
    alone, shared = (best(256, 128, 0.25, threads).cycles for threads in (1, 2))
    assert alone < shared


@pytest.mark.skipif("avx512" not in ISAS, reason="no AVX-512")
def test_panels_of_all_parts_fit_the_first_cache():
    shape = Shape(28 * 29, 100, 60, panel=PanelShape(100, 3, 6))
    weights = np.ones((8, 900), np.float32)
    direct = candidates("avx512", weights, 1, shape)
    for panels in panel_candidates("avx512", direct, 1, 28, 28):
        rows = panels.tiles.vectors // panels.columns
        for height, parts in zip(rows.tolist(), panels.tiles.parts.tolist(), strict=True):
            channel = (3 * height + 6) * panels.columns * 64
            assert -(-100 // parts) * channel <= choose.NEAR_BYTES
            assert parts == 1 or -(-100 // (parts - 1)) * channel > choose.NEAR_BYTES


@pytest.mark.skipif("avx512" not in ISAS, reason="no AVX-512")
def test_there_are_no_more_parts_than_a_kernel_takes():
    """Many channels far apart: DeepLab's dilated layers."""

    def found(channels):
        shape = Shape(33 * 45, channels, 600, panel=PanelShape(channels, 3, 36))
        direct = candidates("avx512", np.ones((2, 9), np.float32), 1, shape)
        return panel_candidates("avx512", direct, 1, 33, 33)

    assert all(panels.tiles.parts.max() <= choose.PARTS[-1] for panels in found(4096))
    assert not found(1 << 20)


@pytest.mark.skipif("avx512" not in ISAS, reason="no AVX-512")
def test_the_factor_of_panels_is_fitted():
    measured = measure("avx512", Layer(64, 32, 3, 14), 0.3, seconds=0.0005)
    assert measured.panel is not None and 0 < measured.panel_us < np.inf
    alone = Measured(measured.tiles, measured.us, measured.dense, np.inf)
    assert fit("avx512", [alone], trials=1).panel == shipped_costs("avx512").panel
    costs = shipped_costs("avx512")
    slow, slower = (
        Measured(
            measured.tiles, measured.us, measured.dense, np.inf, measured.panel,
            factor * measured.panel_us,
        )
        for factor in (100, 10_000)
    )  # fmt: skip
    found, more = (_panel_factor(costs, [m]) for m in (slow, slower))
    assert more == pytest.approx(100 * found, rel=1e-3)
    fitted = fit("avx512", [measured], trials=1)
    assert fitted.middle <= fitted.far  # fewer transfers are not dearer than more


def made(isa="scalar", across=2, **changed):
    """Return a panel kernel of a 3x3 layer in strips of 2 vectors, with some arguments changed."""
    lanes = tile_sizes(isa)[1]
    layer = Layer(4, 3, 3, across * lanes)
    scene = scene_of(layer, 0.5)
    tile = choose.Tile("panel", 1, 2 if lanes == 4 else 4, 1, 0.0, lanes, "", 0.0, 2)
    given = {}

    class Seen:
        def __init__(self, *arguments):
            names = ("isa", "convolution", "group", "source", "bound", "start", "beyond", "rows",
                     "columns", "pitch", "height", "width", "base")  # fmt: skip
            given.update(zip(names, arguments, strict=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caffe_scnn.engine.panels.PanelConvolution", Seen)
        panel_convolution(
            isa, tile, scene.weights, scene.taps, scene.copies, scene.run, Finish(), scene.base
        )
    given["isa"] = changed.pop("vocabulary", isa)
    return _kernels.PanelConvolution(*{**given, **changed}.values()), scene


@pytest.mark.parametrize(
    "changed",
    [
        {"group": np.array([1], np.int32)},
        {"group": np.zeros(2, np.int32)},
        {"source": np.zeros((1, 2), np.int64)},
        {"source": np.full((1, 3), -1, np.int64)},
        {"bound": np.array([0, 2], np.int32)},
        {"bound": np.array([1, 3], np.int32)},
        {"start": np.array([0, -1, 2], np.int64)},
        {"start": np.array([0, 1], np.int64)},
        {"beyond": np.array([2, 2, -1], np.int32)},
        {"rows": 2},
        {"columns": 1},
        {"height": 3},
        {"width": 5},
        {"pitch": 0},
        {"vocabulary": "avx2"},
        {"height": 65537, "width": 65537, "columns": 1},
        {"bound": np.array([0, 4, 3], np.int32)},
        {"group": np.array([-1], np.int32)},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changed):
    with pytest.raises(KernelError, match="fit together"):
        made(**changed)


def test_a_panel_that_is_too_small_is_refused():
    with pytest.raises(KernelError, match="outside its panel"):
        made(beyond=np.zeros(3, np.int32))


@pytest.mark.parametrize(
    "changed",
    [
        {"pitch": 1 << 30, "beyond": np.full(3, 4, np.int32)},
        {"start": np.array([0, 1, 2**63 - 150])},
        {"source": np.array([[0, 1, 2**63 - 150]])},
    ],
)
def test_numbers_that_wrap_are_refused(changed):
    with pytest.raises(KernelError, match="outside"):
        kernel, scene = made(**changed)
        scene.runner(kernel)


def test_another_height_would_leave_a_halo(monkeypatch):
    kernel, scene = made()
    given, target = scene.planes
    low = _kernels.Planes(
        target.at, target.channels, target.height - 1, target.width, target.pitch, target.lead,
        target.plane,
    )  # fmt: skip
    with pytest.raises(KernelError, match="outside"):
        kernel.bind(scene.arena, given, scene.arena, low, None, 1, 1)
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
@pytest.mark.parametrize("across", [2, 3])  # vectors: the last strip may have fewer
def test_nothing_is_read_behind_what_the_bound_says(isa, across):
    """The input ends where a page begins that nobody may read."""
    kernel, scene = made(isa, across)
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
