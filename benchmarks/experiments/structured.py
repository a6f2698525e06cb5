"""Accuracy and size of nets that SCNN and structured sparsity learning made small.

Usage: ``CAFFE_SCNN_DATA=… python benchmarks/experiments/structured.py WORK CASE… [--seed N]``

Cases: ``lenet-ssl``, ``lenet-ssl-small``, ``lenet-taps``, ``lenet-scnn`` (8,000 of MNIST's test
digits train, the other 2,000 are the test: a split fixed by seed), ``cifar-ssl``, ``cifar-scnn``
(10,000 pictures train, 5,000 are the test), ``cifar-ssl-on``, ``cifar-scnn-on`` (results trained
on, small as they are), ``resnet`` (trains a small residual net from random weights),
``resnet-depth`` (drops blocks of it) and ``resnet-more`` (the same course without dropping any).

Every result is a folder with the net and a JSON file in WORK; what is there is not done again, and
a training that was interrupted goes on. Without a case: the table of what there is.
``--times`` adds the time of every net, alternately with its original in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caffe_scnn.engine import Executor
from caffe_scnn.finetune.data import Arrays
from caffe_scnn.finetune.recipe import FinetuneRecipe
from caffe_scnn.finetune.trainer import Data, Trainer
from caffe_scnn.layers.binding import bind
from caffe_scnn.layers.summary import summarize
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Preprocess, Transformer
from caffe_scnn.save import CAFFEMODEL, PROTOTXT, save

sys.path.insert(0, str(Path(__file__).parent.parent))
from compression_accuracy import cifar_parts, mnist, right

Pixels = NDArray[np.float32]
Labels = NDArray[np.int64]

COMMON = """
seed = {seed}
[train]
epochs = {epochs}
batch = {batch}
optimizer = "{optimizer}"
learning_rate = {rate}
warmup = {warmup}
batch_norm = "{norm}"
evaluate = 4.0
[augment]
mirror = {mirror}
"""
TAUGHT = "[goals]\nlabels = 0.5\nteacher = 0.5\n"


@dataclass(frozen=True)
class Case:
    """What is trained how, and where it begins.

    Attributes
    ----------
    model : str
        A model, or the case whose result is trained on.
    method : str
        The method's part of the recipe.
    epochs, rate : float
    taught : bool
        By the model at the beginning of a chain of cases.
    norm : str
        Statistics that BatchNorm trains with.
    later : int
        Added to the seed: a course that goes on is to see pictures in another order.
    optimizer, batch, warmup
        As of a recipe.
    """

    model: str
    method: str
    epochs: float
    rate: float
    taught: bool = True
    norm: str = "stored"
    later: int = 0
    optimizer: str = "sgd"
    batch: int = 64
    warmup: float = 0.0

    def recipe(self, seed: int) -> FinetuneRecipe:
        """Return the recipe."""
        mirror = "false" if root(self.model) == "lenet" else "true"
        common = COMMON.format(
            seed=seed + self.later,
            epochs=self.epochs,
            batch=self.batch,
            optimizer=self.optimizer,
            rate=self.rate,
            warmup=self.warmup,
            norm=self.norm,
            mirror=mirror,
        )
        return FinetuneRecipe.parse(self.method + common + (TAUGHT if self.taught else ""))


# Small nets are trained on with Adam: it takes them further, and cannot hold back a penalty.
ON: dict[str, Any] = {"optimizer": "adam", "batch": 128, "warmup": 0.05}
CASES = {
    "lenet-ssl": Case("lenet", 'method = "ssl"\ndensity = 0.095\nend = 0.4\n', 10, 0.02),
    "lenet-ssl-small": Case("lenet", 'method = "ssl"\ndensity = 0.05\nend = 0.5\n', 20, 0.02),
    "lenet-taps": Case(
        "lenet", 'method = "ssl"\ndensity = 0.1\nfilter = 0.0\nend = 0.5\n', 10, 0.02
    ),
    "lenet-scnn": Case(
        "lenet",
        'method = "scnn"\nlayers = ["conv*"]\ndensity = 0.045\nrows = 0.25\nend = 0.5\n',
        16,
        0.02,
    ),
    "cifar-ssl": Case("cifar", 'method = "ssl"\ndensity = 0.175\nend = 0.6\n', 20, 0.002),
    "cifar-ssl-on": Case("cifar-ssl", 'method = "keep"\n', 60, 0.002, later=1, **ON),
    "cifar-scnn": Case(
        "cifar",
        'method = "scnn"\nlayers = ["conv*"]\ndensity = 0.09\nrows = 0.5\nend = 0.4\n',
        4,
        0.002,
    ),
    "cifar-scnn-on": Case("cifar-scnn", 'method = "keep"\n', 5, 0.002, later=1),
    "resnet": Case("resnet-random", 'method = "keep"\n', 10, 0.05, False, "batch"),
    "resnet-more": Case("resnet", 'method = "keep"\n', 10, 0.03, False, "batch"),
    "resnet-depth": Case(
        "resnet",
        'method = "ssl"\ndensity = 0.85\nfilter = 0.0\nshape = 0.0\ndepth = 1.0\nend = 0.3\n',
        10,
        0.03,
        False,
        "batch",
    ),
}


def root(model: str) -> str:
    """Return the model that a chain of cases begins with."""
    return root(CASES[model].model) if model in CASES else model


class Bench:
    """The data, the models they belong to, and the folder of results."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.data = Path(os.environ["CAFFE_SCNN_DATA"]) / "data"

    def images(self, model: str) -> tuple[Pixels, Labels, Pixels, Labels]:
        """Return training pictures with a border to cut from, and the test."""
        if model == "lenet":
            x, y = mnist(self.data)
            order = np.random.default_rng(0).permutation(len(x))
            train, test = order[:8000], order[8000:]
            return _bordered(x[train], 2), y[train], x[test], y[test]
        (x, y), (x_test, y_test) = cifar_parts(self.data / "cifar10_quick")
        scale = 1.0 if model == "cifar" else 1 / 64
        return _bordered(x * scale, 4), y, x_test * scale, y_test

    def net(self, model: str, seed: int) -> Net:
        """Read a model, or what a case made with this seed."""
        if model == "lenet":
            folder = self.data / "lenet_mnist"
            return load(folder / "lenet.prototxt", folder / "lenet_iter_10000.caffemodel")
        if model == "cifar":
            folder = self.data / "cifar10_quick"
            weights = folder / "cifar10_quick_iter_5000.caffemodel"
            return load(folder / "cifar10_quick.prototxt", weights)
        if model == "resnet-random":
            return random_resnet(seed)
        return self.made(model, seed)

    def original(self, case: Case, seed: int) -> Net:
        """Read what a result is compared with: its teacher, or where it began."""
        return self.net(root(case.model) if case.taught else case.model, seed)

    def made(self, case: str, seed: int) -> Net:
        """Read a result."""
        place = self.work / f"{case}-{seed}"
        return load(place / PROTOTXT, place / CAFFEMODEL)

    def run(self, name: str, seed: int) -> None:
        """Train a case unless it is there."""
        case, place = CASES[name], self.work / f"{name}-{seed}"
        if (place / PROTOTXT).exists():
            return
        net = self.net(case.model, seed)
        x, y, x_test, y_test = self.images(root(case.model))
        size = x_test.shape[-1]
        transformer = Transformer(Preprocess(crop=size), "data", (1, *x_test.shape[1:]))
        data = Data(Arrays(x, y), transformer, Arrays(x_test, y_test))
        original = self.original(case, seed)
        trainer = Trainer(net, case.recipe(seed), data, teacher=original)
        checkpoint = self.work / f"{name}-{seed}.pt"
        if checkpoint.exists():
            trainer.resume(checkpoint)
        trainer.run(checkpoint, told)
        result = trainer.result()
        answers = [right(some, x_test, y_test).astype(int).tolist() for some in (original, result)]
        sizes = [_sizes(some) for some in (original, result)]
        place.mkdir(parents=True, exist_ok=True)
        found = {"case": name, "seed": seed, "right": answers, "sizes": sizes}
        (place / "result.json").write_text(json.dumps(found))
        save(result, place)

    def table(self, timed: bool) -> None:
        """Print accuracies and sizes; and how long an image takes, original and result in turn."""
        head = ["case", "seed", "top-1 before", "after", "difference"]
        head += ["MACs of convolutions left", "their weights left", "layers", "outputs"]
        if timed:
            head += ["original, ms", "result, ms", "faster"]
            head += ["its convolutions, ms", "with zeros as weights, ms", "squeezed"]
        print(f"| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}")
        for path in sorted(self.work.glob("*/result.json")):
            found = json.loads(path.read_text())
            before, after = (100.0 * np.array(answers) for answers in found["right"])
            change = after - before
            error = 1.96 * change.std() / np.sqrt(len(change))
            old, new = found["sizes"]
            row = [found["case"], str(found["seed"]), f"{before.mean():.2f}", f"{after.mean():.2f}"]
            row.append(f"{change.mean():+.2f} ± {error:.2f}")
            row.append(f"{100 * new['macs'] / old['macs']:.1f} %")
            row.append(f"{100 * new['nonzeros'] / old['params']:.1f} %")
            row.append(f"{len(new['outputs'])} of {len(old['outputs'])}")
            row.append(", ".join(str(count) for count in new["outputs"].values()))
            if timed:
                row += self._times(found["case"], found["seed"])
            print(f"| {' | '.join(row)} |")

    def _times(self, case: str, seed: int) -> list[str]:
        """Return cells: milliseconds, and what squeezing zeros out is worth."""
        if CASES[case].model == "resnet-random":  # the original is not trained
            return [""] * 6
        small, original = self.made(case, seed), self.original(CASES[case], seed)
        squeezed = _convolutions(small)
        nets = [small, original, squeezed, _without_zeros(squeezed)]
        ours, theirs, some, dense = alternately(nets)
        cells = [f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.2f}x"]
        return [*cells, f"{some:.3f}", f"{dense:.3f}", f"{dense / some:.2f}x"]


def random_resnet(seed: int) -> Net:
    """Return a residual net for 32x32 pictures: 3 stages of 2 blocks, 16 to 64 channels."""
    lines = ['name: "resnet"', 'layer { name: "data" type: "Input" top: "data"']
    lines.append("input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }")
    bottom = "data"
    for stage, width in enumerate((16, 32, 64), start=1):
        bottom = _convolution(lines, f"down{stage}", bottom, width, stride=2, relu=True)
        for block in (1, 2):
            name = f"block{stage}_{block}"
            inner = _convolution(lines, f"{name}a", bottom, width, relu=True)
            inner = _convolution(lines, f"{name}b", inner, width)
            lines.append(f'layer {{ name: "{name}" type: "Eltwise" bottom: "{bottom}"')
            lines.append(f'bottom: "{inner}" top: "{name}" }}')
            lines.append(f'layer {{ name: "{name}r" type: "ReLU" bottom: "{name}" top: "{name}" }}')
            bottom = name
    lines.append(f'layer {{ name: "pool" type: "Pooling" bottom: "{bottom}" top: "pool"')
    lines.append("pooling_param { pool: AVE global_pooling: true } }")
    lines.append('layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"')
    lines.append("inner_product_param { num_output: 10 } }")
    lines.append('layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }')
    net = Net.parse("\n".join(lines))
    bind(net, None)
    rng = np.random.default_rng(seed)
    for layer in net:
        if layer.type in ("Convolution", "InnerProduct"):
            weights = layer.blobs[0]
            deviation = np.sqrt(2 / weights[0].size)  # He et al. 2015
            weights[...] = deviation * rng.standard_normal(weights.shape)
        elif layer.type == "Scale":  # a block begins as nearly the identity
            layer.blobs[0][...] = (
                0.2 if layer.name.startswith("block") and "b/" in layer.name else 1
            )
    return net


def _convolution(
    lines: list[str], name: str, bottom: str, width: int, stride: int = 1, relu: bool = False
) -> str:
    lines.append(f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"')
    lines.append(f"convolution_param {{ num_output: {width} kernel_size: 3 pad: 1")
    lines.append(f"stride: {stride} bias_term: false }} }}")
    lines.append(f'layer {{ name: "{name}/bn" type: "BatchNorm" bottom: "{name}" top: "{name}"')
    lines.append("batch_norm_param { moving_average_fraction: 0.99 } }")
    lines.append(f'layer {{ name: "{name}/scale" type: "Scale" bottom: "{name}" top: "{name}"')
    lines.append("scale_param { bias_term: true } }")
    if relu:
        lines.append(f'layer {{ name: "{name}/relu" type: "ReLU" bottom: "{name}" top: "{name}" }}')
    return name


def _bordered(x: Pixels, border: int) -> Pixels:
    return np.pad(x, ((0, 0), (0, 0), (border, border), (border, border))).astype(np.float32)


def _sizes(net: Net) -> dict[str, Any]:
    rows = [row for row in summarize(net).layers if row.type == "Convolution"]
    weights = {layer.name: layer.blobs[0] for layer in net if layer.type == "Convolution"}
    return {
        "macs": sum(row.nonzero_macs for row in rows),
        "params": sum(int(weights[row.name].size) for row in rows),
        "nonzeros": sum(int(np.count_nonzero(weights[row.name])) for row in rows),
        "outputs": {row.name: row.shape[1] for row in rows},
    }


def _convolutions(net: Net) -> Net:
    """Return a net that ends before its first InnerProduct."""
    part = net.copy()
    first = next(i for i, layer in enumerate(part) if layer.type == "InnerProduct")
    for layer in part.layers[first:]:
        part.remove(layer)
    return part


def _without_zeros(net: Net) -> Net:
    """Return a net whose convolutions have no zeros to squeeze out."""
    filled = net.copy()
    for layer in filled:
        if layer.type == "Convolution":
            blob = layer.blobs[0]
            layer.blobs[0] = np.where(blob == 0, np.float32(1e-12), blob)
    return filled


def alternately(nets: Sequence[Net], rounds: int = 300) -> list[float]:
    """Return the milliseconds of one image for every net: the median of alternate runs."""
    executors = [Executor(net, threads=1) for net in nets]
    feeds = []
    for executor in executors:
        (name,) = executor.inputs
        shape = (1, *executor.shapes[name][1:])
        feeds.append({name: np.random.default_rng(0).random(shape, np.float32)})
    taken = np.zeros((rounds, len(nets)))
    for row in taken:
        for i, (executor, feed) in enumerate(zip(executors, feeds, strict=True)):
            started = time.perf_counter()
            executor.run(feed)
            row[i] = time.perf_counter() - started
    return [float(1000 * value) for value in np.median(taken, axis=0)]


def told(step: int, total: int, row: dict[str, float]) -> None:
    """Print the course."""
    if step % 50 == 0:
        print(step, total, {name: round(value, 4) for name, value in row.items()}, flush=True)


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], metavar="CASE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", action="store_true", help="measure what is there")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    bench = Bench(options.work)
    for case in options.cases:
        bench.run(case, options.seed)
    if options.times or not options.cases:
        bench.table(options.times)


if __name__ == "__main__":
    main()
