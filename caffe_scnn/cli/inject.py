"""``caffe-scnn inject``: arrays as the blobs of a caffemodel."""

from __future__ import annotations

from pathlib import Path

import click

from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FILE, FORMATS, Output
from caffe_scnn.evaluate.arrays import read_arrays
from caffe_scnn.model.caffemodel import write_caffemodel
from caffe_scnn.report import Report
from caffe_scnn.weights import inject_weights


@click.command(
    "inject",
    epilog=examples(
        "caffe-scnn inject weights.npz deploy.prototxt -o new.caffemodel",
        "caffe-scnn inject conv1.npz deploy.prototxt old.caffemodel -o new.caffemodel",
    ),
)
@click.argument("arrays", type=FILE, metavar="ARRAYS.npz")
@click.argument("prototxt", type=FILE)
@click.argument("caffemodel", type=FILE, required=False)
@click.option(
    "-o",
    "--output",
    "out",
    type=FILE,
    metavar="OUT.caffemodel",
    required=True,
    help="File to write; an existing one is replaced as a whole.",
)
@grouped("form", lambda as_json, as_markdown: Output(as_json, as_markdown), *FORMATS)
def command(arrays: Path, prototxt: Path, caffemodel: Path | None, out: Path, form: Output) -> None:
    """Write a caffemodel for PROTOTXT with blobs from ARRAYS.npz, named LAYER/0, LAYER/1, ...

    The arrays give every blob, or only some: then CAFFEMODEL gives the others.
    """
    given = read_arrays(arrays)
    net = inject_weights(prototxt, given, caffemodel)
    write_caffemodel(net, out)
    text = f"{len(given)} blobs from {arrays}, wrote {out}"
    form.show(Report({"blobs": list(given), "output": out}, (text,)))
