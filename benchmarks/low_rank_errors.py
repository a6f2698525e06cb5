"""What each part of the low-rank methods is worth, on layers of real nets.

Usage: ``CAFFE_SCNN_DATA=… OPENBLAS_NUM_THREADS=1 python benchmarks/low_rank_errors.py TABLE NET…``

Tables: ``layers`` (one layer at a time: weights alone, linear, rectified), ``stacked`` (several
layers: weights alone, symmetric, asymmetric) and ``ranks`` (a budget shared out: uniform, by
energies, by the net's answers). Nets: ``cifar`` (1,000 pictures calibrate, 1,000 others are what
errors are of) and ``squeezenet`` (300 and 300). The error of a layer is that behind its ReLU,
``‖r(Y) − r(Ŷ)‖ / ‖r(Y) − mean‖``, and of a net that of its scores before the Softmax; beside it the
pictures for which the same class wins. Prints Markdown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compression_accuracy import CASES, cifar, imagenet
from numpy.typing import NDArray

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import Decomposition, Goal, LowRank, LowRank3d, Recipe, Spatial, compress
from caffe_scnn.engine import Executor
from caffe_scnn.layers.summary import summarize
from caffe_scnn.model.net import Net

Pixels = NDArray[np.float32]
Make = Callable[..., Decomposition]

SINGLE, STACKED, BUDGET = 1 / 3, 0.5, 0.6


@dataclass(frozen=True)
class Real:
    """A net, layers of it, and the pictures of both halves."""

    net: Net
    scores: str
    layers: tuple[str, ...]
    calibrate: Pixels
    test: Pixels

    @classmethod
    def named(cls, name: str, data: Path) -> Real:
        """Read a net and its pictures."""
        case = CASES[name]
        net = case.net(data)
        if name == "cifar":
            train, test, _ = cifar(data / case.folder)
            return cls(net, "ip2", ("conv2", "conv3"), train[::2], test[::5])
        pixels, _ = imagenet(case, data)
        layers = tuple(f"fire{i}/conv3x3_2" for i in range(2, 10))
        return cls(net, "pool_final", layers, pixels[::2], pixels[1::2])


def main(table: str, names: Sequence[str]) -> None:
    """Print one table."""
    data = Path(os.environ["CAFFE_SCNN_DATA"]) / "data"
    rows = {"layers": layer_rows, "stacked": stacked_rows, "ranks": rank_rows}[table]
    heads = {
        "layers": "layer | method | MACs kept | weights alone | linear | rectified",
        "stacked": "net | method | MACs kept | weights alone | symmetric | asymmetric",
        "ranks": "net | method | MACs kept | uniform | energies | answers",
    }
    print(f"| {heads[table]} |")
    print("|---|---|--:|--:|--:|--:|", flush=True)
    for name in names:
        for row in rows(name, Real.named(name, data)):
            print(f"| {' | '.join(row)} |", flush=True)


def layer_rows(name: str, real: Real) -> Any:
    """Compress one layer at a time."""
    for layer in real.layers[:: 3 if len(real.layers) > 3 else 1]:
        for make in (LowRank, Spatial, LowRank3d):
            found = []
            kept = 0.0
            for method, images in (
                (make(), None),
                (make(rectified=False), real.calibrate),
                (make(), real.calibrate),
            ):
                small = smaller(real, Recipe(Goal(method, SINGLE), layers=(layer,)), images)
                found.append(f"{error(real, small, real.net.layer(layer).tops[0]):.3f}")
                kept = ratio(real.net, small)
            yield [f"{name} {layer}", make.name, f"{100 * kept:.0f} %", *found]


def stacked_rows(name: str, real: Real) -> Any:
    """Compress several layers by the same density."""
    for make in (LowRank, Spatial, LowRank3d):
        found = []
        kept = 0.0
        for method, images in (
            (make(), None),
            (make(symmetric=True), real.calibrate),
            (make(), real.calibrate),
        ):
            small = smaller(real, Recipe(Goal(method, STACKED), layers=real.layers), images)
            found.append(of_net(real, small))
            kept = ratio(real.net, small)
        yield [name, make.name, f"{100 * kept:.0f} %", *found]


def rank_rows(name: str, real: Real) -> Any:
    """Share a budget out."""
    whole = {line.name: line.macs for line in summarize(real.net).layers}
    theirs = sum(whole[layer] for layer in real.layers) / sum(whole.values())
    for make in (LowRank, Spatial, LowRank3d):
        found, kept = [], []
        for ranks in ("uniform", "energies", "answers"):
            goal = Goal(make(ranks=ranks))
            recipe = Recipe(goal, macs=1 - BUDGET * theirs, layers=real.layers)
            small = smaller(real, recipe, real.calibrate)
            found.append(of_net(real, small))
            kept.append(ratio(real.net, small))
        yield [name, make.name, " / ".join(f"{100 * k:.1f}" for k in kept) + " %", *found]


def smaller(real: Real, recipe: Recipe, images: Pixels | None) -> Net:
    """Compress."""
    calibration = None if images is None else Calibration(Images(images, batch=10), threads=1)
    return compress(real.net, recipe, calibration=calibration).net


def ratio(before: Net, after: Net) -> float:
    """Return the multiply-accumulates kept, zeros counted."""
    return summarize(after).total.macs / summarize(before).total.macs


def of_net(real: Real, small: Net) -> str:
    """Return the error of the scores and how often the same class wins."""
    first, second = (values(net, real.scores, real.test) for net in (real.net, small))
    same = 100 * (first.argmax(axis=1) == second.argmax(axis=1)).mean()
    return f"{distance(first, second):.3f} ({same:.1f} %)"


def error(real: Real, small: Net, blob: str) -> float:
    """Return the error of a blob."""
    first, second = (values(net, blob, real.test) for net in (real.net, small))
    return distance(first, second)


def distance(first: Pixels, second: Pixels) -> float:
    """Return ``‖Y − Ŷ‖ / ‖Y − mean‖``, the mean that of every channel."""
    axes = (0, *range(2, first.ndim))
    centred = first - first.mean(axis=axes, keepdims=True)
    return float(np.linalg.norm(first - second) / np.linalg.norm(centred))


def values(net: Net, blob: str, pixels: Pixels) -> Pixels:
    """Return a blob of all pictures."""
    executor = Executor(net, threads=1)
    found = []
    for start in range(0, len(pixels), 10):
        batch = executor.run({executor.inputs[0]: pixels[start : start + 10]}, [blob])[blob]
        found.append(batch)
    return np.concatenate(found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
