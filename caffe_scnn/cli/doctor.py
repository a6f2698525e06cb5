"""``caffe-scnn doctor``: what this machine and this installation offer."""

from __future__ import annotations

from dataclasses import asdict

import click

from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FORMATS, Output
from caffe_scnn.cli.progress import progress
from caffe_scnn.environment import Environment, inspect_environment
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import significant

COLUMNS = (Column("what"), Column("found"))


CALIBRATED_COLUMNS = (
    Column("costs"),
    Column("mean", "chosen / best, mean", significant),
    Column("worst", "chosen / best, worst", significant),
)


@click.command(
    "doctor",
    epilog=examples(
        "caffe-scnn doctor", "caffe-scnn doctor --json", "caffe-scnn doctor --calibrate"
    ),
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Time kernels on this machine (a minute, on an otherwise idle one), fit the costs by "
    "which layers choose theirs, and keep them.",
)
@grouped("output", lambda as_json, as_markdown: Output(as_json, as_markdown), *FORMATS)
def command(calibrate: bool, output: Output) -> None:
    """Show instruction sets, kernels, OpenMP, BLAS libraries and versions.

    The environment variable CAFFE_SCNN_ISA (scalar, avx2, avx512, amx) caps the instruction set.
    """
    output.show(calibration_report() if calibrate else environment_report(inspect_environment()))


def calibration_report() -> Report:
    """Fit the costs of the instruction set in use, keep them, and tell how well they choose."""
    from caffe_scnn.engine.costs import costs_path
    from caffe_scnn.engine.fit_costs import DENSITIES, LAYERS, calibrate

    with progress(len(LAYERS) * len(DENSITIES), "timing kernels") as advance:
        found = calibrate(advance=advance)
    rows = [
        {"costs": name, "mean": regrets.mean(), "worst": regrets.max()}
        for name, regrets in (("before", found.before_regrets), ("fitted", found.fitted_regrets))
    ]
    said = (
        f"the fitted costs of {found.isa} are kept in {costs_path()}"
        if found.better
        else f"the costs of {found.isa} stay as they are: fitted ones would not choose better"
    )
    data = {
        "isa": found.isa,
        "kept": found.better,
        "before": asdict(found.before),
        "fitted": asdict(found.fitted),
        "chosen_over_best": rows,
    }
    return Report(data, (Table(CALIBRATED_COLUMNS, rows), said))


def environment_report(found: Environment) -> Report:
    """Make the report."""
    blas = [
        f"{library['internal_api']} {library['version']}, {library['num_threads']} threads"
        for library in found.blas
    ]
    rows = {
        "caffe_scnn": found.version,
        "Python": found.python,
        "instruction sets": " ".join(found.isas),
        "in use": found.isa,
        **{f"kernels, {isa}": _list(operations) for isa, operations in found.kernels.items()},
        "OpenMP": "yes" if found.openmp else "no: one thread only",
        "processors": f"{found.processors}",
        "BLAS": "; ".join(blas) or "none loaded",
        **found.packages,
    }
    table = Table(COLUMNS, [{"what": what, "found": text} for what, text in rows.items()])
    return Report(vars(found), (table,))


def _list(operations: dict[str, list[str]]) -> str:
    """Name the operations, with the number of tile sizes where there are several."""
    return ", ".join(
        f"{operation} ({len(kernels)} tiles)" if len(kernels) > 1 else operation
        for operation, kernels in operations.items()
    )
