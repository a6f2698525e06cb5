"""Dense convolutions on the matrix unit: edges of its tiles, bands, threads, what it refuses."""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor, bf16
from caffe_scnn.engine.bf16 import PARTS, from_bf16, plan_split, split_numbers, to_bf16
from caffe_scnn.engine.costs import BF16
from caffe_scnn.engine.forms import choose_forms
from caffe_scnn.engine.nodes import Node, Program, Value
from caffe_scnn.engine.ops import bands
from caffe_scnn.engine.ops.convolution import Matrix
from caffe_scnn.engine.packing import Finish, Run, Taps
from caffe_scnn.engine.plan import build_plan
from caffe_scnn.engine.tensor import Border, Tensor
from caffe_scnn.errors import KernelError
from caffe_scnn.layers.base import ActivationSpec, ConvolutionSpec
from caffe_scnn.model.net import Net

pytestmark = pytest.mark.usefixtures("nothing_copied")

CAP = os.environ.get("CAFFE_SCNN_ISA")
needs_amx = pytest.mark.skipif(
    not _kernels.has_amx(), reason="this processor has no matrix unit (AMX), or it is capped"
)
ULP = 2.0**-24


@dataclass
class Named:
    """A layer as far as a node needs it."""

    name: str = "conv"


@dataclass(frozen=True)
class Layer:
    """A convolution on inputs of ``shape``."""

    shape: tuple[int, int, int, int]
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    group: int = 1

    def operands(self, seed=0):
        """Return weights and inputs."""
        rng = np.random.default_rng(seed)
        size = (self.outputs, self.shape[1] // self.group, *self.kernel)
        return (rng.standard_normal(s).astype(np.float32) for s in (size, self.shape))

    def run(self, form, weights, x, bias=None, finish=None, residual=None, threads=1):
        """Convolve in one form."""
        pad, stride, dilation = ((n, n) for n in (self.pad, self.stride, self.dilation))
        size = [
            (n + 2 * self.pad - self.dilation * (k - 1) - 1) // self.stride + 1
            for n, k in zip(x.shape[2:], self.kernel, strict=True)
        ]
        given, result = Value("x", x.shape), Value("y", (len(x), self.outputs, *size))
        spec = ConvolutionSpec(weights, bias, stride, pad, dilation, self.group)
        node = Node([Named()], spec, [given], [result], finish, form=form, nonzero_macs=10**9)
        program = Program([node], {"x": given}, {}, {"y": result})
        arrays = {"x": x}
        if residual is not None:
            node.residual = program.inputs["r"] = Value("r", result.shape)
            arrays["r"] = residual
        plan = build_plan(program, "avx512", threads, exact=True)
        plan.arena[...] = np.nan
        return plan.compute(arrays)["y"]

    def bound(self, weights, x):
        """The limit of a plain sum's error, for every pixel."""
        sizes = self.run("direct", np.abs(weights), np.abs(x))
        return (weights[0].size + 2) * ULP * sizes


LAYERS = [
    Layer((1, 96, 14, 14), 64),
    Layer((2, 130, 9, 7), 33),
    Layer((1, 96, 1, 2), 16),
    Layer((1, 128, 3, 5), 1),
    Layer((1, 64, 13, 13), 40, (3, 3), pad=1),
    Layer((2, 96, 12, 12), 50, (5, 5), pad=2, group=2),
    Layer((1, 48, 15, 15), 20, (3, 3), stride=2, pad=1),
    Layer((1, 3, 45, 45), 24, (11, 11), stride=4),
    Layer((1, 8, 23, 20), 17, (7, 7), stride=2, pad=3),
    Layer((3, 40, 11, 11), 48, (3, 3), pad=2, dilation=2),
    Layer((1, 160, 17, 17), 34, (1, 1), stride=2),
    Layer((1, 64, 9, 9), 20, (1, 7), pad=3),
    Layer((1, 256, 1, 70), 96, group=2),
    Layer((1, 20, 1, 4), 16, (1, 3)),
]


@needs_amx
@pytest.mark.parametrize("form", PARTS)
@pytest.mark.parametrize("way", [0, 1, 2], ids=["taps", "rows", "columns"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_every_edge_stays_within_the_bound_of_the_plain_sum(layer, way, form, monkeypatch):
    ways = bf16._ways
    monkeypatch.setattr(
        bf16, "_ways", lambda *what: list(ways(*what))[way:][:1] or list(ways(*what))[-1:]
    )
    weights, x = layer.operands()
    want = layer.run("direct", weights, x)
    got = layer.run(form, weights, x)
    assert (np.abs(got - want) <= layer.bound(weights, x)).all()
    assert not np.array_equal(got, want)  # it ran at all


@needs_amx
@pytest.mark.parametrize(
    "layer", [Layer((1, 256, 20, 20), 64, (3, 3), pad=1), Layer((1, 16, 50, 50), 64)], ids=str
)
def test_six_products_are_as_exact_as_one_of_floats(layer):
    weights, x = layer.operands()
    pads = [(0, 0), (0, 0), (layer.pad,) * 2, (layer.pad,) * 2]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads), layer.kernel, (2, 3))
    truth = np.einsum("nchwij,ocij->nohw", windows, weights, dtype=np.float64, optimize=True)
    error = {form: np.abs(layer.run(form, weights, x) - truth) for form in ("direct", *PARTS)}
    assert error["bf16x6"].mean() <= 1.5 * error["direct"].mean()
    assert error["bf16x3"].mean() > 3 * error["bf16x6"].mean()
    assert (error["bf16x6"] <= 0.5 * layer.bound(weights, x)).all()


@needs_amx
@pytest.mark.parametrize("form", PARTS)
@pytest.mark.parametrize("pad", [0, 1])
def test_bias_slope_residual_and_halo(pad, form):
    layer = Layer((2, 64, 10, 11), 21, (3, 3), pad=pad)
    weights, x = layer.operands(1)
    rng = np.random.default_rng(2)
    bias, slope = rng.standard_normal((2, 21)).astype(np.float32)
    size = (2, 21, 8 + 2 * pad, 9 + 2 * pad)
    residual = rng.standard_normal(size).astype(np.float32)
    more = {
        "bias": bias,
        "finish": ActivationSpec("prelu", (), slope),
        "residual": residual,
    }
    want = layer.run("direct", weights, x, **more)
    got = layer.run(form, weights, x, **more)
    limit = 3 * layer.bound(weights, x) + 8 * ULP * np.abs(residual)
    assert (np.abs(got - want) <= limit).all()
    clamped = {"bias": bias, "finish": ActivationSpec("clip", (0.0, 6.0), None)}
    got = layer.run(form, weights, x, **clamped)
    assert got.min() == 0 and got.max() == 6


def chain(form, kernel, threads=1):
    """Two convolutions, the second of which pads what the first one and its PReLU write."""
    rng = np.random.default_rng(8)
    given, between, result = (
        Value(n, (2, c, 11, 19)) for n, c in zip("xmy", (64, 70, 9), strict=True)
    )
    sizes = (70, 64, kernel, kernel), (9, 70, 3, 3)
    weights = [rng.standard_normal(size).astype(np.float32) for size in sizes]
    specs = [ConvolutionSpec(w, None, (1, 1), (w.shape[2] // 2,) * 2, (1, 1), 1) for w in weights]
    leaky = ActivationSpec("prelu", (), rng.standard_normal(70).astype(np.float32))
    nodes = [
        Node([Named()], specs[0], [given], [between], leaky, form=form, nonzero_macs=10**9),
        Node([Named()], specs[1], [between], [result], form=form, nonzero_macs=10**9),
    ]
    program = Program(nodes, {"x": given}, {}, {"y": result})
    plan = build_plan(program, "avx512", threads, exact=True)
    plan.arena[...] = np.nan
    plan.feed({"x": rng.standard_normal(given.shape).astype(np.float32)})
    plan.run()
    return plan, plan.output("y").copy()


@needs_amx
@pytest.mark.parametrize("kernel", [1, 3])
def test_padding_around_what_it_writes_is_zero(kernel):
    want, got = (chain(form, kernel)[1] for form in ("direct", "bf16x6"))
    assert np.abs(got - want).max() <= 2e-6 * np.abs(want).max()


@needs_amx
@pytest.mark.parametrize("threads", [1, 3])
def test_it_runs_band_by_band(threads, monkeypatch):
    whole = chain("bf16x6", 3, threads)[1]
    for name, value in {"WHOLE_BYTES": 0, "BAND_BYTES": 1 << 20, "LEAST_PIXELS": 1}.items():
        monkeypatch.setattr(bands, name, value)
    plan, got = chain("bf16x6", 3, threads)
    assert plan.steps[0].kernel == "f32_bf16x6__amx f32_bf16x6__amx"
    assert np.array_equal(got, whole)


@needs_amx
@pytest.mark.parametrize("form", PARTS)
@pytest.mark.parametrize("layer", [LAYERS[1], LAYERS[5], LAYERS[7]], ids=str)
def test_bands_and_threads_change_no_bit(layer, form, monkeypatch):
    weights, x = layer.operands(3)
    whole = layer.run(form, weights, x)
    assert np.array_equal(whole, layer.run(form, weights, x, threads=3))
    monkeypatch.setattr(bf16, "BAND_BYTES", 1)
    assert np.array_equal(whole, layer.run(form, weights, x, threads=2))
    assert np.array_equal(whole, layer.run(form, weights, x))


@needs_amx
def test_a_number_that_is_not_finite_spoils_what_it_reaches_only():
    layer = Layer((1, 64, 16, 16), 8, (3, 3), pad=1)
    weights, x = layer.operands(4)
    odd = np.array([0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    for value in (np.nan, -np.nan, np.inf, np.finfo(np.float32).max, *odd):
        x[0, 3, 5, 5] = value
        spoilt = np.isnan(layer.run("bf16x6", weights, x)).any(axis=(0, 1))
        assert spoilt[4:7, 4:7].all() and spoilt.sum() == 9


@needs_amx
def test_channels_that_no_weight_reads_may_hold_anything():
    layer = Layer((1, 64, 9, 9), 20, (3, 3), pad=1)
    weights, x = layer.operands(5)
    weights[:, 5] = 0
    x[:, 5] = np.nan
    assert np.isfinite(layer.run("bf16x6", weights, x)).all()


@pytest.mark.parametrize("form", PARTS)
def test_weights_come_slower_than_products_on_small_maps_only(form):
    """A 7x7 map leaves the unit waiting for them, a 56x56 one does not."""

    def share(size):
        run, taps = Run(1, size, size, size), Taps(np.arange(512)[None] * 4096)
        costs = BF16[form]
        products = 16 * 32 * -(-size // 16) * costs.product
        return plan_split(form, 512, taps, run, 4096).cycles / products

    assert share(49) > 2.2 > 1.8 > share(3136)


@pytest.mark.parametrize("form", PARTS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_packed_weights_read_as_the_kernel_does_give_the_convolution(layer, form, monkeypatch):
    """What the kernel does, in NumPy: on any machine."""
    made = []
    monkeypatch.setattr(bf16, "Bf16Convolution", lambda *given: made.append(given))
    rng = np.random.default_rng(6)
    weights = rng.standard_normal((layer.outputs, layer.shape[1] // layer.group, *layer.kernel))
    pads, strides, dilations = ((n, n) for n in (layer.pad, layer.stride, layer.dilation))
    spec = ConvolutionSpec(weights.astype(np.float32), None, strides, pads, dilations, layer.group)
    target = Tensor((1, layer.outputs, 3, 3), Border())
    planes = Tensor((1, layer.shape[1] * layer.stride**2, 9, 9), Border(3, 3, aligned=True))
    matrix = Matrix.of(spec, planes, target)
    for way in list(bf16._ways(matrix.taps, matrix.plane, matrix.run.pitch)):
        with monkeypatch.context() as patch:
            patch.setattr(bf16, "_ways", lambda *what, chosen=way: [chosen])
            split = plan_split(form, layer.outputs, matrix.taps, matrix.run, matrix.plane)
        given = matrix.weights(), matrix.taps, matrix.run, Finish(), matrix.base, 0
        bf16.bf16_convolution(split, *given)
        parts, offset, shift, steps, packed, row, source, _, _, channel, *_ = made.pop()
        memory = rng.standard_normal(matrix.taps.reach + int(shift.max()) + 1)
        got = np.zeros(layer.outputs)
        for block, (begin, end) in enumerate(pairwise(row)):
            each = steps * len(shift) * 32 * parts
            taken = packed[begin * each : end * each]
            # step, tap, part, tile of channels, pair of entries, channel, entry of the pair
            lay = taken.reshape(steps, len(shift), parts, (end - begin) // 16, 16, 16, 2)
            numbers = from_bf16(lay).astype(np.float64).sum(axis=2)
            entries = offset.reshape(-1, 16, 2)[source[block] : source[block] + steps]
            at = entries[:, None] + shift[:, None, None]
            inputs = np.where(entries[:, None] < 0, 0, memory[np.maximum(at, 0)])
            sums = np.einsum("stcpoe,stpe->co", numbers, inputs).ravel()
            kept = channel[begin:end] >= 0
            got[channel[begin:end][kept]] = sums[kept]
        groups = np.arange(layer.outputs) // (layer.outputs // layer.group)
        want = (matrix.weights() * memory[matrix.taps.offset[groups]]).sum(axis=1)
        size = (np.abs(matrix.weights()) * np.abs(memory[matrix.taps.offset[groups]])).sum(axis=1)
        assert (np.abs(got - want) <= 2.0 ** -(8 * parts) * size).all()


def test_bf16_numbers_are_the_nearest():
    values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, -3.1415927, 1e-30, 65504, np.inf], np.float32)
    found = from_bf16(to_bf16(values))
    assert found[:3].tolist() == [1, 1, 1 + 2**-6]  # ties go to the even number
    assert (np.abs(found[:-1] - values[:-1]) <= 2**-8 * np.abs(values[:-1])).all()
    assert np.isposinf(found[-1])
    assert np.isnan(from_bf16(to_bf16(np.array([0xFFFFFFFF], np.uint32).view(np.float32)))).all()


def test_three_parts_hold_every_bit():
    values = np.random.default_rng(7).standard_normal(10_000).astype(np.float32)
    parts = from_bf16(split_numbers(values, 3))
    assert np.array_equal(parts.sum(axis=0, dtype=np.float64), values.astype(np.float64))


NET = """
name: "n"
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 1 dim: {channels} dim: 28 dim: 28 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 256 kernel_size: {size} bias_term: false }} }}
"""


def kernel(channels, size=1, density=1.0, **how):
    """Name of the kernel that a layer gets."""
    net = Net.parse(NET.format(channels=channels, size=size))
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((256, channels, size, size)).astype(np.float32)
    weights[rng.random(weights.shape) >= density] = 0
    net.layer("conv").blobs = [weights]
    return Executor(net, threads=1, **how).plan().steps[0].kernel


@needs_amx
def test_large_dense_layers_use_it_and_others_do_not(monkeypatch):
    assert kernel(256) == "f32_bf16x6__amx"
    assert kernel(256, bf16x3=True) == "f32_bf16x3__amx"
    assert kernel(95, bf16x3=True) != "f32_bf16x3__amx"  # too few products for its rounding
    assert "amx" not in kernel(256, exact=True)
    assert Executor(Net.parse(NET.format(channels=8, size=1)), exact=True).isa != "amx"
    assert "amx" not in kernel(256, density=0.05)
    assert "amx" not in kernel(256, isa="avx512")
    monkeypatch.setenv("CAFFE_SCNN_ISA", "avx512")
    assert "amx" not in kernel(256)
    assert "amx" in kernel(256, isa="amx")


@needs_amx
def test_tuning_times_it_among_the_forms(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel(256, 3, tune=True, bf16x3=True) == "f32_bf16x3__amx"
    assert '"bf16x3"' in (tmp_path / "caffe_scnn" / "tiles.json").read_text()


def test_exact_and_bf16x3_exclude_each_other():
    with pytest.raises(KernelError, match="choose one"):
        kernel(128, exact=True, bf16x3=True)


@pytest.mark.parametrize(("channels", "offered"), [(95, False), (96, True)])
def test_it_is_offered_where_sums_are_long(channels, offered):
    weights = np.ones((128, channels, 1, 1), np.float32)
    given, result = Value("x", (1, channels, 28, 28)), Value("y", (1, 128, 28, 28))
    spec = ConvolutionSpec(weights, None, (1, 1), (0, 0), (1, 1), 1)
    program = Program([Node([Named()], spec, [given], [result])], {"x": given}, {}, {"y": result})
    forms = []

    def choose(node, cycles):
        forms.extend(cycles)
        return "direct"

    isa = _kernels.isas()[0] if CAP in (None, "amx") else CAP
    choose_forms(program, isa, PARTS, choose)
    assert "bf16x6" in forms
    assert ("bf16x3" in forms) == offered


@needs_amx
@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"parts": 4}, "2 or 3"),
        ({"parts": 3}, "fit together"),
        ({"offset": np.full(31, -1, np.int32)}, "fit together"),
        ({"shift": np.array([-1], np.int32)}, "fit together"),
        ({"weight": np.zeros(16 * 64 - 1, np.uint16)}, "fit together"),
        ({"row": np.array([0, 15], np.int64)}, "fit together"),
        ({"source": np.array([1], np.int32)}, "fit together"),
        ({"bias": np.zeros(15, np.float32)}, "fit together"),
        ({"slope": np.zeros(15, np.float32)}, "fit together"),
        ({"channel": np.full(16, -2, np.int32)}, "fit together"),
        ({"pitch": 15}, "pitch"),
        ({"band": 1 << 28}, "pitch"),
        ({"pitch": 1 << 60}, "outside"),
        (
            {
                "offset": np.full(32, 2**31 - 1, np.int32),
                "shift": np.array([100], np.int32),
                "pitch": 256,
            },
            "outside",
        ),
        ({"base": 1}, "outside"),
        ({"scratch": 200}, "outside"),
        ({"scratch": 1}, "outside"),
        ({"channel": np.arange(16, dtype=np.int32) + 1}, "outside"),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_refused(change, refused):
    every = np.uint32(0xFFFF)
    store = (
        np.array([0, 1], np.int32), np.zeros(1, np.int32), np.array([every]), np.array([every]),
        np.zeros(1, np.int32), np.arange(16, dtype=np.uint8), 1, 0xFFFF,
    )  # fmt: skip
    given = {
        "parts": 2,
        "offset": np.concatenate([np.zeros(1, np.int32), np.full(31, -1, np.int32)]),
        "shift": np.zeros(1, np.int32),
        "steps": 1,
        "weight": np.zeros(16 * 64, np.uint16),
        "row": np.array([0, 16], np.int64),
        "source": np.zeros(1, np.int32),
        "bias": np.zeros(16, np.float32),
        "slope": None,
        "channel": np.arange(16, dtype=np.int32),
        "store": store,
        "base": 0,
        "band": 2,
        "pitch": 32,
        "scratch": 16 * 17,
        "low": -np.inf,
        "high": np.inf,
    }
    memory = np.zeros(16 * 17 + 32 * 32 + 16, np.float32)
    begin = -(memory.ctypes.data // 4) % 16
    memory = memory[begin : begin + 16 * 17 + 32 * 32]

    def bind(**changed):
        made = _kernels.Bf16Convolution(*{**given, **changed}.values())
        source = _kernels.Planes(0, 1, 1, 16, 16, 0, 16)
        target = _kernels.Planes(16, 16, 1, 16, 16, 0, 16)
        return made.bind(memory[: 16 * 17 + 32 * 32], source, memory, target, None, 1, 1)

    bind()()
    with pytest.raises(KernelError, match=refused):
        short = {**change}
        if change.keys() & {"base"}:
            short["base"] = -1
        bind(**short)


@needs_amx
def test_nothing_is_read_behind_the_last_input():
    """The input ends where a page begins that nobody may read."""
    page, size = mmap.PAGESIZE, 2 * 16 + 5
    pages = mmap.mmap(-1, 3 * page)
    guard = ctypes.addressof(ctypes.c_char.from_buffer(pages)) + 2 * page
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), page, 0) == 0
    memory = np.frombuffer(pages, np.float32, 2 * page // 4)
    at = len(memory) - size
    shift = np.array([0, 5], np.int32)
    every = np.array([0xFFFF, 0xF], np.uint32)
    store = (
        np.arange(3, dtype=np.int32), np.zeros(2, np.int32), every, every,
        np.array([0, 16], np.int32), np.tile(np.arange(16, dtype=np.uint8), 2), 1, 0xF,
    )  # fmt: skip
    offset = np.concatenate([np.zeros(1, np.int32), np.full(31, -1, np.int32)])
    numbers = np.zeros(16, np.float32)
    rows = np.array([0, 16], np.int64), np.zeros(1, np.int32)
    kernel = _kernels.Bf16Convolution(
        2, offset, shift, 1, np.zeros(2048, np.uint16), *rows, numbers, None,
        np.arange(16, dtype=np.int32), store, 0, 2, 48, 0, -np.inf, np.inf,
    )  # fmt: skip
    target = np.zeros(16 * 20, np.float32)
    source = _kernels.Planes(at, 1, 1, 20, 20, 0, size)
    planes = _kernels.Planes(0, 16, 1, 20, 20, 0, 20)
    kernel.bind(memory, source, target, planes, None, 1, 1)()
    with pytest.raises(KernelError, match="outside"):
        source = _kernels.Planes(at + 1, 1, 1, 20, 20, 0, size - 1)
        kernel.bind(memory, source, target, planes, None, 1, 1)
