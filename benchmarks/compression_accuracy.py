"""Accuracy of nets compressed without training, on pictures that were not calibrated on.

Usage: ``CAFFE_SCNN_DATA=… OPENBLAS_NUM_THREADS=1 python benchmarks/compression_accuracy.py CASE…``

Cases: ``lenet``, ``cifar``, ``squeezenet``, ``mobilenet-1.5x``, ``mobilenet-2x``. For every one the
even pictures calibrate and the odd ones are the test, and the other way round (cifar10: every fifth
training picture, and the 5,000 test pictures). Prints the multiply-accumulates on non-zero weights,
top-1 over all test pictures and the difference with its paired 95 % interval.
"""

from __future__ import annotations

import gzip
import os
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import Goal, Obs, Recipe, compress
from caffe_scnn.engine import Executor
from caffe_scnn.evaluate.labels import read_list
from caffe_scnn.layers.summary import summarize
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Preprocess, Transformer

Pixels = NDArray[np.float32]
Labels = NDArray[np.int64]
Fold = tuple[Pixels, Pixels, Labels]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@dataclass(frozen=True)
class Case:
    """A model, the pictures it is tried on, and the multiply-accumulates it is to keep."""

    folder: str
    prototxt: str
    caffemodel: str
    macs: float
    layers: tuple[str, ...]
    preprocess: Preprocess | None = None

    def net(self, data: Path) -> Net:
        """Read the model."""
        return load(data / self.folder / self.prototxt, data / self.folder / self.caffemodel)


MOBILENET = Preprocess(mean=(127.5, 127.5, 127.5), scale=1 / 127.5, crop=224)
MOBILENET_FILES = ("mobilenet_v1_075", "deploy.prototxt", "weights.caffemodel")
CASES = {
    "lenet": Case("lenet_mnist", "lenet.prototxt", "lenet_iter_10000.caffemodel", 1 / 5, ("*",)),
    "cifar": Case(
        "cifar10_quick",
        "cifar10_quick.prototxt",
        "cifar10_quick_iter_5000.caffemodel",
        1 / 3,
        ("*",),
    ),
    "squeezenet": Case(
        "squeezenet",
        "deploy.prototxt",
        "squeezenet.caffemodel",
        1 / 1.3,
        ("fire*", "conv_final"),
        Preprocess(mean=(104, 117, 123), crop=227),
    ),
    "mobilenet-1.5x": Case(*MOBILENET_FILES, 1 / 1.5, ("conv*/pw", "fc7"), MOBILENET),
    "mobilenet-2x": Case(*MOBILENET_FILES, 1 / 2, ("*",), MOBILENET),
}


def main(names: list[str]) -> None:
    """Print one line of a Markdown table for every case."""
    data = Path(os.environ["CAFFE_SCNN_DATA"]) / "data"
    print("| model | fewer MACs | top-1 before | after | difference | images | seconds |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in names or CASES:
        print(measured(name, CASES[name], data), flush=True)


def measured(name: str, case: Case, data: Path) -> str:
    """Compress and test on every fold."""
    net = case.net(data)
    before, after, factors, seconds = [], [], [], 0.0
    for calibrate, test, labels in folds(case, data):
        started = time.perf_counter()
        recipe = Recipe(Goal(Obs()), macs=case.macs, layers=case.layers)
        small = compress(net, recipe, calibration=Calibration(Images(calibrate, batch=10))).net
        seconds += time.perf_counter() - started
        before.append(right(net, test, labels))
        after.append(right(small, test, labels))
        factors.append(macs(net) / macs(small))
    old, new = np.concatenate(before), np.concatenate(after)
    difference = 100 * (new - old)
    interval = 1.96 * difference.std() / np.sqrt(len(difference))
    return (
        f"| {name} | {np.mean(factors):.2f}x | {100 * old.mean():.2f} | {100 * new.mean():.2f} | "
        f"{difference.mean():+.2f} ± {interval:.2f} | {len(old)} | {seconds:.0f} |"
    )


def macs(net: Net) -> int:
    """Count multiply-accumulates on non-zero weights."""
    return summarize(net).total.nonzero_macs


def right(net: Net, pixels: Pixels, labels: Labels) -> NDArray[np.float64]:
    """Return 1 for every picture whose class is found, 0 for the others."""
    executor = Executor(net)
    found: list[Any] = []
    for start in range(0, len(pixels), 10):
        (scores,) = executor.run({executor.inputs[0]: pixels[start : start + 10]}).values()
        found.append(scores.reshape(len(scores), -1).argmax(axis=1))
    return np.asarray(np.concatenate(found) == labels, np.float64)


def folds(case: Case, data: Path) -> Iterator[Fold]:
    """Yield pictures to calibrate on, pictures to test on and their labels."""
    if case.folder == "cifar10_quick":
        yield cifar(data / case.folder)
        return
    pixels, labels = mnist(data) if case.preprocess is None else imagenet(case, data)
    for half in (0, 1):
        test = slice(1 - half, None, 2)
        yield pixels[half::2][:2000], pixels[test], labels[test]


def mnist(data: Path) -> tuple[Pixels, Labels]:
    """Read MNIST's test digits."""
    images, labels = (
        np.frombuffer(gzip.decompress((data / "lenet_mnist" / name).read_bytes())[skip:], np.uint8)
        for name, skip in (("t10k-images-idx3-ubyte.gz", 16), ("t10k-labels-idx1-ubyte.gz", 8))
    )
    return images.reshape(-1, 1, 28, 28).astype(np.float32) / 256, labels.astype(np.int64)


def imagenet(case: Case, data: Path) -> tuple[Pixels, Labels]:
    """Read the ImageNet pictures."""
    assert case.preprocess is not None
    listed = read_list(data / "imagenet" / "val.txt", data / "imagenet" / "images")
    size = case.preprocess.crop
    assert size is not None
    transformer = Transformer(case.preprocess, "data", (1, 3, size, size))
    pixels = transformer.pictures([picture.path for picture in listed])
    return pixels, np.array([picture.label for picture in listed], np.int64)


def cifar(folder: Path) -> Fold:
    """Return every fifth training picture, the test and its labels."""
    (pixels, _), (test, labels) = cifar_parts(folder)
    return pixels[::5], test, labels


def cifar_parts(folder: Path) -> tuple[tuple[Pixels, Labels], tuple[Pixels, Labels]]:
    """Read CIFAR-10, RGB, the training pictures' mean subtracted: training and test."""
    archive = zipfile.ZipFile(folder / "cifar10_mini.zip")
    parts = {}
    for part in ("train", "test"):
        names = sorted(n for n in archive.namelist() if n.startswith(part) and n.endswith("jpg"))
        pictures = [cv2.imdecode(np.frombuffer(archive.read(n), np.uint8), 1) for n in names]
        labels = np.array([CLASSES.index(name.split("/")[1]) for name in names])
        parts[part] = np.stack(pictures)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32), labels
    mean = parts["train"][0].mean(axis=0)
    return (parts["train"][0] - mean, parts["train"][1]), (
        parts["test"][0] - mean,
        parts["test"][1],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
