"""Winograd's form of dense 3x3 convolutions: tiles, edges, groups, bands and threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor, choose, tile, winograd
from caffe_scnn.engine.forms import choose_forms
from caffe_scnn.engine.nodes import Node, Program, Value
from caffe_scnn.engine.plan import build_plan
from caffe_scnn.errors import KernelError
from caffe_scnn.layers.base import ActivationSpec, ConvolutionSpec
from caffe_scnn.model.net import Net

pytestmark = pytest.mark.usefixtures("nothing_copied")

CAP = os.environ.get("CAFFE_SCNN_ISA")
ISAS = [isa for isa in _kernels.isas() if CAP in (None, isa)]
ULP = 2.0**-24
FORMS = {0: "direct", 2: "winograd2", 4: "winograd4"}


@dataclass
class Named:
    """A layer as far as a node needs it."""

    name: str = "conv"


def convolve(weights, x, pad, m, group=1, bias=None, finish=None, residual=None, **how):
    """Run one convolution in tiles of m x m, or directly (m = 0)."""
    form = FORMS[m]
    shape = (
        len(x),
        len(weights),
        *(size + 2 * p - 2 for size, p in zip(x.shape[2:], pad, strict=True)),
    )
    given, result = Value("x", x.shape), Value("y", shape)
    spec = ConvolutionSpec(weights, bias, (1, 1), pad, (1, 1), group)
    node = Node([Named()], spec, [given], [result], finish, form=form, nonzero_macs=10**9)
    program = Program([node], {"x": given}, {}, {"y": result})
    arrays = {"x": x}
    if residual is not None:
        node.residual = program.inputs["r"] = Value("r", shape)
        arrays["r"] = residual
    plan = build_plan(program, how.pop("isa", ISAS[0]), how.pop("threads", 1), exact=True)
    return plan.compute(arrays)["y"]


def bound(weights, x, pad, group):
    """The limit of a plain sum's error, for every pixel."""
    sizes = convolve(np.abs(weights), np.abs(x), pad, 0, group)
    return (weights[0].size + 2) * ULP * sizes


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(
    ("shape", "outputs", "pad", "group"),
    [
        ((1, 64, 13, 13), 33, (1, 1), 1),
        ((3, 64, 7, 9), 40, (0, 1), 1),
        ((2, 96, 16, 16), 34, (2, 0), 2),
        ((1, 48, 3, 70), 5, (1, 1), 1),
        ((1, 48, 1, 1), 3, (1, 1), 1),
        ((4, 49, 7, 7), 5, (1, 1), 1),
    ],
    ids=str,
)
def test_every_edge_stays_within_the_bound_of_the_plain_sum(isa, m, shape, outputs, pad, group):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((outputs, shape[1] // group, 3, 3)).astype(np.float32)
    x = rng.standard_normal(shape).astype(np.float32)
    want = convolve(weights, x, pad, 0, group, isa=isa)
    got = convolve(weights, x, pad, m, group, isa=isa)
    assert (np.abs(got - want) <= bound(weights, x, pad, group)).all()


@pytest.mark.parametrize("m", [2, 4])
def test_bias_slope_residual_and_halo(m):
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((21, 64, 3, 3)).astype(np.float32)
    x = rng.standard_normal((2, 64, 10, 11)).astype(np.float32)
    bias, slope = rng.standard_normal((2, 21)).astype(np.float32)
    residual = rng.standard_normal((2, 21, 10, 11)).astype(np.float32)
    leaky = ActivationSpec("prelu", (), slope)
    more = {"bias": bias, "finish": leaky, "residual": residual}
    want = convolve(weights, x, (1, 1), 0, **more)
    got = convolve(weights, x, (1, 1), m, **more)
    limit = 3 * bound(weights, x, (1, 1), 1) + 8 * ULP * np.abs(residual)
    assert (np.abs(got - want) <= limit).all()


@pytest.mark.parametrize("m", [2, 4])
def test_bands_and_threads_change_no_bit(m, monkeypatch):
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((40, 64, 3, 3)).astype(np.float32)
    x = rng.standard_normal((3, 64, 21, 18)).astype(np.float32)
    whole = convolve(weights, x, (1, 1), m)
    assert np.array_equal(whole, convolve(weights, x, (1, 1), m, threads=3))
    monkeypatch.setattr(winograd, "TOGETHER", 20)
    assert np.array_equal(whole, convolve(weights, x, (1, 1), m))
    monkeypatch.setattr(winograd, "BAND_BYTES", 1)
    monkeypatch.setattr(winograd, "BAND_SHARE", 0)
    assert np.array_equal(whole, convolve(weights, x, (1, 1), m, threads=2))


def test_a_map_that_is_not_finite_spoils_its_neighbourhood_only():
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((8, 64, 3, 3)).astype(np.float32)
    x = rng.standard_normal((1, 64, 16, 16)).astype(np.float32)
    x[0, 0, 0, 0] = np.nan
    spoilt = np.isnan(convolve(weights, x, (1, 1), 4)).any(axis=(0, 1))
    assert spoilt[:4, :4].all() and spoilt.sum() == 16


NET = """
name: "n"
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 1 dim: {channels} dim: 28 dim: 28 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 128 kernel_size: 3 pad: 1 bias_term: false }} }}
"""


def step(channels, density=1.0, empty=(), **how):
    """The step of a layer of this shape; ``empty``: an index of weights that are zero."""
    net = Net.parse(NET.format(channels=channels))
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((128, channels, 3, 3)).astype(np.float32)
    weights[rng.random(weights.shape) >= density] = 0
    for index in empty:
        weights[index] = 0
    net.layer("conv").blobs = [weights]
    return Executor(net, threads=1, isa=ISAS[0], **how).plan().steps[0]


def kernel(*what, **how):
    """Name of the kernel that a layer gets."""
    return step(*what, **how).kernel


def test_large_dense_layers_use_it_and_others_do_not():
    assert "winograd" in kernel(128)
    assert "winograd" not in kernel(128, exact=True)
    assert "winograd" not in kernel(128, density=0.3)
    assert "winograd" not in kernel(8)  # too few products for its rounding


def test_filters_and_channels_without_weights_cost_nothing():
    whole, fewer = step(128), step(128, empty=[np.s_[1::4], np.s_[:, ::4]])
    assert "winograd" in fewer.kernel
    assert fewer.weight_bytes == pytest.approx(whole.weight_bytes * 0.75 * 0.75, rel=0.02)


@pytest.mark.parametrize(
    ("channels", "forms"), [(15, None), (16, {"direct", "winograd2"}), (48, set(FORMS.values()))]
)
def test_forms_need_so_many_products_that_rounding_stays_in_its_bound(channels, forms):
    weights = np.ones((128, channels, 3, 3), np.float32)
    given, result = Value("x", (1, channels, 28, 28)), Value("y", (1, 128, 28, 28))
    spec = ConvolutionSpec(weights, None, (1, 1), (1, 1), (1, 1), 1)
    program = Program([Node([Named()], spec, [given], [result])], {"x": given}, {}, {"y": result})
    offered = []

    def choose(node, cycles):
        offered.append(set(cycles))
        return "direct"

    choose_forms(program, ISAS[0], choose=choose)
    assert offered == ([forms] if forms else [])


def test_channels_that_its_filters_ignore_are_not_computed_and_may_hold_anything():
    rng = np.random.default_rng(4)
    given, between, result = (Value(n, (1, 64, 9, 9)) for n in "xmy")
    first = rng.standard_normal((64, 64, 1, 1)).astype(np.float32)
    second = rng.standard_normal((64, 64, 3, 3)).astype(np.float32)
    second[:, 5] = 0
    mix = ConvolutionSpec(first, None, (1, 1), (0, 0), (1, 1), 1)
    filters = ConvolutionSpec(second, None, (1, 1), (1, 1), (1, 1), 1)
    nodes = [
        Node([Named()], mix, [given], [between]),
        Node([Named()], filters, [between], [result], form="winograd4"),
    ]
    plan = build_plan(Program(nodes, {"x": given}, {}, {"y": result}), ISAS[0], 1, exact=True)
    plan.arena[...] = np.nan
    plan.feed({"x": np.ones((1, 64, 9, 9), np.float32)})
    plan.run()
    held = plan.steps[0].writes[0].array(plan.arena)
    assert np.isnan(held[0, 5]).all() and np.isfinite(np.delete(held, 5, axis=1)).all()
    assert np.isfinite(plan.output("y")).all()


def test_coefficients_outside_their_memory_are_refused():
    transform = _kernels.Winograd(ISAS[0], 4, 2, 2, 2, (1, 1), None, None, -np.inf, np.inf)
    memory = np.zeros(600, np.float32)
    source = _kernels.Planes(0, 1, 8, 8, 8, 0, 64)
    with pytest.raises(KernelError, match="band"):
        transform.scatter(
            memory, source, memory, _kernels.Planes(64, 36, 1, 4, 4, 0, 4), 0, 3, 1, 1
        )
    with pytest.raises(KernelError, match="arena"):
        transform.scatter(
            memory, source, memory, _kernels.Planes(500, 36, 1, 4, 4, 0, 4), 0, 2, 1, 1
        )
    with pytest.raises(KernelError, match="cover"):
        transform.gather(
            memory, _kernels.Planes(64, 36, 1, 4, 4, 0, 4), memory,
            _kernels.Planes(0, 1, 9, 4, 4, 0, 36), None, 0, 2, 1, 1,
        )  # fmt: skip


@pytest.mark.skipif("avx2" not in _kernels.isas(), reason="the processor has no AVX2")
@pytest.mark.parametrize(
    ("channels", "second", "direct"),
    [(16, 1 << 19, True), (16, 1 << 21, False), (64, 1 << 19, False)],
)
def test_few_channels_do_not_pay_where_their_coefficients_leave_the_second_level_cache(
    channels, second, direct, monkeypatch
):
    """16 to 64 channels of 56x56 (SqueezeNet 1.1), 512 KB: no gain, beside others' work a loss."""
    for module in (choose, tile, winograd):
        monkeypatch.setattr(module, "cache_bytes", {1: 1 << 15, 2: second}.__getitem__)
    weights = np.ones((4 * channels, channels, 3, 3), np.float32)
    given = Value("x", (1, channels, 56, 56))
    result = Value("y", (1, 4 * channels, 56, 56))
    spec = ConvolutionSpec(weights, None, (1, 1), (1, 1), (1, 1), 1)
    node = Node([Named()], spec, [given], [result])
    choose_forms(Program([node], {"x": given}, {}, {"y": result}), "avx2")
    assert (node.form == "direct") == direct
