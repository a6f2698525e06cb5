"""Times every tile of the direct convolution, and fits the constants of its cost model to them.

    python benchmarks/tiles.py --isa avx512 [--times FILE]

One thread; some minutes. Prints ``Costs`` for ``caffe_scnn/engine/choose.py``, and by how much the
tile that the model would choose is slower than the best one, on average and at worst.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Callable
from dataclasses import astuple, fields
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from caffe_scnn import _kernels
from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.choose import COSTS, Candidates, Costs, Shape, candidates
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, stream
from caffe_scnn.engine.tensor import Border, Tensor

Measured = tuple[Candidates, np.ndarray]  # the tiles, and their microseconds

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


def fastest(run: Callable[[], object]) -> float:
    """Return the microseconds of the fastest of several calls."""
    times = []
    run()
    end = time.perf_counter() + SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 1e6 * min(times)


def measure_layer(isa: str, layer: tuple[int, ...], density: float) -> Measured:
    """Time every usable tile on one layer; infinite where a tile was not tried."""
    outputs, channels, kernel, size, pad = layer
    rng = np.random.default_rng(0)
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
    tiles = candidates(isa, weights, 1, shape)
    times = np.full(len(tiles.rows), np.inf)
    for index in np.flatnonzero((tiles.rows > 1) | (density < 1)):
        rows, vectors, parts = (int(n[index]) for n in (tiles.rows, tiles.vectors, tiles.parts))
        packed = convolution(
            isa, tiles.lanes, stream(weights, taps, rows, parts), taps, run, Finish(),
            vectors=vectors, base=-(pad * source.pitch + pad),
        )  # fmt: skip
        times[index] = fastest(lambda k=packed: k.run(arena, from_, arena, to, None, 1, 1))
    return tiles, times


def regrets(costs: Costs, measured: list[Measured]) -> np.ndarray:
    """For each layer and density: time of the chosen tile over that of the best one."""
    return np.array([us[np.argmin(t.cycles(costs))] / us.min() for t, us in measured])


def joined(measured: list[Measured]) -> Candidates:
    """Return the tiles of all layers as one, with a shape for each tile."""
    shapes = [Shape(*(np.full(len(us), n) for n in astuple(t.shape))) for t, us in measured]
    return Candidates(
        *(
            np.concatenate([getattr(tiles, name) for tiles, _ in measured])
            for name in ("rows", "vectors", "parts", "entries", "blocks")
        ),
        Shape(*(np.concatenate(axis) for axis in zip(*map(astuple, shapes), strict=True))),
        measured[0][0].lanes,
    )


def fit(isa: str, measured: list[Measured], trials: int = 12) -> Costs:
    """Find constants that choose well, and predict the times of good tiles."""
    tiles, us = joined(measured), np.concatenate([us for _, us in measured])
    ends = np.cumsum([len(us) for _, us in measured])
    best = np.concatenate([np.full(len(us), us.min()) for _, us in measured])
    weight = np.where(np.isfinite(us), best / us, 0) ** 3  # the times of bad tiles matter little
    logarithm = np.log(np.where(np.isfinite(us), us, 1))

    def loss(values: np.ndarray) -> float:
        if values.min() <= 0:
            return 1e9
        cycles = tiles.cycles(Costs(*values))
        error = weight @ (np.log(cycles * CYCLE) - logarithm) ** 2 / weight.sum()
        chosen = [b + np.argmin(cycles[b:e]) for b, e in pairwise([0, *ends])]
        regret = us[chosen] / best[chosen]
        return float(5 * np.log(regret).mean() + 10 * np.maximum(regret - 1.05, 0).mean() + error)

    rng = np.random.default_rng(0)
    start = np.array(astuple(COSTS[isa]), float)
    results = []
    for trial in range(trials):
        values = start * np.exp(rng.normal(0, 0.4 if trial else 0, len(start)))
        for _ in range(3):
            found = minimize(loss, values, method="Nelder-Mead", options={"maxiter": 1500})
            values = found.x
        results.append((found.fun, tuple(found.x)))
    return Costs(*(round(float(v), 2) for v in min(results)[1]))


def main() -> None:
    """Measure, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default=_kernels.best_isa())
    parser.add_argument("--times", type=Path, help="keep the times here; read them if it exists")
    options = parser.parse_args()
    if options.times and options.times.exists():
        measured = pickle.loads(options.times.read_bytes())
    else:
        measured = [measure_layer(options.isa, *case) for case in product(LAYERS, DENSITIES)]
        if options.times:
            options.times.write_bytes(pickle.dumps(measured))
    for name, costs in (("now", COSTS[options.isa]), ("fitted", fit(options.isa, measured))):
        regret = regrets(costs, measured)
        values = ", ".join(f"{f.name}={getattr(costs, f.name)}" for f in fields(costs))
        print(f"{name}: mean regret {regret.mean():.3f}, worst {regret.max():.3f}\n  {values}")


if __name__ == "__main__":
    main()
