"""``caffe-scnn diff``: what differs between the weights of two models."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FILE, FORMATS, Output
from caffe_scnn.model.caffemodel import read_caffemodel
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import count, shape, significant
from caffe_scnn.weights import WeightDifference, diff_weights
from caffe_scnn.weights.difference import SAME

COLUMNS = (
    Column("layer"),
    Column("blob", show=str),
    Column("status"),
    Column("shape", "shape in A", shape),
    Column("other_shape", "in B", shape),
    Column("difference", "max |a - b|", significant),
    Column("magnitude", "max |a|", significant),
    Column("changed_values", "values changed", count),
)


@click.command(
    "diff",
    epilog=examples("caffe-scnn diff old.caffemodel new.caffemodel --tolerance 1e-6"),
)
@click.argument("first", type=FILE, metavar="A.caffemodel")
@click.argument("second", type=FILE, metavar="B.caffemodel")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Largest difference that is no change, as a part of the blob's largest value in A.",
)
@grouped("form", lambda as_json, as_markdown: Output(as_json, as_markdown), *FORMATS)
def command(first: Path, second: Path, tolerance: float, form: Output) -> None:
    """Compare the weights of two caffemodels by layer name; exit code 1 when something differs.

    Needs no prototxt. "caffe-scnn compare" compares what two models compute.
    """
    found = diff_weights(read_caffemodel(first), read_caffemodel(second), tolerance)
    report = difference_report(found)
    form.show(report)
    click.get_current_context().exit(0 if report.passed else 1)


def difference_report(found: WeightDifference) -> Report:
    """Make the report: every blob that differs, and how many do not."""
    rows = [asdict(blob) for blob in found.blobs]
    differing = [row for row in rows if row["status"] != SAME]
    tally = Counter(row["status"] for row in rows)
    verdict = ", ".join(f"{n} {status}" for status, n in tally.items()) or "no blobs"
    data = {
        "same": found.same,
        "layers_added": found.added,
        "layers_removed": found.removed,
        "blobs": rows,
    }
    tables = (Table(COLUMNS, differing),) if differing else ()
    return Report(data, (*tables, f"{len(rows)} blobs: {verdict}"), passed=found.same)
