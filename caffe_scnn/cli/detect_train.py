"""``caffe-scnn detect-train``: a detector on top of a classification net."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from threadpoolctl import threadpool_limits

from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.integers import INTEGERS
from caffe_scnn.cli.models import FILE, FORMATS, Output
from caffe_scnn.cli.opening import seed_option, threads_option
from caffe_scnn.cli.steps import Steps
from caffe_scnn.cli.voc_classes import classes_option
from caffe_scnn.detect.detector import Running
from caffe_scnn.detect.mining import MiningSettings
from caffe_scnn.detect.model_folder import FILES, DetectorSettings
from caffe_scnn.detect.proposals import MINIMUM_SIDE, make_proposer
from caffe_scnn.detect.samples import TrainingSet, training_pictures
from caffe_scnn.detect.spp_pool import POOLINGS
from caffe_scnn.detect.svm import SvmSettings
from caffe_scnn.detect.train import TrainSettings
from caffe_scnn.detect.trainer import Plan, train_detector
from caffe_scnn.engine.threads import resolve_threads
from caffe_scnn.evaluate.voc import Devkit
from caffe_scnn.loading import load
from caffe_scnn.model.atomic import check_free, output_directory
from caffe_scnn.preprocess import CHANNELS, Preprocess, parse_mean
from caffe_scnn.report import Report


@dataclass(frozen=True)
class Data:
    """What to train on."""

    devkit: Path
    image_set: str
    year: int | None
    classes: Sequence[str]
    proposals: str
    min_side: float


def _pixels(mean: str | None, scale: float | None, channels: str | None) -> dict[str, Any]:
    given = {"mean": parse_mean(mean) if mean else None, "scale": scale, "channels": channels}
    return {key: value for key, value in given.items() if value is not None}


def _training(**values: Any) -> TrainSettings:
    mining = {key: values.pop(key) for key in ("passes", "hard", "negative")}
    svm = SvmSettings(values.pop("c"), values.pop("positive_weight"))
    rejection = not values.pop("no_rejection")
    return TrainSettings(svm, MiningSettings(**mining), rejection=rejection, **values)


data_options = grouped(
    "data",
    Data,
    click.argument("devkit", type=FILE, metavar="VOCDEVKIT"),
    click.option("--set", "image_set", default="trainval", show_default=True, help="Image set."),
    click.option("--year", type=int, help="Which VOC<year> [the only one there]."),
    classes_option,
    click.option(
        "--proposals",
        default="fast",
        show_default=True,
        metavar="SOURCE",
        help="fast or quality (Selective Search), sliding, or a file: .mat, .txt, .csv, .npz.",
    ),
    click.option(
        "--min-side",
        type=click.FloatRange(min=1),
        default=MINIMUM_SIDE,
        show_default=True,
        help="Leave out windows narrower or lower than so many pixels.",
    ),
)

map_options = grouped(
    "maps",
    dict,
    click.option("--blob", required=True, help="The feature map: conv5, fire9/concat, …"),
    click.option(
        "--scales",
        type=INTEGERS,
        default="480,576,688,864,1200",
        show_default=True,
        help="Shorter sides of the scaled pictures, in pixels.",
    ),
    click.option(
        "--levels",
        type=INTEGERS,
        default="1,2,3,6",
        show_default=True,
        help="Bins a side of each level of the pyramid.",
    ),
    click.option(
        "--pooling",
        type=click.Choice(POOLINGS),
        default="spp-net",
        show_default=True,
        help="Bins: SPP-net's overlapping ones, those of Caffe's SPP layer, or ROI pooling.",
    ),
    click.option(
        "--rounding",
        type=float,
        metavar="PIXELS",
        help="Offset when ends of windows become cells [6.5 at stride 16].",
    ),
    click.option(
        "--coarse-levels",
        type=INTEGERS,
        default="1,2",
        show_default=True,
        help="Levels that the rejection looks at.",
    ),
    click.option(
        "--keep",
        type=float,
        metavar="N|SHARE",
        default=0.1,
        show_default=True,
        help="Windows of a picture that pass the rejection; up to 1: their share.",
    ),
)

recall_option = click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="FRACTION",
    help="Instead of --keep: the share with which this fraction of the objects that the full model "
    "finds in held-out pictures passes.",
)

pixel_options = grouped(
    "pixels",
    _pixels,
    click.option("--mean", metavar="FILE|VALUES", help="Mean to subtract [preprocess.toml's]."),
    click.option("--scale", type=float, help="Factor after the mean [preprocess.toml's]."),
    click.option("--channels", type=click.Choice(CHANNELS[:2]), help="[preprocess.toml's]"),
)

DEFAULT = TrainSettings()

training_options = grouped(
    "training",
    _training,
    click.option(
        "--c",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT.svm.c,
        show_default=True,
        help="Weight of the SVMs' losses, for features of mean norm 20.",
    ),
    click.option(
        "--positive-weight",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT.svm.positive_weight,
        show_default=True,
        help="Weight of positives over negatives.",
    ),
    click.option(
        "--passes",
        type=click.IntRange(min=0),
        default=DEFAULT.mining.passes,
        show_default=True,
        help="Searches for hard negatives over all pictures.",
    ),
    click.option(
        "--hard",
        type=click.IntRange(min=1),
        default=DEFAULT.mining.hard,
        show_default=True,
        help="Hard negatives of each class that a search adds.",
    ),
    click.option(
        "--negative",
        type=click.FloatRange(0, 1),
        default=DEFAULT.mining.negative,
        show_default=True,
        help="Windows that overlap objects of a class by less are negatives.",
    ),
    click.option(
        "--ridge",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT.ridge,
        show_default=True,
        help="Of the box regression.",
    ),
    click.option(
        "--regression-overlap",
        type=click.FloatRange(0, 1),
        default=DEFAULT.regression_overlap,
        show_default=True,
        help="Windows that overlap an object by so much learn to become it.",
    ),
    click.option(
        "--reduction",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Learn a linear layer with N outputs in front of the classifiers [none].",
    ),
    click.option("--softmax", is_flag=True, help="One softmax classifier instead of SVMs."),
    click.option("--no-rejection", is_flag=True, help="Train no rejection classifier."),
    seed_option,
)


@click.command(
    "detect-train",
    epilog=examples(
        "caffe-scnn detect-train deploy.prototxt weights.caffemodel VOCdevkit/ -o detector/ \\",
        "    --blob fire9/concat --mean 104,117,123 --scales 480",
        "caffe-scnn detect-train caffenet.prototxt caffenet.caffemodel VOCdevkit/ -o detector/ \\",
        "    --blob conv5 --levels 6 --fc fc7 --scales 688",
    ),
)
@click.argument("prototxt", type=FILE)
@click.argument("caffemodel", type=FILE)
@data_options
@click.option("-o", "--output", "out", type=FILE, metavar="DIR", required=True, help="To write.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the folder if it exists and holds nothing but a detector.",
)
@map_options
@recall_option
@click.option(
    "--fc", "fc_blob", metavar="BLOB", help="Classify this blob behind the net's fc layers."
)
@pixel_options
@training_options
@click.option(
    "--work",
    type=FILE,
    metavar="DIR",
    help="Keeps steps, maps and windows, so that a killed training goes on [DIR.training].",
)
@click.option(
    "--cache-size", type=click.IntRange(min=0), default=8, show_default=True, help="Of maps, in GB."
)
@threads_option
@FORMATS[0]
@FORMATS[1]
def command(
    prototxt: Path,
    caffemodel: Path,
    data: Data,
    out: Path,
    overwrite: bool,
    maps: dict[str, Any],
    recall: float | None,
    fc_blob: str | None,
    pixels: dict[str, Any],
    training: TrainSettings,
    work: Path | None,
    cache_size: int,
    threads: int | None,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Train a detector's classifiers, box regression and rejection on a VOC image set.

    The convolutions stay as they are. The result is a folder of plain Caffe models, arrays and
    settings; see docs/detection.md. Killed and called again, the training goes on where it was.
    """
    check_free(out, overwrite, FILES)
    begun = time.perf_counter()
    work = work or out.with_name(f"{out.name}.training")
    kit = Devkit.open(data.devkit, data.year)
    proposer = make_proposer(data.proposals, data.min_side, work / "windows")
    plan = Plan(
        load(prototxt, caffemodel),
        replace(Preprocess.beside(prototxt.parent), **pixels),
        DetectorSettings(tuple(data.classes), **maps),
        fc_blob,
        training,
        recall,
    )
    plan.parts(threads)  # a wrong blob is to be found before the first picture
    with Steps() as steps:
        advance = steps.begin("windows", len(kit.image_ids(data.image_set)))
        pictures = []
        for picture in training_pictures(kit, data.image_set, data.classes, proposer):
            pictures.append(picture)
            advance()
        running = Running(threads=threads, cache_limit=cache_size << 30)
        with threadpool_limits(resolve_threads(threads), user_api="blas"):
            model, samples = train_detector(
                plan, TrainingSet(kit, pictures), work, running, steps.begin
            )
    with output_directory(out, overwrite, FILES) as folder:
        model.write(folder)
    found = {
        "detector": str(out),
        "pictures": len(pictures),
        "objects": sum(len(picture.labels) for picture in pictures),
        "windows": sum(len(picture.windows) - len(picture.labels) for picture in pictures),
        "samples": samples,
        "keep": model.settings.keep,
        "seconds": time.perf_counter() - begun,
        "training": asdict(training),
    }
    text = (
        f"{out}: learnt from {samples} of {found['windows']} windows and "
        f"{found['objects']} objects in {found['pictures']} pictures"
    )
    Output(as_json, as_markdown).show(Report(found, (text,)))
