"""``caffe-scnn detect``: objects in pictures."""

from __future__ import annotations

import os
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
from caffe_scnn.cli.opening import threads_option, tune_option
from caffe_scnn.cli.progress import progress
from caffe_scnn.detect.album import write_album
from caffe_scnn.detect.detector import Running
from caffe_scnn.detect.many import Job, Result, detect_many, write_run, write_voc
from caffe_scnn.detect.model_folder import DetectorModel
from caffe_scnn.detect.proposals import MINIMUM_SIDE, make_proposer
from caffe_scnn.engine.threads import resolve_threads
from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.labels import read_lines
from caffe_scnn.evaluate.voc import Devkit
from caffe_scnn.loading import load
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import count, significant

COLUMNS = (
    Column("name", "stage"),
    Column("windows_in", "windows in", count),
    Column("windows_out", "windows out", count),
    Column("milliseconds", "time per picture [ms]", significant),
)


@dataclass(frozen=True)
class Source:
    """Where pictures come from."""

    images: tuple[Path, ...]
    list_path: Path | None
    devkit: Path | None
    image_set: str
    year: int | None

    def pictures(self) -> tuple[list[tuple[str, Path]], Devkit | None]:
        """Return names and paths, and the devkit where they come from one.

        Raises
        ------
        FormatError
            Two pictures of one name, or an empty list.
        """
        given = [bool(self.images), self.list_path is not None, self.devkit is not None]
        if sum(given) != 1:
            raise click.UsageError("give IMAGE files, or --list FILE, or --voc VOCDEVKIT")
        if self.devkit is not None:
            kit = Devkit.open(self.devkit, self.year)
            return [(i, kit.picture_path(i)) for i in kit.image_ids(self.image_set)], kit
        paths = list(self.images)
        if self.list_path is not None:
            lines = [line.strip() for line in read_lines(self.list_path)]
            paths = [self.list_path.parent / line for line in lines if line]
            if not paths:
                raise FormatError("the list is empty", str(self.list_path))
        known: dict[str, Path] = {}
        for path in paths:
            if path.stem in known:
                raise FormatError(
                    f"has the name of {known[path.stem]}; results are named after pictures",
                    str(path),
                )
            known[path.stem] = path
        return list(known.items()), None


def _overrides(no_cascade: bool, **values: Any) -> dict[str, Any]:
    given = {key: value for key, value in values.items() if value is not None}
    return {**given, "keep": None, "reject_below": None} if no_cascade else given


source_options = grouped(
    "source",
    Source,
    click.argument("images", type=FILE, nargs=-1, metavar="IMAGE..."),
    click.option("--list", "list_path", type=FILE, metavar="FILE", help="A picture a line."),
    click.option("--voc", "devkit", type=FILE, metavar="VOCDEVKIT", help="The pictures of --set."),
    click.option("--set", "image_set", default="test", show_default=True, help="Image set."),
    click.option("--year", type=int, help="Which VOC<year> [the only one there]."),
)

override_options = grouped(
    "overrides",
    _overrides,
    click.option("--no-cascade", is_flag=True, help="Reject no window: the full model."),
    click.option(
        "--keep",
        type=float,
        metavar="N|SHARE",
        help="Windows of a picture that pass the rejection; up to 1: their share.",
    ),
    click.option("--reject-below", type=float, help="Least score of the rejection classifier."),
    click.option("--scales", type=INTEGERS, help="Shorter sides of the scaled pictures."),
    click.option("--threshold", type=float, help="Least score of a detection."),
    click.option("--overlap", type=click.FloatRange(0, 1), help="Of non-maximum suppression."),
    click.option("--limit", type=click.IntRange(min=1), help="Of a class in a picture."),
)


@click.command(
    "detect",
    epilog=examples(
        "caffe-scnn detect detector/ street.jpg -o found/",
        "caffe-scnn detect detector/ --voc VOCdevkit/ --set test -o run1/ --jobs 4 --threads 1",
        "caffe-scnn evaluate voc run1/ VOCdevkit/ --set test",
    ),
)
@click.argument("model", type=FILE, metavar="DETECTOR")
@source_options
@click.option(
    "-o",
    "--output",
    "out",
    type=FILE,
    metavar="DIR",
    required=True,
    help="To write; a run that was interrupted goes on in it.",
)
@override_options
@click.option(
    "--proposals",
    default="fast",
    show_default=True,
    metavar="SOURCE",
    help="fast or quality (Selective Search), sliding, or a file: .mat, .txt, .csv, .npz.",
)
@click.option(
    "--min-side",
    type=click.FloatRange(min=1),
    default=MINIMUM_SIDE,
    show_default=True,
    help="Leave out windows narrower or lower than so many pixels.",
)
@click.option(
    "--backbone",
    type=(FILE, FILE),
    metavar="PROTOTXT CAFFEMODEL",
    help="Use these convolutions, such as compressed ones, instead of the detector's.",
)
@click.option("--no-pictures", is_flag=True, help="Draw no boxes into pictures.")
@click.option(
    "--draw-above",
    type=float,
    default=0.0,
    show_default=True,
    help="Least score of a detection that is drawn.",
)
@click.option("--cache", type=FILE, metavar="DIR", help="Keep windows and feature maps here.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes; each takes --threads.",
)
@threads_option
@tune_option
@FORMATS[0]
@FORMATS[1]
def command(
    model: Path,
    source: Source,
    out: Path,
    overrides: dict[str, Any],
    proposals: str,
    min_side: float,
    backbone: tuple[Path, Path] | None,
    no_pictures: bool,
    draw_above: float,
    cache: Path | None,
    jobs: int,
    threads: int | None,
    tune: bool,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Find objects in pictures.

    Writes for each picture DIR/detections/NAME.json and DIR/pictures/NAME.jpg, sheets of all
    pictures, DIR/results with VOC's result files, and DIR/run.json with what every stage did. The
    name of a picture is that of its file without the suffix. Times leave out reading pictures, and
    cover all runs that filled the folder.
    """
    pictures, kit = source.pictures()
    detector = DetectorModel.read(model)
    if backbone is not None:
        detector = replace(detector, backbone=load(*backbone))
    detector = replace(detector, settings=replace(detector.settings, **overrides))
    if threads is None and jobs > 1:
        threads = max(1, resolve_threads(None) // jobs)
    proposer = make_proposer(proposals, min_side, cache / "windows" if cache else None)
    settings = {
        **asdict(detector.settings),
        "model": str(model),
        "proposals": proposer.fingerprint,
        "digest": detector.digest(),
    }
    running = Running(threads, tune, cache / "maps" if cache else None)
    job = Job(detector, proposer, running, settings)
    begun = time.perf_counter()
    results: list[Result] = []
    with (
        progress(len(pictures), "pictures") as advance,
        threadpool_limits(resolve_threads(threads), user_api="blas"),
    ):
        for result in detect_many(job, pictures, out / "detections", jobs=jobs):
            results.append(result)
            advance(1)
    image_set, year = (source.image_set, kit.year) if kit else ("pictures", 2007)
    place = write_voc(results, detector.settings.classes, out, image_set, year)
    total = write_run(results, {**settings, "jobs": jobs, "threads": threads}, out)
    seconds = time.perf_counter() - begun
    if not no_pictures:
        with progress(len(results), "drawing") as advance:
            write_album(results, detector.settings.classes, out, draw_above, advance)
    Output(as_json, as_markdown).show(_report(results, total.data(), place, out, seconds))


def _report(
    results: Sequence[Result], run: dict[str, Any], place: Path, out: Path, seconds: float
) -> Report:
    images = len(results)
    rows = [{**stage, "milliseconds": 1e3 * stage["seconds"] / images} for stage in run["stages"]]
    found = sum(len(result.found) for result in results)
    data = {**run, "detections": found, "results": os.fspath(place), "wall_seconds": seconds}
    text = f"{out}: {found} detections in {images} pictures, {images / seconds:.3g} pictures/s"
    return Report(data, (Table(COLUMNS, rows), text))
