"""``caffe-scnn extract``: the blobs of a caffemodel as arrays."""

from __future__ import annotations

from pathlib import Path

import click

from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FILE, FORMATS, Output
from caffe_scnn.evaluate.arrays import write_arrays
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import shape
from caffe_scnn.weights import extract_weights

COLUMNS = (Column("name"), Column("shape", show=shape))


@click.command(
    "extract",
    epilog=examples("caffe-scnn extract weights.caffemodel -o weights.npz"),
)
@click.argument("caffemodel", type=FILE)
@click.option(
    "-o", "--output", "out", type=FILE, metavar="OUT.npz", required=True, help="File to write."
)
@grouped("form", lambda as_json, as_markdown: Output(as_json, as_markdown), *FORMATS)
def command(caffemodel: Path, out: Path, form: Output) -> None:
    """Write all blobs of CAFFEMODEL into an npz: one array each, called LAYER/0, LAYER/1, ...

    No prototxt is needed. "caffe-scnn inject" is the way back.
    """
    arrays = extract_weights(caffemodel)
    write_arrays(out, arrays)
    rows = [{"name": name, "shape": array.shape} for name, array in arrays.items()]
    form.show(Report({"blobs": rows, "output": out}, (Table(COLUMNS, rows), f"wrote {out}")))
