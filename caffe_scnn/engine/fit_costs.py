"""The constants of the cost model, fitted to this machine by timing tiles on a few layers.

``caffe-scnn doctor --calibrate`` runs it and keeps the result in the user's cache folder, where
:func:`caffe_scnn.engine.costs.costs_for` finds it; ``benchmarks/tiles.py`` runs it on more
layers, to find the constants that the product ships.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_scnn._kernels import Convolution, PanelConvolution, Planes, best_isa
from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.choose import Candidates, candidates, dense_tiles
from caffe_scnn.engine.costs import (
    Costs,
    DenseCosts,
    PanelCosts,
    costs_for,
    keep_costs,
    shipped_costs,
)
from caffe_scnn.engine.dense import dense_convolution
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, stream
from caffe_scnn.engine.panel_tiles import panel_candidates
from caffe_scnn.engine.panels import Patches, panel_convolution
from caffe_scnn.engine.tensor import Border, Float32, Tensor
from caffe_scnn.engine.tile import PanelShape, Shape, Tile
from caffe_scnn.engine.timing import cold
from caffe_scnn.layers.nonzeros import count_nonzeros

Float64 = NDArray[np.float64]
CYCLE = 1 / 4100  # µs of a cycle of the machine whose constants are shipped
LEAST_CALLS, MOST_CALLS = 3, 30  # timed of a tile: the cold ones of short layers take far longer
# What the error of predicted times counts beside what is chosen: other kinds of kernels, which are
# not in the fit, are chosen by them.
ERROR = 3.0
TILES = 12  # costs of tiles of pixels: the first ones of Costs
PANELS_TRIED = 4  # tiles of a layer
PULL = 0.05  # towards the shipped costs of panels
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
    Layer(64, 32, 1, 112),
    Layer(128, 128, 1, 56),
    Layer(256, 256, 1, 28),
    Layer(512, 512, 1, 14),
    Layer(768, 768, 1, 7),
    Layer(384, 256, 1, 4),  # as the products of Winograd's form
)
DENSITIES = (0.05, 0.15, 0.4, 1.0)


@dataclass(frozen=True)
class Measured:
    """The tiles of a layer with their times.

    Attributes
    ----------
    tiles : Candidates
    us : ndarray
        Of each; infinite: not tried.
    dense : ndarray of shape (3,)
        How often the dense tile along channels does each thing of ``DenseCosts``.
    dense_us : float
        Its time; infinite: there is none.
    panels : ndarray of shape (tiles, 8)
        How often the tiles on panels that were tried do each thing of ``PanelCosts``.
    panels_us : ndarray of shape (tiles,)
        Their times.
    """

    tiles: Candidates
    us: Float64
    dense: Float64
    dense_us: float
    panels: Float64 = field(default_factory=partial(np.empty, (0, len(fields(PanelCosts)))))
    panels_us: Float64 = field(default_factory=partial(np.empty, 0))

    @property
    def best(self) -> float:
        """The µs of the fastest of all."""
        return min(float(self.us.min()), self.dense_us)

    def chosen(self, cycles: Float64, dense: DenseCosts | None) -> float:
        """Return the µs of what would be chosen if the tiles were predicted to take ``cycles``."""
        index = int(np.argmin(cycles))
        if dense and np.isfinite(self.dense_us) and self.dense_cycles(dense) < cycles[index]:
            return self.dense_us
        return float(self.us[index])

    def dense_cycles(self, costs: DenseCosts) -> float:
        """Predict the cycles of the dense tile."""
        return float(self.dense @ astuple(costs))


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
    found = Measured(tiles, us, *_dense(isa, scene, layer, seconds))
    if density == 1 or scene.shape.panel is None or shipped_costs(isa).panel is None:
        return found
    panels, panels_us = _on_panels(isa, scene, scene.shape.panel, seconds)
    return replace(found, panels=panels, panels_us=panels_us)


def _dense(isa: str, scene: Scene, layer: Layer, seconds: float) -> tuple[Float64, float]:
    """Time the dense tile along channels, if there is one; its rival at any density."""
    if shipped_costs(isa).dense is None:
        return np.zeros(3), np.inf
    weights = np.ones(scene.weights.shape, np.float32)
    each = [DenseCosts(*row) for row in np.eye(3)]
    found = [dense_tiles(isa, weights, 1, layer.size, layer.size, one)[0] for one in each]
    whole, _ = dense_convolution(isa, found[0], weights, scene.taps, Finish(), scene.base)
    counts = np.array([tile.cycles for tile in found])
    return counts, _fastest(scene.runner(whole), seconds)


def _on_panels(
    isa: str, scene: Scene, panel: PanelShape, seconds: float
) -> tuple[Float64, Float64]:
    """Time tiles on panels, of those that are predicted to be the fastest to the slowest."""
    costs, run = shipped_costs(isa).panel, scene.run
    assert costs is not None
    numbers = count_nonzeros(scene.weights), len(scene.weights), 1
    found = panel_candidates(isa, panel, *numbers, run.rows, run.width)
    tiles = [tile for panels in found for tile in panels.as_tiles(costs)]
    if not tiles:
        return np.empty((0, len(fields(PanelCosts)))), np.empty(0)
    order = np.argsort([tile.cycles for tile in tiles])
    tried = np.unique(order[np.linspace(0, len(order) - 1, PANELS_TRIED).astype(int)])
    us = [_fastest(scene.runner(scene.panel_kernel(isa, tiles[i])), seconds) for i in tried]
    return np.concatenate([panels.counts for panels in found])[tried], np.array(us)


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
        self.patches = Patches.of(tap.ravel(), source.pitch, source.plane)
        panel = self.patches.shape(channels) if kernel > 1 else None
        span, across = int(np.ptp(tap)), kernel - 1
        self.shape = Shape(self.run.size, channels, span, panel=panel, rows=kernel, across=across)
        self.base = -(pad * source.pitch + pad)
        self.planes: tuple[Planes, Planes] = source.planes(), target.planes()

    def table_kernel(self, isa: str, tile: Tile) -> Convolution:
        """Return the kernel object of a tile."""
        streams = stream(self.weights, self.taps, tile.rows, tile.parts)
        return convolution(
            isa, tile.lanes, streams, self.taps, self.run, Finish(),
            vectors=tile.vectors, base=self.base,
        )  # fmt: skip

    def panel_kernel(self, isa: str, tile: Tile) -> PanelConvolution:
        """Return the kernel object of a tile on panels."""
        kernel, _ = panel_convolution(
            isa, tile, self.weights, self.taps, self.patches, self.run, Finish(), self.base
        )
        return kernel

    def runner(self, kernel: Any) -> Callable[[], object]:
        """Return a run of a kernel object."""
        given, result = self.planes
        call: Callable[[], object] = kernel.bind(self.arena, given, self.arena, result, None, 1, 1)
        return call


def _fastest(run: Callable[[], object], seconds: float) -> float:
    """Return the microseconds of the fastest of several cold calls."""
    run()
    best, spent, calls = np.inf, 0.0, 0
    while calls < LEAST_CALLS or (spent < seconds and calls < MOST_CALLS):
        taken = cold(run)
        best, spent, calls = min(best, taken), spent + taken, calls + 1
    return float(1e6 * best)


def regrets(costs: Costs, measured: Sequence[Measured]) -> Float64:
    """For each layer: the time of the tile that would be chosen over that of the best one."""
    return np.array([m.chosen(m.tiles.cycles(costs), costs.dense) / m.best for m in measured])


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
    # The times of bad tiles matter little; all layers count alike.
    weights = [np.where(np.isfinite(m.us), m.us.min() / m.us, 0) ** 3 for m in measured]
    weight = np.concatenate([w / w.sum() for w in weights]) / len(measured)
    logarithm = np.log(np.where(np.isfinite(us), us, 1))
    fastest = np.array([m.best for m in measured])
    shipped = shipped_costs(isa)
    dense = [m for m in measured if np.isfinite(m.dense_us)]

    def loss(values: Float64) -> float:
        costs = _costs(values, shipped)
        if values.min() <= 0 or costs.middle > costs.far:
            return 1e9
        cycles = tiles.cycles(costs)
        error = ERROR * weight @ (np.log(cycles * CYCLE) - logarithm) ** 2
        if costs.dense is not None and dense:
            ratio = [m.dense_cycles(costs.dense) * CYCLE / m.dense_us for m in dense]
            error += np.square(np.log(ratio)).mean()
        parts = zip(measured, pairwise([0, *ends]), strict=True)
        regret = np.array([m.chosen(cycles[b:e], costs.dense) for m, (b, e) in parts]) / fastest
        beyond = np.maximum(regret - CLOSE, 0)
        return float(5 * np.log(regret).mean() + 10 * beyond.mean() + error)

    rng = np.random.default_rng(0)
    start = np.array([*astuple(shipped)[:TILES], 1.0, 1.0])
    start = np.maximum(start, 0.01)
    results = []
    for trial in range(trials):
        values = start * np.exp(rng.normal(0, 0.4 if trial else 0, len(start)))
        for _ in range(3):
            found = minimize(loss, values, method="Nelder-Mead", options={"maxiter": 1500})
            values = found.x
        results.append((float(found.fun), tuple(found.x)))
    fitted = _costs(np.maximum(np.round(min(results)[1], 2), 0.01), shipped)
    return replace(fitted, panel=_panel_costs(fitted, measured))


def _panel_costs(costs: Costs, measured: Sequence[Measured]) -> PanelCosts | None:
    """Find the costs of panels that predict their times, if other tiles take what they do.

    Things that are always done together are not told apart by times: shipped costs decide.
    """
    from scipy.optimize import nnls

    timed = [m for m in measured if len(m.panels)]
    if costs.panel is None or not timed:
        return costs.panel
    shipped, rows = np.array(astuple(costs.panel)), []
    for m in timed:
        best = int(np.argmin(np.where(m.tiles.rows == 1, m.us, np.inf)))
        slower = m.us[best] / m.tiles.cycles(costs)[best]  # than predicted
        rows.append(m.panels * shipped * slower / m.panels_us[:, None])
    shares = np.concatenate(rows)
    pull = PULL * np.sqrt(len(shares)) * np.eye(len(shipped))
    wanted = np.concatenate([np.ones(len(shares)), pull.sum(axis=1)])
    factors, _ = nnls(np.concatenate([shares, pull]), wanted)
    return PanelCosts(*np.maximum(np.round(factors * shipped, 2), 0.01).tolist())


def _costs(values: Float64, shipped: Costs) -> Costs:
    """Return the costs that a search tries.

    Behind those of the tiles of pixels stand two of the dense ones, relative to the shipped ones:
    of sums, and of a store. Maps are mostly as wide as some tiles, so that nothing tells an entry
    from its multiply-adds.
    """
    *pixels, sums, store = values.tolist()
    dense = shipped.dense
    if dense is not None:
        dense = DenseCosts(
            round(sums * dense.multiply_add, 3),
            round(sums * dense.entry, 3),
            round(store * dense.store, 1),
        )
    return replace(Costs(*[*pixels, shipped.panel]), dense=dense)


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
            rows=column(lambda t: t.shape.rows),
            across=column(lambda t: t.shape.across),
        ),
        measured[0].tiles.lanes,
    )
