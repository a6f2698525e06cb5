"""``caffe-scnn doctor``: what this machine and this installation offer."""

from __future__ import annotations

import click

from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FORMATS, Output
from caffe_scnn.environment import Environment, inspect_environment
from caffe_scnn.report import Column, Report, Table

COLUMNS = (Column("what"), Column("found"))


@click.command("doctor", epilog=examples("caffe-scnn doctor", "caffe-scnn doctor --json"))
@grouped("output", lambda as_json, as_markdown: Output(as_json, as_markdown), *FORMATS)
def command(output: Output) -> None:
    """Show instruction sets, kernels, OpenMP, BLAS libraries and versions.

    The environment variable CAFFE_SCNN_ISA (scalar, avx2, avx512) caps the instruction set.
    """
    output.show(environment_report(inspect_environment()))


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
