"""Times every tile of the direct convolution, and fits the constants of its cost model to them.

    python benchmarks/tiles.py --isa avx512 [--json FILE]

One thread; some minutes. Prints ``Costs`` for ``caffe_scnn/engine/choose.py``, and by how much the
tile that the model would choose is slower than the best one, on average and at worst.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from caffe_scnn import _kernels
from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.choose import COSTS, PARTS, Costs, Shape, count_entries, tile_cost
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, stream
from caffe_scnn.engine.tensor import Border, Tensor

# outputs, input channels, kernel, size, pad: AlexNet, VGG, SqueezeNet, MobileNet
LAYERS = (
    (384, 256, 3, 13, 1),
    (128, 48, 5, 27, 2),
    (64, 64, 3, 56, 1),
    (256, 256, 3, 28, 1),
    (256, 64, 3, 27, 1),
    (128, 32, 1, 55, 0),
    (48, 24, 1, 112, 0),
    (128, 128, 1, 56, 0),
    (256, 256, 1, 28, 0),
    (384, 384, 1, 14, 0),
    (768, 768, 1, 7, 0),
)
DENSITIES = (0.05, 0.1, 0.2, 0.35, 0.5, 1.0)
SECONDS = 0.008  # for each tile
CYCLE = 1 / 4100  # µs; only scales the constants


def tiles(isa: str) -> tuple[dict[int, list[int]], int]:
    """Return the vectors of each number of rows, and the lanes of a vector."""
    sizes: dict[int, list[int]] = defaultdict(list)
    lanes = 1
    for _, op, name, rows, vectors, width in _kernels.kernels():
        if op == "sconv" and name == isa:
            sizes[rows].append(vectors)
            lanes = width
    return sizes, lanes


def fastest(run: Any) -> float:
    """Return the microseconds of the fastest of several calls."""
    times = []
    run()
    end = time.perf_counter() + SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 1e6 * min(times)


def measure_layer(isa: str, layer: tuple[int, ...], density: float) -> list[dict[str, Any]]:
    """Time every usable tile on one layer."""
    outputs, channels, kernel, size, pad = layer
    rng = np.random.default_rng(0)
    sizes, lanes = tiles(isa)
    weights = rng.standard_normal((outputs, channels * kernel**2)).astype(np.float32)
    weights *= rng.random(weights.shape) < density
    border = Border(pad, pad, aligned=True)
    source, target = (Tensor((1, c, size, size), border) for c in (channels, outputs))
    target.at = -(-source.size // 16) * 16
    arena = allocate(target.at + target.size)
    source.array(arena)[...] = rng.standard_normal(source.shape)
    tap = np.arange(kernel)[:, None] * source.pitch + np.arange(kernel)
    offset = np.arange(channels)[:, None] * source.plane + tap.ravel()
    taps = Taps(offset.reshape(1, -1), kernel**2)
    run = Run(size, size, source.pitch, target.pitch)
    shape = Shape(run.size, channels, int(np.ptp(tap)))
    from_, to = source.planes(), target.planes()
    rows_of = []
    for rows in sizes:
        if rows == 1 and density == 1:
            continue
        skip = np.zeros(outputs, bool)
        entries, blocks = count_entries(weights, 1, rows, skip)
        usable = [
            v
            for v in sizes[rows]
            if v <= run.vectors(lanes) and _remainder(run, lanes, v, sizes[rows])
        ]
        for parts in PARTS:
            if parts > 1 and (parts * 8 > channels or rows > 2):
                continue
            streams = stream(weights, taps, rows, parts)
            for vectors in usable:
                packed = convolution(
                    isa, lanes, streams, taps, run, Finish(), vectors=vectors,
                    base=-(pad * source.pitch + pad),
                )  # fmt: skip
                us = fastest(lambda k=packed: k.run(arena, from_, arena, to, None, 1, 1))
                rows_of.append(
                    {"layer": layer, "density": density, "entries": entries, "blocks": blocks,
                     "rows": rows, "vectors": vectors, "parts": parts,
                     "shape": astuple(shape), "lanes": lanes, "us": us}
                )  # fmt: skip
    return rows_of


def _remainder(run: Run, lanes: int, vectors: int, sizes: list[int]) -> bool:
    rest = run.vectors(lanes) % vectors
    return not rest or rest in sizes


def predicted(costs: Costs, row: dict[str, Any]) -> float:
    """Predict the cycles of a measured row."""
    return tile_cost(
        costs, row["entries"], row["blocks"], row["rows"], row["vectors"], row["parts"],
        Shape(*row["shape"]), row["lanes"],
    )  # fmt: skip


def regrets(costs: Costs, measured: list[dict[str, Any]]) -> np.ndarray:
    """For each layer and density: time of the chosen tile over that of the best one."""
    groups: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    for row in measured:
        key = (*row["layer"], row["density"])
        groups[key].append((predicted(costs, row), row["us"]))
    return np.array([min(g)[1] / min(us for _, us in g) for g in groups.values()])


def fit(isa: str, measured: list[dict[str, Any]], trials: int = 6) -> Costs:
    """Find constants that choose well, and predict the times of good tiles."""
    best = {}
    for row in measured:
        key = (*row["layer"], row["density"])
        best[key] = min(best.get(key, np.inf), row["us"])
    us = np.array([row["us"] for row in measured])
    weight = (np.array([best[(*r["layer"], r["density"])] for r in measured]) / us) ** 3

    def loss(values: np.ndarray) -> float:
        if values.min() < 0:
            return 1e9
        costs = Costs(*values)
        error = np.log([predicted(costs, row) * CYCLE for row in measured]) - np.log(us)
        regret = regrets(costs, measured)
        chosen = 5 * np.log(regret).mean() + 10 * np.maximum(regret - 1.05, 0).mean()
        return float(chosen + (weight * error**2).sum() / weight.sum())

    rng = np.random.default_rng(0)
    start = np.array(astuple(COSTS[isa]), float)
    results = []
    for trial in range(trials):
        values = start * np.exp(rng.normal(0, 0.3 if trial else 0, len(start)))
        for _ in range(2):
            found = minimize(loss, values, method="Nelder-Mead", options={"maxiter": 700})
            values = found.x
        results.append((found.fun, tuple(found.x)))
    return Costs(*(round(float(v), 2) for v in min(results)[1]))


def main() -> None:
    """Measure, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default=_kernels.best_isa())
    parser.add_argument("--json", type=Path, help="keep the times here; read them if it exists")
    options = parser.parse_args()
    if options.json and options.json.exists():
        measured = json.loads(options.json.read_text())
    else:
        measured = [
            row
            for layer in LAYERS
            for density in DENSITIES
            for row in measure_layer(options.isa, layer, density)
        ]
        if options.json:
            options.json.write_text(json.dumps(measured))
    for name, costs in (("now", COSTS[options.isa]), ("fitted", fit(options.isa, measured))):
        regret = regrets(costs, measured)
        values = ", ".join(f"{f.name}={getattr(costs, f.name)}" for f in fields(costs))
        print(f"{name}: mean regret {regret.mean():.3f}, worst {regret.max():.3f}\n  {values}")


if __name__ == "__main__":
    main()
