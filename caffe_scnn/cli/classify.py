"""``caffe-scnn classify``: the classes of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FILE, FORMATS, MANY, Models, make_models
from caffe_scnn.cli.opening import Opening, opening_options, threads_option
from caffe_scnn.cli.preprocessing import (
    Preprocessing,
    Scoring,
    preprocessing_options,
    scoring_options,
)
from caffe_scnn.cli.progress import progress
from caffe_scnn.engine import Executor
from caffe_scnn.evaluate.classify import Classifier, Prediction, batches, predict
from caffe_scnn.evaluate.labels import read_class_names
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import significant

COLUMNS = (
    Column("image"),
    Column("rank", show=str),
    Column("class", show=str),
    Column("score", show=significant),
    Column("label"),
)


def _split(files: tuple[Path, ...], **rest: Any) -> tuple[Models, tuple[Path, ...]]:
    """Take the model from the first two files, unless ``--models`` names the models."""
    at = 2 if rest["models"] is None else 0
    if len(files) <= at:
        raise click.UsageError("give at least one IMAGE after the model")
    return make_models(files[:at], weights=True, **rest), files[at:]


@click.command(
    "classify",
    epilog=examples(
        "caffe-scnn classify deploy.prototxt weights.caffemodel cat.jpg --mean 104,117,123 \\",
        "    --resize 256 --crop 227 --labels synset_words.txt --save-preprocess",
    ),
)
@grouped(
    "given",
    _split,
    click.argument(
        "files", type=FILE, nargs=-1, required=True, metavar="PROTOTXT CAFFEMODEL IMAGE..."
    ),
    *MANY,
    *FORMATS,
)
@preprocessing_options
@click.option("--labels", type=FILE, help="Names of the classes, one a line.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Classes to show for each picture.",
)
@scoring_options
@threads_option
@opening_options
def command(
    given: tuple[Models, tuple[Path, ...]],
    preprocessing: Preprocessing,
    labels: Path | None,
    top: int,
    scoring: Scoring,
    threads: int | None,
    opening: Opening,
) -> None:
    """Name the most likely classes of pictures.

    A value that goes into the net is (pixel - mean) * scale; pictures are read by OpenCV, as
    Caffe does. Settings that are not given come from preprocess.toml beside the model, if there
    is one.
    """
    models, images = given
    names = read_class_names(labels) if labels else None

    def action(model: ModelFiles) -> Report:
        net = opening.load(model)
        transformer = preprocessing.transformer(model, net)
        classifier = Classifier(Executor(net, threads=threads), scoring.blob)
        with progress(len(images), "pictures") as advance:
            predictions = []
            for paths in batches(images, scoring.batch):
                predictions += predict(classifier, transformer.pictures(paths), top, names)
                advance(len(paths))
        return predictions_report(images, predictions)

    models.deliver(action)


def predictions_report(images: tuple[Path, ...], predictions: list[list[Prediction]]) -> Report:
    """Make the report: the best classes of every picture."""
    rows, data = [], []
    for image, ranked in zip(images, predictions, strict=True):
        best = [{"class": p.index, "score": p.score, "label": p.label} for p in ranked]
        data.append({"image": image, "top": best})
        rows += [{"image": image, "rank": at, **row} for at, row in enumerate(best, start=1)]
    return Report({"images": data}, (Table(COLUMNS, rows),))
