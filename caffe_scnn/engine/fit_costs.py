"""The constants of the cost model, fitted to this machine by timing tiles on a few layers.

``caffe-scnn doctor --calibrate`` runs it and keeps the result in the user's cache folder, where
:func:`caffe_scnn.engine.choose.costs_for` finds it; ``benchmarks/tiles.py`` runs it on more
layers, to find the constants that the product ships.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise, product
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_scnn._kernels import Convolution, Planes, best_isa
from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.choose import (
    COSTS,
    DENSE_COSTS,
    Candidates,
    Costs,
    Shape,
    Tile,
    candidates,
    costs_for,
    dense_tiles,
    keep_costs,
)
from caffe_scnn.engine.dense import dense_convolution
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, stream
from caffe_scnn.engine.tensor import Border, Float32, Tensor

Float64 = NDArray[np.float64]
CYCLE = 1 / 4100  # µs of a cycle of the machine whose constants are shipped
CLOSE = 1.05  # a choice this much slower than the best is as good as the best


@dataclass(frozen=True)
class Layer:
    """A convolution to time: padded by half its kernel, of stride 1, on a square map."""

    outputs: int
    channels: int
    kernel: int
    size: int


# of AlexNet, VGG, SqueezeNet and MobileNet
LAYERS = (
    Layer(384, 256, 3, 13),
    Layer(64, 64, 3, 56),
    Layer(256, 64, 3, 27),
    Layer(128, 128, 1, 56),
    Layer(256, 256, 1, 28),
    Layer(768, 768, 1, 7),
)
DENSITIES = (0.05, 0.15, 0.4, 1.0)


@dataclass(frozen=True)
class Measured:
    """The tiles of a layer with their times in µs (infinite: not tried), and the µs of a cycle."""

    tiles: Candidates
    us: Float64
    cycle: float | None


def measure(isa: str, layer: Layer, density: float, seconds: float = 0.003) -> Measured:
    """Time every tile that a layer can use.

    Parameters
    ----------
    isa : str
    layer : Layer
    density : float
        Share of non-zero weights.
    seconds : float
        For each tile.
    """
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((layer.outputs, layer.channels * layer.kernel**2))
    scene = Scene(layer, np.where(rng.random(weights.shape) < density, weights, 0))
    tiles = candidates(isa, scene.weights, 1, scene.shape)
    us = np.full(len(tiles.rows), np.inf)
    for index in np.flatnonzero((tiles.rows > 1) | (density < 1)):
        rows, vectors, parts = (int(n[index]) for n in (tiles.rows, tiles.vectors, tiles.parts))
        tile = Tile("sconv", rows, vectors, parts, 0.0, tiles.lanes, "")
        us[index] = _fastest(scene.runner(scene.table_kernel(isa, tile)), seconds)
    if density < 1 or isa not in DENSE_COSTS:
        return Measured(tiles, us, None)
    (dense,) = dense_tiles(isa, scene.weights, 1, layer.size, layer.size)
    whole, _ = dense_convolution(isa, dense, scene.weights, scene.taps, Finish(), scene.base)
    return Measured(tiles, us, _fastest(scene.runner(whole), seconds) / dense.cycles)


@dataclass(frozen=True)
class Calibration:
    """What calibrating this machine found.

    Attributes
    ----------
    isa : str
    before, fitted : Costs
    before_regrets, fitted_regrets : float64 ndarray
        Of each layer (:func:`regrets`).
    """

    isa: str
    before: Costs
    fitted: Costs
    before_regrets: Float64
    fitted_regrets: Float64

    @property
    def better(self) -> bool:
        """Whether the fitted costs choose better: only then they are kept."""
        return bool(self.fitted_regrets.mean() < self.before_regrets.mean())


def calibrate(isa: str | None = None, advance: Callable[[int], object] = id) -> Calibration:
    """Fit the costs to this machine, and keep them if they choose better than those in use.

    Parameters
    ----------
    isa : str, optional
        Instruction set; the best one by default.
    advance : callable
        Called with 1 after each of ``len(LAYERS) * len(DENSITIES)`` measurements.

    Raises
    ------
    OutputError
        The cache folder cannot be written.
    """
    isa = best_isa(isa)
    measured = []
    for layer, density in product(LAYERS, DENSITIES):
        measured.append(measure(isa, layer, density))
        advance(1)
    before, fitted = costs_for(isa), fit(isa, measured)
    found = Calibration(isa, before, fitted, regrets(before, measured), regrets(fitted, measured))
    if found.better:
        keep_costs(isa, fitted)
    return found


class Scene:
    """A layer's operands in memory, as the engine lays them out.

    Parameters
    ----------
    layer : Layer
    weights : array_like of shape (outputs, channels * kernel²)
    """

    def __init__(self, layer: Layer, weights: ArrayLike) -> None:
        self.weights: Float32 = np.asarray(weights, np.float32)
        outputs, channels, kernel, size = astuple(layer)
        pad = kernel // 2
        border = Border(pad, pad, aligned=True)
        source, target = (Tensor((1, c, size, size), border) for c in (channels, outputs))
        target.at = -(-source.size // 16) * 16
        self.arena = allocate(target.at + target.size)
        source.array(self.arena)[...] = np.random.default_rng(0).standard_normal(source.shape)
        tap = np.arange(kernel)[:, None] * source.pitch + np.arange(kernel)
        offset = np.arange(channels)[:, None] * source.plane + tap.ravel()
        self.taps = Taps(offset.reshape(1, -1), kernel**2)
        self.run = Run(size, size, source.pitch, target.pitch)
        self.shape = Shape(self.run.size, channels, int(np.ptp(tap)))
        self.base = -(pad * source.pitch + pad)
        self.planes: tuple[Planes, Planes] = source.planes(), target.planes()

    def table_kernel(self, isa: str, tile: Tile) -> Convolution:
        """Return the kernel object of a tile."""
        streams = stream(self.weights, self.taps, tile.rows, tile.parts)
        return convolution(
            isa, tile.lanes, streams, self.taps, self.run, Finish(),
            vectors=tile.vectors, base=self.base,
        )  # fmt: skip

    def runner(self, kernel: Any) -> Callable[[], object]:
        """Return a run of a kernel object."""
        given, result = self.planes
        call: Callable[[], object] = kernel.bind(self.arena, given, self.arena, result, None, 1, 1)
        return call


def _fastest(run: Callable[[], object], seconds: float) -> float:
    """Return the microseconds of the fastest of several calls."""
    run()
    best = np.inf
    end = time.perf_counter() + seconds
    for count in range(1_000_000):
        begin = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - begin)
        if now >= end and count >= 2:
            break
    return float(1e6 * best)


def regrets(costs: Costs, measured: Sequence[Measured]) -> Float64:
    """For each layer: the time of the tile that would be chosen over that of the best one."""
    return np.array([m.us[np.argmin(m.tiles.cycles(costs))] / m.us.min() for m in measured])


def fit(isa: str, measured: Sequence[Measured], trials: int = 3) -> Costs:
    """Find constants that choose well, and predict the times of good tiles.

    Parameters
    ----------
    isa : str
    measured : sequence of Measured
    trials : int
        Searches from different starts; the first is the constants that are shipped.
    """
    from scipy.optimize import minimize

    tiles, us = _joined(measured), np.concatenate([m.us for m in measured])
    ends = np.cumsum([len(m.us) for m in measured])
    best = np.concatenate([np.full(len(m.us), m.us.min()) for m in measured])
    weight = np.where(np.isfinite(us), best / us, 0) ** 3  # the times of bad tiles matter little
    logarithm = np.log(np.where(np.isfinite(us), us, 1))
    known = [m.cycle for m in measured if m.cycle is not None]
    cycle = median(known) if known else CYCLE

    def loss(values: Float64) -> float:
        if values.min() <= 0:
            return 1e9
        cycles = tiles.cycles(Costs(*values))
        error = weight @ (np.log(cycles * cycle) - logarithm) ** 2 / weight.sum()
        chosen = [b + np.argmin(cycles[b:e]) for b, e in pairwise([0, *ends])]
        regret = us[chosen] / best[chosen]
        beyond = np.maximum(regret - CLOSE, 0)
        return float(5 * np.log(regret).mean() + 10 * beyond.mean() + error)

    rng = np.random.default_rng(0)
    start = np.array(astuple(COSTS[isa]), float)
    results = []
    for trial in range(trials):
        values = start * np.exp(rng.normal(0, 0.4 if trial else 0, len(start)))
        for _ in range(3):
            found = minimize(loss, values, method="Nelder-Mead", options={"maxiter": 1500})
            values = found.x
        results.append((float(found.fun), tuple(found.x)))
    return Costs(*(round(float(v), 2) for v in min(results)[1]))


def _joined(measured: Sequence[Measured]) -> Candidates:
    """Return the tiles of all layers as one, with a shape for each tile."""

    def column(of: Callable[[Candidates], Any]) -> Any:
        return np.concatenate([np.broadcast_to(of(m.tiles), len(m.us)) for m in measured])

    return Candidates(
        column(lambda t: t.rows),
        column(lambda t: t.vectors),
        column(lambda t: t.parts),
        column(lambda t: t.entries),
        column(lambda t: t.blocks),
        Shape(
            column(lambda t: t.shape.run),
            column(lambda t: t.shape.channels),
            column(lambda t: t.shape.span),
        ),
        measured[0].tiles.lanes,
    )
