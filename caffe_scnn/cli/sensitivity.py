"""``caffe-scnn sensitivity``: what a model loses when one layer alone gets smaller."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from caffe_scnn import __version__
from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.calibrating import Pictures, Sighted, calibrating_options
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.method_options import method_options, parameter_names
from caffe_scnn.cli.models import FILE, Models, takes_models
from caffe_scnn.cli.opening import Opening, opening_options, threads_option
from caffe_scnn.cli.preprocessing import Preprocessing, preprocessing_options
from caffe_scnn.cli.progress import progress
from caffe_scnn.decompose import METHODS, Decomposition, method_type
from caffe_scnn.decompose.sensitivity import Answer, Scan
from caffe_scnn.model.net import Net
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import percent, significant
from caffe_scnn.report.sensitivity import SensitivityFile, row_of, write_sensitivity_plot

CSV, PLOT = "sensitivity.csv", "sensitivity.svg"
COLUMNS = (
    Column("layer"),
    Column("density", show=percent),
    Column("macs", "MACs of the net", percent),
    Column("response_error", "response error", significant),
    Column("agreement", "same class [%]", significant),
    Column("divergence", "divergence", significant),
)
TOP1 = Column("top1", "top-1 [%]", significant)


def _densities(_: click.Context, __: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f'"{text}" is no list of numbers, as in 0.25,0.5') from None
    if not all(0 < value < 1 for value in values):
        raise click.BadParameter(f"densities lie between 0 and 1: {text}")
    return values


def _method(method: str, **parameters: Any) -> Decomposition:
    kind = method_type(method)
    given = {name: value for name, value in parameters.items() if value is not None}
    for name in given:
        if name not in parameter_names(kind):
            raise click.UsageError(f"--{name} is no parameter of the method {kind.name}")
    return kind(**given)


scanned_method = grouped(
    "method",
    _method,
    click.option(
        "--method",
        type=click.Choice([method.name for method in METHODS if method.name != "auto"]),
        default="channels",
        show_default=True,
        help="How a layer is made smaller.",
    ),
    *method_options(),
)


@click.command(
    "sensitivity",
    epilog=examples(
        "caffe-scnn sensitivity deploy.prototxt weights.caffemodel -o scan \\",
        "    --images pictures/ --mean 104,117,123 --crop 227 --densities 0.25,0.5,0.75",
    ),
)
@takes_models(weights=True)
@click.option(
    "-o",
    "--output",
    "out",
    type=FILE,
    metavar="DIR",
    required=True,
    help=f"Folder for {CSV} and {PLOT}; an interrupted scan goes on from what is there.",
)
@scanned_method
@click.option(
    "--densities",
    default="0.25,0.5,0.75",
    show_default=True,
    metavar="A,B,C",
    callback=_densities,
    help="Sizes of a layer: channels kept, or non-zeros over weights.",
)
@click.option("--layers", multiple=True, metavar="GLOB", help="Only these layers; may be repeated.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of every random choice.")
@calibrating_options
@preprocessing_options
@threads_option
@opening_options
def command(
    models: Models,
    out: Path,
    method: Decomposition,
    densities: tuple[float, ...],
    layers: tuple[str, ...],
    seed: int,
    pictures: Pictures | None,
    preprocessing: Preprocessing,
    threads: int | None,
    opening: Opening,
) -> None:
    """Scan the layers of a model: each one alone is made smaller, and the model is run.

    Every point is a model that was really compressed, layers that are coupled together, and
    compared with the original on images that it was not calibrated on (a fifth of those given).
    """
    if pictures is None:
        raise click.UsageError("a scan needs --images, --list or --input to compare answers on")

    def action(model: ModelFiles) -> Report:
        net = opening.load(model)
        transformer = preprocessing.transformer(model, net)
        sighted = Sighted(net, pictures, transformer, seed, threads, checked=True)
        scan = Scan(net, method, densities, layers or None, seed, sighted.calibration)
        place = models.place(out, model)
        return scanned(scan, sighted, place, model.name)

    models.deliver(action)


def scanned(scan: Scan, sighted: Sighted, place: Path, name: str) -> Report:
    """Scan, or go on with a scan, and report all points."""
    places = [(layer, density) for layer in scan.targets() for density in scan.densities]
    place.mkdir(parents=True, exist_ok=True)
    file = SensitivityFile(place / CSV, _identity(scan, sighted))
    known = {(point.layer, point.density) for point in file.points}
    there = len(known.intersection(places))
    if there:
        click.echo(f"going on: {there} of {len(places)} points are in {place / CSV}", err=True)
    with progress(len(places), name) as advance:
        advance(there)
        for point in scan.points(lambda made: _answer(sighted, made), known):
            file.add(point)
            advance(1)
    write_sensitivity_plot(place / PLOT, file.points, f"{name}: {scan.method.name}")
    rows = [row_of(point) for point in file.points]
    labelled = any(row["top1"] is not None for row in rows)
    table = Table((*COLUMNS, TOP1) if labelled else COLUMNS, rows)
    notes = [f"{p.layer} at {p.density:g}: {p.note}" for p in file.points if p.note]
    said = [*notes, f"wrote {place / CSV} and {place / PLOT}"]
    data = {"method": scan.method.name, "points": rows, "csv": place / CSV, "plot": place / PLOT}
    return Report(data, (table, "\n".join(said)))


def _answer(sighted: Sighted, made: Net) -> Answer:
    judgement = sighted.judgements(made)[-1]
    return Answer(
        judgement.agreement.same_top1,
        judgement.agreement.divergence,
        None if judgement.top1 is None else judgement.top1[1],
    )


def _identity(scan: Scan, sighted: Sighted) -> str:
    """Return a digest of what the points depend on."""
    digest = sha256(scan.net.text().encode())
    for blob in (blob for layer in scan.net for blob in layer.blobs):
        digest.update(blob.tobytes())
    parts = (__version__, str(scan.method), str(scan.seed), sighted.identity())
    digest.update("\n".join(parts).encode())
    return digest.hexdigest()
