"""``caffe-scnn merge``: a caffemodel onto another prototxt."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FILE, FORMATS, Output
from caffe_scnn.cli.writing import Destination, destination_options
from caffe_scnn.layers.binding import LOADED
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import shape
from caffe_scnn.save import save
from caffe_scnn.weights import Merge, merge_weights

COLUMNS = (
    Column("layer"),
    Column("blob", show=str),
    Column("status"),
    Column("wanted", "shape in the net", shape),
    Column("found", "in the file", shape),
)


@click.command(
    "merge",
    epilog=examples("caffe-scnn merge new.prototxt pretrained.caffemodel -o out"),
)
@click.argument("prototxt", type=FILE)
@click.argument("caffemodel", type=FILE)
@destination_options
@grouped("form", lambda as_json, as_markdown: Output(as_json, as_markdown), *FORMATS)
def command(prototxt: Path, caffemodel: Path, destination: Destination, form: Output) -> None:
    """Give PROTOTXT the weights of CAFFEMODEL wherever layer names and shapes agree.

    Writes DIR/deploy.prototxt and DIR/weights.caffemodel. Blobs that the file does not give hold
    their constant fillers (0 for random ones); then the exit code is 1.
    """
    merged = merge_weights(prototxt, caffemodel)
    with destination.folder(destination.out, ModelFiles.of(prototxt, caffemodel)) as folder:
        save(merged.net, folder)
    report = merge_report(merged, destination.out)
    form.show(report)
    click.get_current_context().exit(0 if report.passed else 1)


def merge_report(merged: Merge, place: Path) -> Report:
    """Make the report: every blob that did not meet, and how many did."""
    rows = [asdict(row) for row in merged.binding.rows]
    counts = merged.binding.counts()
    data = {"complete": merged.complete, "counts": counts, "blobs": rows, "output": place}
    apart = [row for row in rows if row["status"] != LOADED]
    tables = (Table(COLUMNS, apart),) if apart else ()
    verdict = ", ".join(f"{n} {status}" for status, n in counts.items())
    return Report(data, (*tables, f"blobs: {verdict}", f"wrote {place}"), passed=merged.complete)
