"""What one core of this machine can do: multiply-adds and bandwidth, the roofs of every kernel.

    python benchmarks/limits.py [--json FILE]

Needs a C compiler. Each figure is the best of gated samples (``gate.py``). Beside the limits stand
the kernels on layers of MobileNet, CaffeNet and VGG, with activations laid out as the engine does:
dense, with zeros in blocks of four channels, with zeros anywhere, and programs made for the latter;
as a share, on the non-zero weights alone, of what multiply-adds with an operand from memory reach.
Pixels of a k x k layer with zeros anywhere cross cache lines: their roof is the lower one.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import numpy as np
from gate import Gate

from caffe_scnn import _kernels
from caffe_scnn.engine.choose import rank_tiles
from caffe_scnn.engine.codegen import DIALECTS, program_convolution
from caffe_scnn.engine.dense import dense_convolution
from caffe_scnn.engine.fit_costs import Layer, Scene
from caffe_scnn.engine.packing import Finish

WIDTH = {"avx512": 64, "avx2": 32, "scalar": 16}
SIZES = {"L1": 24 << 10, "L2": 400 << 10, "L3": 8 << 20, "DRAM": 256 << 20}
SUMS = 12
SAMPLES = 25
KERNELS = (
    Layer(128, 128, 1, 56),
    Layer(256, 256, 1, 28),
    Layer(512, 512, 1, 14),
    Layer(1024, 1024, 1, 7),
    Layer(384, 256, 3, 13),
    Layer(512, 512, 3, 28),
    # a group each of AlexNet's conv2, conv4 and conv5
    Layer(128, 48, 5, 27),
    Layer(192, 192, 3, 13),
    Layer(128, 192, 3, 13),
)
KINDS = ("4x1 blocks", "anywhere", "program")
ZEROS = (0, 0.8, 0.9, 0.95)


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
    memory, begin = touched(SIZES["L1"])
    at = ctypes.c_void_p(memory[begin:].ctypes.data)
    rounds = 20_000
    flops = 2 * rounds * SUMS * lanes
    found = {
        "FMA, registers": flops / best(gate, lambda: library.fma_registers(rounds)) / 1e9,
        "FMA, operand in L1": flops / best(gate, lambda: library.fma_memory(rounds, at)) / 1e9,
    }
    crossing = ctypes.c_void_p(memory[begin + 1 :].ctypes.data)
    seconds = best(gate, lambda: library.fma_memory(rounds, crossing))
    found["FMA, operand across lines of L1"] = flops / seconds / 1e9
    for name, size in SIZES.items():
        found[f"read {name}"] = read_speed(gate, library, size)
    return found


def read_speed(gate: Gate, library: ctypes.CDLL, size: int) -> float:
    """Return GB/s of reading so many bytes again and again."""
    memory, begin = touched(size)
    at, floats = ctypes.c_void_p(memory[begin:].ctypes.data), ctypes.c_size_t(size // 4)
    times = max(1, (16 << 20) // size)
    seconds = best(gate, lambda: library.read_floats(times, at, floats))
    return times * size / seconds / 1e9


def touched(size: int) -> tuple[np.ndarray, int]:
    """Return memory of so many bytes, and which float of it begins a cache line.

    It is written once: untouched zeros would all be one page, which the first-level cache keeps.
    """
    memory = np.full(size // 4 + 64, 1e-9, np.float32)
    return memory, -memory.ctypes.data % 64 // 4


def matrix(layer: Layer, kind: str, zeros: float) -> np.ndarray:
    """Return random weights, zero in single places or in blocks of rows."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((layer.outputs, layer.channels * layer.kernel**2))
    rows = int(kind[0]) if kind[0].isdigit() else 1
    kept = rng.random((layer.outputs // rows, weights.shape[1])) >= zeros
    return weights * np.repeat(kept, rows, axis=0)


def kernel(isa: str, kind: str, layer: Layer, scene: Scene) -> Any:
    """Return the kernel object that the engine would take, or a program."""
    given = scene.weights, scene.taps
    if kind == "program":
        return program_convolution(isa, *given, scene.run, Finish(), scene.base)[0]
    size = layer.size, layer.size
    tile = rank_tiles(isa, scene.weights, 1, scene.shape, size=size)[0]
    if tile.op == "dense":
        return dense_convolution(isa, tile, *given, Finish(), scene.base)[0]
    return scene.panel_kernel(isa, tile) if tile.op == "panel" else scene.table_kernel(isa, tile)


def kernel_speeds(gate: Gate, isa: str) -> dict[str, dict[str, float]]:
    """Return GFLOP/s on non-zero weights for each layer, kind of sparsity and share of zeros."""
    found: dict[str, dict[str, float]] = {}
    for layer in KERNELS:
        name = f"{layer.outputs} × {layer.channels} × {layer.size}²"
        name += f", {layer.kernel}x{layer.kernel}" * (layer.kernel > 1)
        runs = {}
        for kind, zeros in product(("dense", *KINDS), ZEROS):
            if (kind == "dense") != (zeros == 0) or (kind == "program" and isa not in DIALECTS):
                continue
            scene = Scene(layer, matrix(layer, kind, zeros))
            run = scene.runner(kernel(isa, kind, layer, scene))
            flops = 2 * np.count_nonzero(scene.weights) * layer.size**2
            runs[kind if kind == "dense" else f"{kind}, {zeros:.0%}"] = flops, run
        found[name] = {kind: flops / best(gate, run) / 1e9 for kind, (flops, run) in runs.items()}
    return found


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
    kinds = list(next(iter(speeds.values())))
    print(f"\n| of {roof:.0f} GFLOP/s | {' | '.join(kinds)} |\n|---|{'--:|' * len(kinds)}")
    for name, values in speeds.items():
        print(f"| {name} | {' | '.join(f'{value / roof:.0%}' for value in values.values())} |")
    if options.json:
        options.json.write_text(json.dumps({"isa": isa, "limits": roofs, "kernels": speeds}))


if __name__ == "__main__":
    main()
