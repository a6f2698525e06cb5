"""Sparse ImageNet nets: what distillation without labels gives back of what pruning took.

Usage: ``CAFFE_SCNN_DATA=… python benchmarks/experiments/distillation.py WORK [options]``

A net is pruned on calibration pictures (``obs``, one shot), then trained to respond as the original
does, on the same pictures and without labels. The even pictures train and the odd ones are the
test, then the other way round. Every result is a JSON file in WORK; what is there already is not
done again, and a training that was interrupted goes on. ``--table`` prints what there is.

``--more DIR`` adds pictures of any kind to both pruning and training (of VOC 2007, for one).
``--dealt`` asks for a density of all chosen layers together and lets the allocator deal it out.

The two halves have no class in common: each class has one picture. A student that learns answers
learns which classes there are; so it is the blobs on the way that are to be the teacher's, and
``--answers`` shows what happens otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import Goal, Obs, Recipe, compress
from caffe_scnn.engine import Executor
from caffe_scnn.evaluate.labels import read_list
from caffe_scnn.finetune.data import Files
from caffe_scnn.finetune.recipe import FinetuneRecipe
from caffe_scnn.finetune.trainer import Data, Trainer
from caffe_scnn.layers.summary import summarize
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net
from caffe_scnn.passes import fold_batch_norm
from caffe_scnn.preprocess import Preprocess, Transformer
from caffe_scnn.save import CAFFEMODEL, PROTOTXT, save

Answers = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A model, its pointwise layers, and blobs along it for the student to match."""

    files: tuple[str, str, str]
    preprocess: Preprocess
    layers: tuple[str, ...]
    responses: tuple[str, ...]


CASES = {
    "mobilenet": Case(
        ("mobilenet_v1_075", "deploy.prototxt", "weights.caffemodel"),
        Preprocess(mean=(127.5, 127.5, 127.5), scale=1 / 127.5, crop=224),
        ("conv*/pw",),
        # Not the last map, most of which is zero: its means and the scores made of them.
        ("conv?/pw", "conv1[0-3]/pw", "pool6", "fc7"),
    ),
    "squeezenet": Case(
        ("squeezenet", "deploy.prototxt", "squeezenet.caffemodel"),
        Preprocess(mean=(104, 117, 123), crop=227),
        ("fire*/conv1x1_*", "conv_final"),
        ("fire*/concat", "pool_final"),  # without the scores the last layer is not trained
    ),
}
# What the table in docs/finetuning.md is made of: model, pictures to train on, fold.
PROGRAMME = (
    ("mobilenet", 300, 0),
    ("mobilenet", 300, 1),
    ("squeezenet", 300, 0),
    ("squeezenet", 300, 1),
    *(("mobilenet", pictures, fold) for pictures in (100, 30) for fold in (0, 1)),
)
RECIPE = """
method = "keep"
[train]
steps = {steps}
batch = 16
optimizer = "adam"
learning_rate = {rate}
warmup = 0.05
evaluate = 1.0
[goals]
teacher = {answers}
responses = {responses}
[augment]
mirror = true
area = [0.7, 1.0]
colour = 0.1
"""


class Bench:
    """One model, its pictures and the folder of results."""

    def __init__(self, name: str, work: Path) -> None:
        data = Path(os.environ["CAFFE_SCNN_DATA"]) / "data"
        self.name, self.work, self.case = name, work, CASES[name]
        folder, prototxt, caffemodel = self.case.files
        # BatchNorm folded in: half the time of a step
        self.net = fold_batch_norm(load(data / folder / prototxt, data / folder / caffemodel)).net
        listed = read_list(data / "imagenet" / "val.txt", data / "imagenet" / "images")
        self.paths = [picture.path for picture in listed]
        self.labels = np.array([picture.label for picture in listed], np.int64)
        size = self.case.preprocess.crop
        self.transformer = Transformer(self.case.preprocess, "data", (1, 3, size, size))

    def half(self, fold: int) -> list[int]:
        """Return the pictures that one fold trains on."""
        return list(range(fold, len(self.paths), 2))

    def answers(self, net: Net) -> Answers:
        """Return the class of every picture."""
        executor = Executor(net, threads=1)
        found = []
        for start in range(0, len(self.paths), 10):
            pixels = self.transformer.pictures(self.paths[start : start + 10])
            (scores,) = executor.run({executor.inputs[0]: pixels}).values()
            found.append(scores.reshape(len(pixels), -1).argmax(axis=1))
        return np.concatenate(found)

    def sparse(
        self, fold: int, density: float, more: Sequence[Path] = (), dealt: bool = False
    ) -> Net:
        """Return the net pruned on one half and perhaps on more pictures."""
        suffix = f"{f'-{len(more)}' if more else ''}{'-dealt' if dealt else ''}"
        place = self.work / f"{self.name}-{density:g}-{fold}{suffix}"
        if not (place / PROTOTXT).exists():
            pictures = [*(self.paths[i] for i in self.half(fold)), *more]
            pixels = self.transformer.pictures(pictures)
            recipe = Recipe(Goal(Obs(), density=density), layers=self.case.layers)
            if dealt:
                size = self.packed(density)
                recipe = Recipe(Goal(Obs()), size=size, layers=self.case.layers)
            calibration = Calibration(Images(pixels, batch=10), threads=1)
            place.mkdir(parents=True, exist_ok=True)
            save(compress(self.net, recipe, calibration=calibration).net, place)
        return load(place / PROTOTXT, place / CAFFEMODEL)

    def packed(self, density: float) -> int:
        """Return the packed bytes of the net with a share of its chosen layers' weights."""
        sizes = {layer: [blob.size for blob in layer.blobs] for layer in self.net}
        weights = [
            numbers[0]
            for layer, numbers in sizes.items()
            if any(fnmatchcase(layer.name, name) for name in self.case.layers)
        ]
        others = sum(sum(numbers) for numbers in sizes.values()) - sum(weights)
        return round(4 * others + sum(weights) * (4 * density + 1 / 8))

    def distilled(self, fold: int, density: float, options: argparse.Namespace) -> Net:
        """Train the pruned net on some pictures of its half."""
        pictures = [self.paths[i] for i in self.half(fold)[: options.pictures]] + options.more
        case, data = self.case, Files(pictures, self.transformer)
        text = RECIPE.format(
            steps=options.steps,
            rate=options.rate,
            responses=json.dumps(case.responses),
            answers=options.answers,
        )
        trainer = Trainer(
            self.sparse(fold, density, options.more, options.dealt),
            FinetuneRecipe.parse(text),
            Data(data, self.transformer, workers=1),
            teacher=self.net,
        )
        checkpoint = self.work / f"{self.key(fold, density, options)}.pt"
        if checkpoint.exists():
            trainer.resume(checkpoint)
        trainer.run(checkpoint, told)
        return trainer.result()

    def key(self, fold: int, density: float, options: argparse.Namespace) -> str:
        """Name a result."""
        pictures = options.pictures + len(options.more)
        return (
            f"{self.name}-{density:g}-{fold}-{pictures}p-{options.steps}s-"
            f"{options.rate:g}-{options.answers:g}{'-dealt' if options.dealt else ''}"
        )


def told(step: int, total: int, row: dict[str, float]) -> None:
    """Print the course."""
    if step % 10 == 0:
        print(step, total, {name: round(value, 4) for name, value in row.items()}, flush=True)


def measure(bench: Bench, fold: int, options: argparse.Namespace) -> None:
    """Make the result of one fold unless it is there."""
    key = bench.key(fold, options.density, options)
    path = bench.work / f"{key}.json"
    if path.exists():
        return
    pruned = bench.sparse(fold, options.density, options.more, options.dealt)
    trained = bench.distilled(fold, options.density, options)
    place = bench.work / key
    place.mkdir(exist_ok=True)
    save(trained, place)
    test = [i for i in range(len(bench.paths)) if i not in set(bench.half(fold))]
    answers = {
        name: bench.answers(net)[test]
        for name, net in (("original", bench.net), ("pruned", pruned), ("trained", trained))
    }
    right = {name: (found == bench.labels[test]).tolist() for name, found in answers.items()}
    agrees = {name: (found == answers["original"]).tolist() for name, found in answers.items()}
    before, after = summarize(bench.net).total, summarize(trained).total
    macs = [before.nonzero_macs, after.nonzero_macs]
    asked = {**vars(options), "pictures": options.pictures + len(options.more), "more": None}
    result = {"right": right, "agrees": agrees, "macs": macs, **asked, "fold": fold}
    path.write_text(json.dumps(result, default=str))


def table(work: Path) -> None:
    """Print a line for every pair of folds."""
    folds: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for path in sorted(work.glob("*.json")):
        result = json.loads(path.read_text())
        names = ("model", "density", "pictures", "steps", "rate", "answers")
        key = (*(result[name] for name in names), result.get("dealt", False))
        folds.setdefault(key, []).append(result)
    print(
        "| model | density of 1x1 | pictures | steps | top-1 | pruned | distilled | gained | ",
        end="",
    )
    print("of the loss | same class, pruned | distilled | MACs | folds |")
    print("|---|" + "--:|" * 12)
    for key, results in folds.items():
        right, agrees = (
            {n: np.concatenate([r[what][n] for r in results]) * 100.0 for n in results[0][what]}
            for what in ("right", "agrees")
        )
        gain = right["trained"] - right["pruned"]
        lost = right["original"].mean() - right["pruned"].mean()
        density = f"{key[1]}{' dealt out' if key[6] else ''}"
        print(
            f"| {key[0]} | {density} | {key[2]} | {key[3]} | {right['original'].mean():.1f} | "
            f"{right['pruned'].mean():.1f} | {right['trained'].mean():.1f} | {gain.mean():+.1f} ± "
            f"{1.96 * gain.std() / np.sqrt(len(gain)):.1f} | {100 * gain.mean() / lost:.0f} % | "
            f"{agrees['pruned'].mean():.1f} | {agrees['trained'].mean():.1f} | "
            f"{results[0]['macs'][0] / results[0]['macs'][1]:.2f}x fewer | {len(results)} |"
        )


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", choices=sorted(CASES), default="mobilenet")
    parser.add_argument("--density", type=float, default=0.2)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument(
        "--answers", type=float, default=0.0, help="weight of the teacher's answers"
    )
    parser.add_argument("--fold", type=int, choices=(0, 1), help="[both]")
    parser.add_argument("--more", type=Path, help="a folder of further pictures")
    parser.add_argument("--dealt", action="store_true", help="deal the density out to the layers")
    parser.add_argument("--oneshot", action="store_true", help="prune only")
    parser.add_argument("--all", action="store_true", help="the whole programme, in turn")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.more = sorted(options.more.iterdir()) if options.more else []
    if options.table:
        table(options.work)
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if options.all:
        for model, pictures, fold in PROGRAMME:
            options.model, options.pictures = model, pictures
            measure(Bench(model, options.work), fold, options)
        return
    bench = Bench(options.model, options.work)
    for fold in (0, 1) if options.fold is None else (options.fold,):
        if options.oneshot:
            bench.sparse(fold, options.density, options.more, options.dealt)
        else:
            measure(bench, fold, options)


if __name__ == "__main__":
    main()
