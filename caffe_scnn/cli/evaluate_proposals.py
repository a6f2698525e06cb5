"""``caffe-scnn evaluate proposals``: how many objects a list of windows covers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.models import FILE, Output, output_options
from caffe_scnn.cli.progress import progress
from caffe_scnn.cli.voc_classes import classes_option
from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.detect.picture import read_picture
from caffe_scnn.detect.proposals import (
    MINIMUM_SIDE,
    Coverage,
    Proposer,
    make_proposer,
    write_proposals,
)
from caffe_scnn.detect.proposals.files import check_proposals_path
from caffe_scnn.errors import ModelError
from caffe_scnn.evaluate.voc import Annotation, Devkit
from caffe_scnn.evaluate.voc.classes import same_class
from caffe_scnn.report.plot import check_plot_path, write_plot
from caffe_scnn.report.proposals import proposals_report, recall_plot


class _Overlaps(click.ParamType[tuple[float, ...]]):
    """Numbers from 0 to 1, separated by commas."""

    name = "overlaps"

    def convert(
        self,
        value: str | tuple[float, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[float, ...]:
        """Parse the text of the option."""
        if isinstance(value, tuple):
            return value
        try:
            overlaps = tuple(float(text) for text in value.split(","))
        except ValueError:
            overlaps = ()
        if not overlaps or not all(0 < overlap <= 1 for overlap in overlaps):
            self.fail(f'"{value}" is not numbers above 0 and up to 1 with commas', param, ctx)
        return overlaps


@click.command(
    "proposals",
    epilog=examples(
        "caffe-scnn evaluate proposals VOCdevkit/ --proposals fast --set test --write ss.npz",
        "caffe-scnn evaluate proposals VOCdevkit/ --proposals voc_2007_test.mat --plot recall.svg",
    ),
)
@click.argument("devkit", type=FILE, metavar="VOCDEVKIT")
@click.option(
    "--proposals",
    default="fast",
    show_default=True,
    metavar="SOURCE",
    help="fast or quality (Selective Search), sliding, or a file: .mat, .txt (window file), "
    ".csv, .npz.",
)
@click.option("--set", "image_set", default="test", show_default=True, help="The image set.")
@click.option("--year", type=int, help="Which VOC<year> [the only one there].")
@click.option(
    "--min-side",
    type=click.FloatRange(min=1),
    default=MINIMUM_SIDE,
    show_default=True,
    help="Leave out windows narrower or lower than so many pixels.",
)
@click.option(
    "--at",
    "thresholds",
    type=_Overlaps(),
    default="0.5,0.6,0.7,0.8,0.9",
    show_default=True,
    help="Overlaps at which to tell the recall.",
)
@classes_option
@click.option("--cache", type=FILE, metavar="DIR", help="Keep what Selective Search finds here.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Pictures at a time."
)
@click.option("--write", type=FILE, metavar="FILE", help="Write the windows, as .npz or .csv.")
@click.option(
    "--plot", type=FILE, metavar="FILE", help="Write recall over overlap, as .png or .svg."
)
@output_options
def command(
    devkit: Path,
    proposals: str,
    image_set: str,
    year: int | None,
    min_side: float,
    thresholds: tuple[float, ...],
    classes: Sequence[str],
    cache: Path | None,
    jobs: int,
    write: Path | None,
    plot: Path | None,
    output: Output,
) -> None:
    """Measure how many objects a list of windows covers.

    An object counts as covered when a window of its picture overlaps it by at least so much
    (intersection over union); difficult objects are left out.
    """
    if plot is not None:
        check_plot_path(plot)
    if write is not None:
        check_proposals_path(write)
    kit = Devkit.open(devkit, year)
    annotations = [_of_classes(each, classes) for each in kit.annotations(image_set)]
    proposer = make_proposer(proposals, min_side, cache)
    with progress(len(annotations), "windows") as advance:
        windows = _windows(proposer, kit, annotations, jobs, advance)
    coverage = Coverage.of(annotations, windows)
    if not len(coverage.best):
        raise ModelError(
            f"no object of {', '.join(classes)} in the {len(annotations)} images: are the classes "
            "named as in the annotations? (--classes)"
        )
    if write is not None:
        write_proposals(write, windows)
    if plot is not None:
        write_plot(plot, recall_plot(coverage))
    about = {"year": kit.year, "set": image_set, "proposals": proposals, "min_side": min_side}
    output.show(proposals_report(coverage, classes, thresholds, about))


def _of_classes(annotation: Annotation, classes: Sequence[str]) -> Annotation:
    known = {same_class(name) for name in classes}
    objects = tuple(item for item in annotation.objects if same_class(item.name) in known)
    return Annotation(annotation.image, annotation.width, annotation.height, objects)


def _windows(
    proposer: Proposer,
    kit: Devkit,
    annotations: Sequence[Annotation],
    jobs: int,
    advance: Callable[[int], None],
) -> dict[str, Boxes]:
    def propose(annotation: Annotation) -> tuple[str, Boxes]:
        image = annotation.image
        return image, proposer.boxes(image, read_picture(kit.picture_path(image)))

    windows = {}
    with ThreadPoolExecutor(jobs) as pool:  # OpenCV lets other threads run meanwhile
        try:
            for image, boxes in pool.map(propose, annotations):
                windows[image] = boxes
                advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return windows
