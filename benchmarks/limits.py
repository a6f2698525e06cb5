"""What one core of this machine can do: multiply-adds and bandwidth, the roofs of every kernel.

    python benchmarks/limits.py [--json FILE]

Needs a C compiler. Each figure is the best of gated samples (``gate.py``). Beside the limits stand
the kernels on data that starts in the second-level cache: dense, in blocks of four channels, and
unstructured with 90 % zeros, as GFLOP/s on the non-zero weights and as a share of what
multiply-adds with an operand from memory reach.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import numpy as np
from gate import Gate

from caffe_scnn import _kernels
from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.codegen import DIALECTS, program_convolution
from caffe_scnn.engine.matrix import pack, spmm
from caffe_scnn.engine.packing import Finish, Run, Taps
from caffe_scnn.engine.tensor import Border, Tensor

WIDTH = {"avx512": 64, "avx2": 32, "scalar": 16}
SIZES = {"L1": 24 << 10, "L2": 400 << 10, "L3": 8 << 20, "DRAM": 256 << 20}
SUMS = 12
SAMPLES = 9
PIXELS, CHANNELS = 784, 256


def best(gate: Gate, run: Callable[[], object]) -> float:
    """Return the seconds of the fastest gated sample."""
    run()
    return min(gate.sample(run) for _ in range(SAMPLES))


def probes(isa: str) -> ctypes.CDLL:
    """Compile the probes for this processor."""
    source = Path(__file__).with_name("limits.c")
    with TemporaryDirectory() as folder:
        made = Path(folder, "limits.so")
        flags = ["-O2", "-march=native", "-ffp-contract=fast", f"-DWIDTH={WIDTH[isa]}", "-shared"]
        compiler = shlex.split(os.environ.get("CC", "cc"))
        subprocess.run([*compiler, *flags, "-fPIC", "-o", made, source], check=True)
        return ctypes.CDLL(str(made))


def limits(gate: Gate, isa: str) -> dict[str, float]:
    """Return GFLOP/s of multiply-adds and GB/s of reads."""
    library, lanes = probes(isa), WIDTH[isa] // 4
    memory = np.zeros(SIZES["DRAM"] // 4 + 64, np.float32)
    begin = -memory.ctypes.data % 64 // 4
    at = ctypes.c_void_p(memory[begin:].ctypes.data)
    rounds = 20_000
    flops = 2 * rounds * SUMS * lanes
    found = {
        "FMA, registers": flops / best(gate, lambda: library.fma_registers(rounds)) / 1e9,
        "FMA, operand in L1": flops / best(gate, lambda: library.fma_memory(rounds, at)) / 1e9,
    }
    for name, size in SIZES.items():
        times = max(1, (16 << 20) // size)
        floats = ctypes.c_size_t(size // 4)
        seconds = best(gate, lambda n=floats, t=times: library.read_floats(t, at, n))
        found[f"read {name}"] = times * size / seconds / 1e9
    return found


def matrix(kind: str) -> np.ndarray:
    """Return a weight matrix: dense, or 90 % zeros in blocks of rows."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((CHANNELS, CHANNELS)).astype(np.float32)
    if kind == "dense":
        return weights
    rows = 1 if kind == "unstructured" else int(kind.split("x")[0])
    kept = rng.random((CHANNELS // rows, CHANNELS)) < 0.1
    return weights * np.repeat(kept, rows, axis=0)


def kernel_speeds(gate: Gate, isa: str) -> dict[str, float]:
    """Return GFLOP/s of ``spmm`` on non-zero weights; its operand and result fill the L2 cache."""
    x = np.random.default_rng(1).standard_normal((CHANNELS, PIXELS)).astype(np.float32)
    out = np.empty((CHANNELS, PIXELS), np.float32)
    found = {}
    for kind in ("dense", "4x1 blocks", "unstructured"):
        packed = pack(matrix(kind), isa=isa)
        seconds = best(gate, lambda packed=packed: spmm(packed, x, out=out, threads=1))
        found[kind] = 2 * packed.nonzeros * PIXELS / seconds / 1e9
    if isa in DIALECTS:
        seconds = best(gate, program(isa, matrix("unstructured"), x))
        found["unstructured, program"] = 2 * packed.nonzeros * PIXELS / seconds / 1e9
    return found


def program(isa: str, weights: np.ndarray, x: np.ndarray) -> Callable[[], object]:
    """Return the product by a program made for the matrix."""
    source, target = (Tensor((1, CHANNELS, 1, PIXELS), Border(aligned=True)) for _ in range(2))
    target.at = source.size
    arena = allocate(2 * source.size)
    source.array(arena)[0, :, 0] = x
    taps = Taps((np.arange(CHANNELS, dtype=np.int64) * source.plane)[None])
    run = Run(1, PIXELS, PIXELS, PIXELS)
    kernel, _ = program_convolution(isa, weights, taps, run, Finish(), 0)
    return lambda: kernel.run(arena, source.planes(), arena, target.planes(), None, 1, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the results here too")
    options = parser.parse_args()
    gate, isa = Gate(), _kernels.best_isa()
    roofs, speeds = limits(gate, isa), kernel_speeds(gate, isa)
    print(f"one thread, {isa}; best of {SAMPLES} gated samples, {gate.rejected} rejected\n")
    print("| limit | |\n|---|--:|")
    for name, value in roofs.items():
        print(f"| {name} | {value:.0f} {'GB/s' if 'read' in name else 'GFLOP/s'} |")
    roof = roofs["FMA, operand in L1"]
    print("\n| kernel, 256 × 256 × 784 | GFLOP/s | of the roof |\n|---|--:|--:|")
    for name, value in speeds.items():
        print(f"| {name} | {value:.0f} | {value / roof:.0%} |")
    if options.json:
        options.json.write_text(json.dumps({"isa": isa, "limits": roofs, "kernels": speeds}))


if __name__ == "__main__":
    main()
