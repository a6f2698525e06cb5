"""``caffe-scnn evaluate voc``: average precision of detections on PASCAL VOC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.models import FILE, Output, output_options
from caffe_scnn.cli.voc_classes import classes_option
from caffe_scnn.evaluate.voc import Devkit, ImageSet, Measure, evaluate, read_results
from caffe_scnn.evaluate.voc.average_precision import METRICS, usual_metric
from caffe_scnn.evaluate.voc.bootstrap import bootstrap_difference
from caffe_scnn.evaluate.voc.match import RULES
from caffe_scnn.evaluate.voc.run_record import read_run_record
from caffe_scnn.report.plot import check_plot_path, write_plot
from caffe_scnn.report.voc import PANELS_IN_A_ROW, Evaluated, precision_recall_plots, voc_report


@click.command(
    "voc",
    epilog=examples(
        "caffe-scnn evaluate voc results/ VOCdevkit/ --set test --year 2007",
        "caffe-scnn evaluate voc dense/ sparse/ cascade/ VOCdevkit/ --bootstrap 1000 --plot pr.svg",
    ),
)
@click.argument("results", type=FILE, nargs=-1, required=True)
@click.argument("devkit", type=FILE, metavar="VOCDEVKIT")
@click.option("--set", "image_set", default="test", show_default=True, help="The image set.")
@click.option("--year", type=int, help="Which VOC<year> [the only one there].")
@click.option(
    "--metric",
    type=click.Choice(list(METRICS)),
    help="Eleven points, or the area under the curve [voc07 up to 2009, area after].",
)
@click.option(
    "--rules",
    type=click.Choice(list(RULES)),
    default="devkit",
    show_default=True,
    help="The devkit takes an overlap of exactly the minimum, py-faster-rcnn does not.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="The overlap (intersection over union) that makes a hit.",
)
@classes_option
@click.option("--competition", help="comp3, comp4, … [the only one there].")
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=0,
    metavar="TIMES",
    help="With several results: a 95 % interval of the difference of their mAP to the first's, by "
    "drawing the images so many times.",
)
@click.option(
    "--plot", type=FILE, metavar="FILE", help="Write precision over recall, as .png or .svg."
)
@output_options
def command(
    results: tuple[Path, ...],
    devkit: Path,
    image_set: str,
    year: int | None,
    metric: str | None,
    rules: str,
    overlap: float,
    classes: Sequence[str],
    competition: str | None,
    bootstrap: int,
    plot: Path | None,
    output: Output,
) -> None:
    """Measure the average precision of detections.

    RESULTS are folders with a file <competition>_det_<set>_<class>.txt a class, as the devkit and
    detect write them; several come into one table, with what run.json in them tells of windows
    and times. Difficult objects count neither way, a second detection of an object is a false
    alarm, and of equal scores the first line is the better one.
    """
    if plot is not None:
        check_plot_path(plot)
    kit = Devkit.open(devkit, year)
    found = {
        folder: read_results(folder, image_set, classes, kit.year, competition)
        for folder in results
    }
    objects = ImageSet.of(kit.annotations(image_set), classes)
    measure = Measure(metric or usual_metric(kit.year), rules, overlap)
    detectors: list[Evaluated] = []
    for name, folder in zip(_names(results), results, strict=True):
        evaluation = evaluate(objects, found[folder], measure)
        difference = None
        if detectors and bootstrap:
            first = detectors[0].evaluation
            difference = bootstrap_difference(objects, first, evaluation, bootstrap)
        detectors.append(Evaluated(name, evaluation, read_run_record(folder), difference))
    if plot is not None:
        write_plot(plot, *precision_recall_plots(detectors), columns=PANELS_IN_A_ROW)
    about = {"year": kit.year, "set": image_set, "images": len(objects.images)}
    output.show(voc_report(detectors, objects.truths, about))


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the last part of each path, or where two are alike the whole of it."""
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]
