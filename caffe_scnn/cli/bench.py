"""``caffe-scnn bench``: times, layer by layer and whole."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.inputs import Source, source_options
from caffe_scnn.cli.models import FILE, Models, takes_models
from caffe_scnn.cli.opening import (
    Opening,
    bf16x3_option,
    codegen_option,
    exact_option,
    opening_options,
    threads_option,
    tune_option,
)
from caffe_scnn.evaluate.benchmark import Benchmark, benchmark, fill_randomly
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import count, counted, milliseconds, significant

COLUMNS = (
    Column("name"),
    Column("ms", "median [ms]", milliseconds),
    Column("min_ms", "min [ms]", milliseconds),
    Column("macs", "MACs", count),
    Column("nonzero_macs", "non-zero MACs", count),
    Column("gflops", "effective GFLOP/s", significant),
    Column("kernel"),
    Column("why"),
)


@click.command(
    "bench",
    epilog=examples(
        "caffe-scnn bench sparse/deploy.prototxt sparse/weights.caffemodel \\",
        "    --against deploy.prototxt weights.caffemodel --threads 1",
        "caffe-scnn bench deploy.prototxt weights.caffemodel --tune",
        "caffe-scnn bench sparse/deploy.prototxt sparse/weights.caffemodel --codegen",
    ),
)
@takes_models(weights=False)
@click.option(
    "--against",
    type=(FILE, FILE),
    metavar="PROTOTXT CAFFEMODEL",
    help="Another model, measured in turns with this one.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Timed passes; two more warm up.",
)
@source_options(explicit=False)
@threads_option
@tune_option
@codegen_option
@exact_option
@bf16x3_option
@opening_options
def command(
    models: Models,
    against: tuple[Path, Path] | None,
    repeat: int,
    source: Source,
    threads: int | None,
    tune: bool,
    codegen: bool,
    exact: bool,
    bf16x3: bool,
    opening: Opening,
) -> None:
    """Measure how fast a model runs.

    Effective GFLOP/s count every weight, zeros included. The total is measured on whole passes,
    in turns with the other model; ratio is how many times faster than it.
    """

    def action(model: ModelFiles) -> Report:
        net = opening.load(model)
        if model.caffemodel is None:
            fill_randomly(net, source.seed)
            click.echo("no caffemodel: measured with dense random weights", err=True)
        other = opening.load(ModelFiles.of(*against)) if against else None
        inputs = source.inputs(net)
        return benchmark_report(
            benchmark(
                net,
                inputs,
                other,
                threads=threads,
                repeat=repeat,
                tune=tune,
                exact=exact,
                bf16x3=bf16x3,
                codegen=codegen,
            )
        )

    models.deliver(action)


def benchmark_report(measured: Benchmark) -> Report:
    """Make the report: a row for every layer, the whole net, the other net."""
    rows = [{**asdict(layer), "gflops": layer.gflops} for layer in measured.layers]
    total: dict[str, Any] = {
        "name": "total",
        "ms": measured.total.median_ms,
        "min_ms": measured.total.min_ms,
        "macs": measured.macs,
        "nonzero_macs": sum(layer.nonzero_macs for layer in measured.layers),
        "gflops": measured.gflops,
    }
    against = measured.against
    data = {
        "layers": rows,
        "total_ms": measured.total.median_ms,
        "total_min_ms": measured.total.min_ms,
        "gflops": measured.gflops,
        "threads": measured.threads,
        "activation_bytes": measured.activation_bytes,
        "weight_bytes": measured.weight_bytes,
        "against_ms": against.median_ms if against else None,
        "ratio": measured.ratio,
    }
    said = [
        f"{counted(measured.threads, 'thread')}, {len(measured.total.times_ms)} passes; memory: "
        f"{measured.activation_bytes / 1e6:.2f} MB of activations, "
        f"{measured.weight_bytes / 1e6:.2f} MB of packed weights"
    ]
    if against:
        said.append(
            f"{measured.ratio:.2f}x as fast as the other model, measured in turns: "
            f"{measured.total.median_ms:.3f} ms against {against.median_ms:.3f} ms (medians)"
        )
    return Report(data, (Table(COLUMNS, rows, total), "\n".join(said)))
