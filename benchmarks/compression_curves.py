"""Accuracy against work and against time for nets compressed without training, and the fastest.

Usage: ``CAFFE_SCNN_DATA=… python benchmarks/compression_curves.py DIR [CASE…]``

Cases: ``lenet``, ``cifar``, ``squeezenet``, ``mobilenet``; pictures and folds are those of
``compression_accuracy.py``. For every case ``auto`` is asked for several speeds, every method of
:data:`ASKED` for fractions of the multiply-accumulates (every other one of them for the two
large nets). Prints a table of all nets and the fastest within 1, 2 and 5 points of top-1, and draws
both curves. What is finished is kept in DIR, nets too: run again, it goes on. One thread; times are
medians in turns with the original. ``--times`` takes all of them again, for a machine that was busy
while the nets were made.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from compression_accuracy import CASES, Case, Fold, folds, macs, right

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import (
    Auto,
    ChannelSelection,
    Goal,
    Journal,
    LowRank,
    LowRank3d,
    Magnitude,
    Obs,
    Recipe,
    Scnn,
    Spatial,
    compress,
)
from caffe_scnn.decompose.costs import Meter
from caffe_scnn.errors import ModelError
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net
from caffe_scnn.report.plot import Plot, Series, write_plot
from caffe_scnn.save import CAFFEMODEL, PROTOTXT, save

SPEEDS = (1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
FRACTIONS = (0.8, 0.67, 0.5, 0.4, 0.3, 0.2, 0.1)
ASKED: dict[str, list[Recipe]] = {
    "auto": [Recipe(Goal(Auto()), speedup=speed) for speed in SPEEDS],
    "obs": [Recipe(Goal(Obs()), macs=fraction) for fraction in FRACTIONS],
    "channels": [Recipe(Goal(ChannelSelection()), macs=fraction) for fraction in FRACTIONS],
    "low-rank": [Recipe(Goal(LowRank()), macs=fraction) for fraction in FRACTIONS],
    "spatial": [Recipe(Goal(Spatial()), macs=fraction) for fraction in FRACTIONS],
    "low-rank-3d": [Recipe(Goal(LowRank3d()), macs=fraction) for fraction in FRACTIONS],
    "scnn": [Recipe(Goal(Scnn()), macs=fraction) for fraction in FRACTIONS],
    "magnitude, refit": [Recipe(Goal(Magnitude(refit=True)), macs=f) for f in FRACTIONS],
    "magnitude": [Recipe(Goal(Magnitude()), macs=fraction) for fraction in FRACTIONS],
}
# Case of compression_accuracy, layers, and which of the targets: all, or every other one.
LAYERS = {
    "lenet": ("lenet", ("*",), 1),
    "cifar": ("cifar", ("*",), 1),
    "squeezenet": ("squeezenet", ("fire*", "conv_final"), 2),
    "mobilenet": ("mobilenet-2x", ("conv*/pw", "fc7"), 2),
}
DROPS = (1.0, 2.0, 5.0)
SHOWN = (-25.0, 2.0)  # points of top-1 in the pictures
Result = dict[str, Any]


def main() -> None:
    """Measure what is missing, then print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=Path, metavar="DIR")
    parser.add_argument("cases", nargs="*", choices=[[], *LAYERS], metavar="CASE")
    parser.add_argument("--times", action="store_true", help="take all times again")
    options = parser.parse_args()
    data = Path(os.environ["CAFFE_SCNN_DATA"]) / "data"
    for name in options.cases or LAYERS:
        case_name, layers, step = LAYERS[name]
        case, place = CASES[case_name], options.place / name
        place.mkdir(parents=True, exist_ok=True)
        found = measured(place, case, layers, step, data)
        if options.times:
            found = timed_again(place, case.net(data))
        print(table(name, found))
        print(fastest(name, found), flush=True)
        draw(options.place, name, found)


def measured(place: Path, case: Case, layers: Sequence[str], step: int, data: Path) -> list[Result]:
    """Return a result for every method and target, over all folds."""
    net = case.net(data)
    parts = list(folds(case, data))
    for method, recipes in ASKED.items():
        for at, recipe in list(enumerate(recipes))[::step]:
            path = place / f"{method}-{at}.json"
            if not path.exists():
                made = [
                    one_fold(place / f"fold{i}", path.stem, net, recipe, layers, fold)
                    for i, fold in enumerate(parts)
                ]
                path.write_text(json.dumps(joined(method, made)))
    return kept(place)


def kept(place: Path) -> list[Result]:
    """Return the results there are, in the order of methods and targets."""
    paths = [place / f"{method}-{at}.json" for method in ASKED for at in range(len(ASKED[method]))]
    results = [json.loads(path.read_text()) for path in paths if path.exists()]
    return [result for result in results if result]


def timed_again(place: Path, net: Net) -> list[Result]:
    """Take the time of all nets again."""
    for path in place.glob("*.json"):
        result = json.loads(path.read_text())
        nets = [
            load(folder / PROTOTXT, folder / CAFFEMODEL)
            for folder in sorted(place.glob(f"fold*/{path.stem}"))
        ]
        if result and nets:
            meter = Meter(net, timed=True, threads=1)
            result["speed"] = float(np.mean([meter.speedup(net, made) for made in nets]))
            path.write_text(json.dumps(result))
    return kept(place)


def one_fold(
    place: Path, name: str, net: Net, recipe: Recipe, layers: Sequence[str], fold: Fold
) -> Result | None:
    """Compress and test on one fold; None where the target is out of reach."""
    calibrate, test, labels = fold
    # One journal for all targets: what layers lose and cost is measured once.
    journal = Journal(place / "journal", "one net, one set of pictures")
    channels = isinstance(recipe.goal_of_all.method, ChannelSelection)
    asked = replace(recipe, layers=None if channels else tuple(layers))  # all whose channels can go
    calibration = Calibration(Images(calibrate, batch=10), threads=1)
    try:
        made = compress(net, asked, calibration=calibration, journal=journal, threads=1)
    except ModelError as error:
        print(f"{asked.text().splitlines()[0]}: {error}", file=sys.stderr)
        return None
    (place / name).mkdir(parents=True, exist_ok=True)
    save(made.net, place / name)
    return {
        "before": right(net, test, labels).tolist(),
        "after": right(made.net, test, labels).tolist(),
        "macs": macs(net) / macs(made.net),
        "speed": Meter(net, timed=True, threads=1).speedup(net, made.net),
        "methods": [report.method for report in made.reports],
    }


def joined(method: str, made: Sequence[Result | None]) -> Result:
    """Join folds: the difference over all pictures with its paired 95 % interval."""
    parts = [part for part in made if part]
    if len(parts) < len(made):
        return {}
    old, new = (np.concatenate([part[key] for part in parts]) for key in ("before", "after"))
    difference = 100 * (new - old)
    return {
        "method": method,
        "macs": float(np.mean([part["macs"] for part in parts])),
        "speed": float(np.mean([part["speed"] for part in parts])),
        "difference": float(difference.mean()),
        "interval": float(1.96 * difference.std() / np.sqrt(len(difference))),
        "layers": dict(Counter(name for part in parts for name in part["methods"])),
    }


def table(name: str, found: Sequence[Result]) -> str:
    """Return all nets of a model as Markdown."""
    lines = [
        f"\n### {name}\n",
        "| method | fewer MACs | times as fast | difference in top-1 |",
        "|---|--:|--:|--:|",
    ]
    lines += [
        f"| {r['method']} | {r['macs']:.2f}x | {r['speed']:.2f}x | "
        f"{r['difference']:+.2f} ± {r['interval']:.2f} |"
        for r in found
    ]
    return "\n".join(lines)


def fastest(name: str, found: Sequence[Result]) -> str:
    """Return the fastest net within each drop, and what it is made of."""
    lines = [
        f"\n| {name}: within | times as fast | fewer MACs | difference | made of |",
        "|--:|--:|--:|--:|---|",
    ]
    for drop in DROPS:
        within = [r for r in found if r["difference"] >= -drop]
        if within:
            best = max(within, key=lambda r: r["speed"])
            layers = ", ".join(f"{n}x {method}" for method, n in best["layers"].items())
            lines.append(
                f"| {drop:g} | {best['speed']:.2f}x | {best['macs']:.2f}x | "
                f"{best['difference']:+.2f} ± {best['interval']:.2f} | {layers} |"
            )
    return "\n".join(lines)


def draw(place: Path, name: str, found: Sequence[Result]) -> None:
    """Draw top-1 against multiply-accumulates and against time."""
    for key, label in (("macs", "times fewer multiply-accumulates"), ("speed", "times as fast")):
        series = [
            Series(
                method,
                [1.0, *(r[key] for r in found if r["method"] == method)],
                [0.0, *(r["difference"] for r in found if r["method"] == method)],
                "both",
            )
            for method in ASKED
            if any(r["method"] == method for r in found)
        ]
        shown = [r[key] for r in found if r["difference"] > SHOWN[0]]
        picture = Plot(
            series,
            label,
            "difference in top-1 [points]",
            name,
            x_limits=(0.95, 1.1 * max([1.5, *shown])),
            y_limits=SHOWN,
        )
        write_plot(place / f"{name}-{key}.svg", picture)


if __name__ == "__main__":
    main()
