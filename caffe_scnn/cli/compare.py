"""``caffe-scnn compare``: whether a model computes what another one, or a stored result, says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.inputs import Source, source_options
from caffe_scnn.cli.models import FILE, FORMATS, MANY, Models, make_models
from caffe_scnn.cli.opening import Opening, opening_options, threads_option
from caffe_scnn.evaluate.compare import TOLERANCE, Comparison, compare_nets, compare_with_golden
from caffe_scnn.evaluate.golden import Golden
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import shape, significant

COLUMNS = (
    Column("blob"),
    Column("layer"),
    Column("shape", show=shape),
    Column("difference", "max |a - b|", significant),
    Column("magnitude", "max |b|", significant),
    Column("relative", show=significant),
    Column("agrees", show=lambda agrees: "yes" if agrees else "NO", left=True),
)


@dataclass(frozen=True)
class Sides:
    """What is compared: models, with another model, or with the npz given or beside each."""

    models: Models
    other: ModelFiles | None
    golden: Path | None

    def golden_of(self, model: ModelFiles) -> Path:
        """Return the npz a model is compared with."""
        return self.golden or (model.prototxt or Path()).with_suffix(".npz")


def _sides(files: tuple[Path, ...], **rest: Any) -> Sides:
    """Sort the files: A [a] GOLDEN.npz, A B or A a B b; nothing but ``--models`` means goldens."""
    if rest["models"] is not None or (len(files) in (2, 3) and files[-1].suffix == ".npz"):
        golden = files[-1] if files else None
        return Sides(make_models(files[:-1], weights=False, **rest), None, golden)
    if len(files) in (2, 4):
        half = len(files) // 2
        models = make_models(files[:half], weights=False, **rest)
        return Sides(models, ModelFiles.of(*files[half:]), None)
    raise click.UsageError(
        "give A.prototxt [A.caffemodel] GOLDEN.npz, or A.prototxt A.caffemodel B.prototxt "
        "B.caffemodel, or --models"
    )


@click.command(
    "compare",
    epilog=examples(
        "caffe-scnn compare small.prototxt small.caffemodel deploy.prototxt net.caffemodel",
        "caffe-scnn compare deploy.prototxt net.caffemodel golden.npz",
        "caffe-scnn compare --models 'golden/nets/*.prototxt' --keep-going",
    ),
)
@grouped(
    "sides",
    _sides,
    click.argument("files", type=FILE, nargs=-1, metavar="A.prototxt [A.caffemodel] B..."),
    *MANY,
    *FORMATS,
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=TOLERANCE,
    show_default=True,
    help="Largest difference allowed, as a part of the blob's largest value in B.",
)
@source_options(explicit=False)
@threads_option
@opening_options
def command(
    sides: Sides,
    tolerance: float,
    source: Source,
    threads: int | None,
    opening: Opening,
) -> None:
    """Compare a model blob by blob; exit code 1 when a blob differs too much.

    B is another model: both get the same input, random unless --input is given, and every blob
    whose name they share is compared. Or B is a golden npz: in/BLOB (or u8/BLOB, mean/BLOB,
    scale/BLOB) are fed, out/BLOB and first/BLOB are compared; phase, level and stages come from
    the .json beside it. With --models each model is compared with the npz of its name.
    """

    def action(model: ModelFiles) -> Report:
        if sides.other is not None:
            net, other = opening.load(model), opening.load(sides.other)
            inputs = source.inputs(net)
            return comparison_report(
                compare_nets(net, other, inputs, tolerance=tolerance, threads=threads)
            )
        golden = Golden.read(sides.golden_of(model))
        as_stored = opening.or_else(golden.phase, golden.level, golden.stages)
        net = as_stored.load(model)
        return comparison_report(
            compare_with_golden(net, golden, tolerance=tolerance, threads=threads)
        )

    sides.models.deliver(action)


def comparison_report(comparison: Comparison) -> Report:
    """Make the report: a row for every blob, and the first one that differs."""
    rows = [{**asdict(blob), "relative": blob.relative} for blob in comparison.blobs]
    first = comparison.first_divergence
    data = {
        "agrees": comparison.passed,
        "tolerance": comparison.tolerance,
        "first_divergence": first.blob if first else None,
        "blobs": rows,
    }
    verdict = f"all {len(rows)} blobs agree within {comparison.tolerance:g} of their largest value"
    if first:
        verdict = f'first divergence: blob "{first.blob}", written by layer "{first.layer}": '
        verdict += (
            f"shape {shape(first.shape)}, should be {shape(first.wanted_shape)}"
            if first.shape != first.wanted_shape
            else f"{first.relative:.3g} of its largest value, allowed {comparison.tolerance:g}"
        )
    return Report(data, (Table(COLUMNS, rows), verdict), passed=comparison.passed)
