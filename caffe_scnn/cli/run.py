"""``caffe-scnn run``: a forward pass on given or random arrays."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.inputs import Source, source_options
from caffe_scnn.cli.models import FILE, Models, takes_models
from caffe_scnn.cli.opening import (
    Opening,
    bf16x3_option,
    exact_option,
    opening_options,
    threads_option,
)
from caffe_scnn.engine import Executor
from caffe_scnn.evaluate.arrays import Values, write_arrays
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import shape, significant

COLUMNS = (
    Column("blob"),
    Column("shape", show=shape),
    Column("min", show=significant),
    Column("mean", show=significant),
    Column("max", show=significant),
)


@click.command(
    "run",
    epilog=examples(
        "caffe-scnn run deploy.prototxt weights.caffemodel --input in.npz -o out.npz",
        "caffe-scnn run deploy.prototxt weights.caffemodel --random-input --blobs conv1,prob",
    ),
)
@takes_models(weights=False)
@source_options(explicit=True)
@click.option(
    "-o",
    "--output",
    "out",
    type=FILE,
    metavar="OUT.npz",
    help="Write the blobs; with --models a folder of npz files.",
)
@click.option("--blobs", metavar="A,B", help="Blobs to return [the net's outputs].")
@threads_option
@exact_option
@bf16x3_option
@opening_options
def command(
    models: Models,
    source: Source,
    out: Path | None,
    blobs: str | None,
    threads: int | None,
    exact: bool,
    bf16x3: bool,
    opening: Opening,
) -> None:
    """Run a model and write its output blobs (or the blobs you name) into an npz.

    The keys of the npz are the names of the blobs. A blob that is changed in place has its last
    value. Any batch size will do.
    """
    wanted = blobs.split(",") if blobs else None

    def action(model: ModelFiles) -> Report:
        net = opening.load(model)
        if model.caffemodel is None and any(layer.blobs and not layer.weights for layer in net):
            click.echo("warning: no caffemodel: weights are constant fillers", err=True)
        inputs = source.inputs(net)
        executor = Executor(net, threads=threads, exact=exact, bf16x3=bf16x3)
        results = executor.run(inputs, blobs=wanted)
        place = models.place(out, model, ".npz") if out else None
        if place:
            if models.one is None:
                place.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(place, results)
        return blobs_report(results, place)

    models.deliver(action)


def blobs_report(blobs: dict[str, Values], place: Path | None) -> Report:
    """Make the report: the range of every blob, and where they were written."""
    rows = [
        {
            "blob": name,
            "shape": values.shape,
            "min": float(values.min(initial=np.inf)),
            "mean": float(values.mean(dtype=np.float64)) if values.size else None,
            "max": float(values.max(initial=-np.inf)),
        }
        for name, values in blobs.items()
    ]
    written = (f"wrote {place}",) if place else ()
    return Report({"blobs": rows, "output": place}, (Table(COLUMNS, rows), *written))
