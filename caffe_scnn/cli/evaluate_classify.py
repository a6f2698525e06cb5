"""``caffe-scnn evaluate classify``: top-1 and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FILE, Models, takes_models
from caffe_scnn.cli.opening import Opening, opening_options, threads_option
from caffe_scnn.cli.preprocessing import (
    Preprocessing,
    Scoring,
    preprocessing_options,
    scoring_options,
)
from caffe_scnn.cli.progress import progress
from caffe_scnn.engine import Executor
from caffe_scnn.evaluate.arrays import Values
from caffe_scnn.evaluate.classify import Accuracy, Classifier, batches, evaluate
from caffe_scnn.evaluate.labels import read_labelled_arrays, read_list
from caffe_scnn.preprocess import Transformer
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import count, significant

COLUMNS = (
    Column("images", show=count),
    Column("top1", "top-1 [%]", "{:.2f}".format),
    Column("top5", "top-5 [%]", "{:.2f}".format),
    Column("seconds", "time [s]", significant),
    Column("net_seconds", "in the net [s]", significant),
)


@dataclass(frozen=True)
class Labelled:
    """Labelled images: pictures in files, or arrays of pixels."""

    images: list[Path] | NDArray[np.generic]
    labels: NDArray[np.int64]

    def batches(self, transformer: Transformer, size: int) -> Iterator[Values]:
        """Yield the inputs of the net, batch by batch."""
        read = transformer.pictures if isinstance(self.images, list) else transformer.pixels
        return map(read, batches(self.images, size))


def _labelled(folder: Path | None, list_path: Path | None, input_path: Path | None) -> Labelled:
    if input_path is not None and folder is None and list_path is None:
        return Labelled(*read_labelled_arrays(input_path))
    if input_path is None and list_path is not None:
        pictures = read_list(list_path, folder or list_path.parent)
        labels = np.array([picture.label for picture in pictures], np.int64)
        return Labelled([picture.path for picture in pictures], labels)
    raise click.UsageError("give --list FILE with --images DIR, or --input FILE.npz")


@click.command(
    "classify",
    epilog=examples(
        "caffe-scnn evaluate classify deploy.prototxt weights.caffemodel --images val/ \\",
        "    --list val.txt --mean 104,117,123 --resize 256 --crop 227",
        "caffe-scnn evaluate classify --models 'zoo/*' --input digits.npz --json",
    ),
)
@takes_models(weights=True)
@grouped(
    "labelled",
    _labelled,
    click.option(
        "--images", "folder", type=FILE, metavar="DIR", help="Folder of the pictures [the list's]."
    ),
    click.option(
        "--list",
        "list_path",
        type=FILE,
        metavar="FILE",
        help="One picture a line: name, blank, class from 0.",
    ),
    click.option(
        "--input",
        "input_path",
        type=FILE,
        metavar="FILE.npz",
        help="Instead of pictures: x, pixels (N, C, H, W) in the net's channel order, of "
        "which only mean and scale are applied; y, classes (N).",
    ),
)
@preprocessing_options
@scoring_options
@threads_option
@opening_options
def command(
    models: Models,
    labelled: Labelled,
    preprocessing: Preprocessing,
    scoring: Scoring,
    threads: int | None,
    opening: Opening,
) -> None:
    """Measure top-1 and top-5 accuracy, in percent of the images.

    A value that goes into the net is (pixel - mean) * scale; pictures are read by OpenCV, as
    Caffe does. Settings that are not given come from preprocess.toml beside the model, if there
    is one. The time covers the whole evaluation; the part spent in the net stands beside it.
    """

    def action(model: ModelFiles) -> Report:
        net = opening.load(model)
        images = labelled.batches(preprocessing.transformer(model, net), scoring.batch)
        classifier = Classifier(Executor(net, threads=threads), scoring.blob)
        with progress(len(labelled.labels), model.name) as advance:
            return accuracy_report(evaluate(classifier, images, labelled.labels, advance))

    models.deliver(action)


def accuracy_report(accuracy: Accuracy) -> Report:
    """Make the report of one net's accuracy."""
    return Report(asdict(accuracy), (Table(COLUMNS, [asdict(accuracy)]),))
