"""Programs made for one sparse matrix: the same bits as the table kernels, and nothing else."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor
from caffe_scnn.engine.choose import choose_tile
from caffe_scnn.engine.codegen import DIALECTS, can_program, program_convolution
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, stream
from caffe_scnn.engine.tensor import Border, Tensor
from caffe_scnn.engine.tile import Shape
from caffe_scnn.errors import KernelError
from caffe_scnn.model.net import Net

CAP = os.environ.get("CAFFE_SCNN_ISA")
ISAS = [isa for isa in _kernels.isas() if isa in DIALECTS and CAP in (None, isa)]
CANARY = np.float32(-77.25)
# results in place, in place with gaps that are zeroed, and elsewhere: packed, or row by row
LAYOUTS = [
    (1, Border(0, 0, True)),
    (3, Border(2, 2, True)),
    (3, Border(0, 0, True)),
    (1, Border(1, 1, True)),
]

pytestmark = pytest.mark.skipif(
    not ISAS or shutil.which("cc") is None, reason="no C compiler, or no such instruction set"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "caffe_scnn" / "programs"


def both(
    isa, weights, x, groups=1, kernel=(1, 1), finish=None, residual=None, threads=1, border=None
):
    """Run a convolution as a program and as the best table kernel, between canaries."""
    items, channels, height, width = x.shape
    rows, columns = height - kernel[0] + 1, width - kernel[1] + 1
    source = Tensor(x.shape, Border(0, 0, True))
    target = Tensor((items, len(weights), rows, columns), border or Border(1, 1, True))
    target.at = source.size + 160
    added = Tensor(target.shape, target.border, at=target.at + target.size + 160)
    tap = np.arange(kernel[0])[:, None] * source.pitch + np.arange(kernel[1])
    offset = np.arange(channels)[:, None] * source.plane + tap.ravel()
    taps = Taps(offset.reshape(groups, -1), kernel[0] * kernel[1])
    run = Run(rows, columns, source.pitch, target.pitch)
    finish = finish or Finish()
    shape = Shape(run.size, channels, int(tap.max()))
    tile = choose_tile(isa, weights, groups, shape)
    table = convolution(
        isa, tile.lanes, stream(weights, taps, 1), taps, run, finish, vectors=1, base=0
    )
    program, _ = program_convolution(isa, weights, taps, run, finish, 0)
    results = []
    for one in (program, table):
        memory = np.full(added.at + added.size + 160, CANARY)
        memory[: source.size] = 0
        source.array(memory)[...] = x
        if residual is not None:
            added.array(memory)[...] = residual
        before = memory.copy()
        one.bind(
            memory, source.planes(), memory, target.planes(),
            None if residual is None else added.planes(), items, threads,
        )()  # fmt: skip
        outside = np.ones(len(memory), bool)
        outside[target.at : target.at + target.size] = False
        assert np.array_equal(memory[outside], before[outside])
        results.append(target.array(memory).copy())
    return results


def sparse(rng, *shape, density=0.1):
    return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("outputs", [1, 27, 28, 29, 90])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)], ids=str)
def test_a_program_gives_the_bits_of_the_table_kernels(isa, outputs, kernel):
    rng = np.random.default_rng(outputs)
    weights = sparse(rng, outputs, 70 * kernel[0] * kernel[1])
    weights[2:4] = 0
    x = rng.standard_normal((2, 70, 9, 13)).astype(np.float32)
    got, want = both(isa, weights, x, 1, kernel, Finish(rng.standard_normal(outputs)))
    assert np.array_equal(got, want)
    assert want.any()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("slopes", [False, True])
@pytest.mark.parametrize(("kernel", "border"), LAYOUTS)
def test_groups_slopes_clamps_and_residuals(isa, threads, slopes, kernel, border):
    rng = np.random.default_rng(0)
    weights = sparse(rng, 80, 35 * kernel * kernel, density=0.3)
    x = rng.standard_normal((1, 70, 3 + kernel, 15 + kernel)).astype(np.float32)
    bias, slope = rng.standard_normal((2, 80)).astype(np.float32)
    finish = Finish(bias, slope if slopes else None, -1.5, 2.5)
    for residual in (None, rng.standard_normal((1, 80, 4, 16)).astype(np.float32)):
        got, want = both(isa, weights, x, 2, (kernel, kernel), finish, residual, threads, border)
        assert np.array_equal(got, want)
        assert (want < bias[:, None, None]).any()


@pytest.mark.parametrize("isa", ISAS)
def test_far_columns_and_many_weights_are_reached(isa):
    rng = np.random.default_rng(0)
    weights = sparse(rng, 40, 900, density=0.4)
    x = rng.standard_normal((1, 900, 20, 20)).astype(np.float32)
    got, want = both(isa, weights, x)
    assert np.array_equal(got, want)


NET = """
name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 64 dim: 20 dim: 20 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 100 kernel_size: 1 } }
"""


def net(rng):
    made = Net.parse(NET)
    made.layer("conv").blobs = [
        sparse(rng, 100, 64, 1, 1),
        rng.standard_normal(100).astype(np.float32),
    ]
    return made


def test_the_executor_keeps_programs_and_results(cache):
    rng = np.random.default_rng(0)
    model, x = net(rng), rng.standard_normal((1, 64, 20, 20)).astype(np.float32)
    # exact: on a busy machine another form might be timed as the faster one
    plain = Executor(model, threads=1, exact=True).run({"data": x})["conv"]
    made = Executor(model, threads=1, codegen=True, exact=True).run({"data": x})["conv"]
    assert np.array_equal(plain, made)
    assert [path.suffix for path in cache.iterdir()] == [".so"]
    Executor(model, threads=1, codegen=True, exact=True).run({"data": x})
    assert len(list(cache.iterdir())) == 1


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(KernelError, match="no-such-compiler"):
        Executor(net(np.random.default_rng(0)), codegen=True, exact=True).plan()


def test_a_failing_compiler_is_quoted(monkeypatch, cache):
    monkeypatch.setenv("CC", "false")
    with pytest.raises(KernelError, match=r"false -shared .* failed"):
        Executor(net(np.random.default_rng(0)), codegen=True, exact=True).plan()
    assert not list(cache.iterdir())


def test_only_sparse_matrices_get_one():
    rng = np.random.default_rng(0)
    isa = ISAS[0]
    assert can_program(isa, sparse(rng, 64, 64), None, 49)
    assert not can_program(isa, sparse(rng, 64, 64), None, 13)  # its code would be fetched in vain
    assert not can_program(isa, sparse(rng, 64, 64, density=0.6), None, 49)
    assert not can_program(isa, np.zeros((64, 64), np.float32), None, 49)
    assert not can_program("scalar", sparse(rng, 64, 64), None, 49)


def test_a_program_that_does_not_fit_is_refused():
    with pytest.raises(KernelError, match="program"):
        _kernels.Program(None, 0, 0, np.zeros(1, np.int64), np.ones(1, np.float32))
