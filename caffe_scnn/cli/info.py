"""``caffe-scnn info``: what a model consists of."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from caffe_scnn.batch import USER_ERRORS, ModelFiles, explain
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.models import Models, takes_models
from caffe_scnn.cli.opening import Opening, opening_options, threads_option
from caffe_scnn.engine import Executor
from caffe_scnn.evaluate.arrays import input_shapes
from caffe_scnn.evaluate.benchmark import fill_randomly
from caffe_scnn.layers.binding import attach
from caffe_scnn.layers.shapes import not_understood
from caffe_scnn.layers.summary import LayerSummary, NetSummary, summarize, summarize_known
from caffe_scnn.model.caffemodel import LayerCount, count_caffemodel, read_caffemodel
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import FILE_NAME, Preprocess, Transformer
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import count, counted, names, percent, shape, shapes

NET_COLUMNS = (
    Column("name"),
    Column("type"),
    Column("bottoms", show=names, left=True),
    Column("tops", show=names, left=True),
    Column("shape", show=shape),
    Column("macs", "MACs", count),
    Column("params", show=count),
    Column("nonzeros", "non-zeros", count),
    Column("density", show=percent),
)
TOTALS = ("macs", "nonzero_macs", "params", "nonzeros", "density")
OF_WEIGHTS = ("nonzero_macs", "nonzeros", "density")
STORED_COLUMNS = (
    Column("name"),
    Column("type"),
    Column("blobs", show=shapes, left=True),
    Column("params", show=count),
    Column("nonzeros", "non-zeros", count),
    Column("density", show=percent),
)


PLAN_COLUMNS = (
    Column("name", "layers"),
    Column("kernel"),
    Column("threads", show=count),
    Column("nonzero_macs", "non-zero MACs", count),
    Column("weight_bytes", "weight bytes", count),
    Column("why"),
)


@click.command(
    "info",
    epilog=examples(
        "caffe-scnn info deploy.prototxt weights.caffemodel",
        "caffe-scnn info weights.caffemodel",
        "caffe-scnn info deploy.prototxt weights.caffemodel --plan",
        "caffe-scnn info --models 'zoo/*' --keep-going --json",
    ),
)
@takes_models(weights=False)
@click.option(
    "--plan",
    "show_plan",
    is_flag=True,
    help="Show what the engine would run instead: the kernel of each layer, and why that one.",
)
@threads_option
@opening_options
def command(models: Models, show_plan: bool, threads: int | None, opening: Opening) -> None:
    """Show the layers of a model: shapes, multiply-accumulates, parameters, density.

    PROTOTXT alone gives shapes, MACs and parameter counts; a CAFFEMODEL alone gives what is
    stored in it. With a preprocess.toml beside the model, what is subtracted from pictures is
    told too. MACs count every weight; density is non-zeros over parameters.
    """
    if show_plan:
        models.deliver(lambda model: plan_report(model, opening, threads))
    else:
        models.deliver(lambda model: describe(model, opening))


def plan_report(model: ModelFiles, opening: Opening, threads: int | None) -> Report:
    """Tell what the engine would run for a model; without weights, for dense ones."""
    net = opening.load(model)
    if model.caffemodel is None:
        fill_randomly(net, 0)
    executor = Executor(net, threads=threads)
    plan = executor.plan()
    rows = [
        {
            "name": ", ".join(step.layers),
            "kernel": step.kernel,
            "threads": step.threads,
            "nonzero_macs": step.nonzero_macs,
            "weight_bytes": step.weight_bytes,
            "why": step.why,
        }
        for step in plan.steps
    ]
    said = (
        f"{executor.isa}, {counted(plan.threads, 'thread')}; memory: "
        f"{plan.activation_bytes / 1e6:.2f} MB of activations, "
        f"{plan.weight_bytes / 1e6:.2f} MB of packed weights"
    )
    data = {
        "steps": rows,
        "isa": executor.isa,
        "threads": plan.threads,
        "activation_bytes": plan.activation_bytes,
        "weight_bytes": plan.weight_bytes,
    }
    return Report(data, (Table(PLAN_COLUMNS, rows), said))


def describe(model: ModelFiles, opening: Opening) -> Report:
    """Describe a net, or a caffemodel that is given in the prototxt's place."""
    if model.prototxt is not None and model.caffemodel is None and is_binary(model.prototxt):
        return stored_report(count_caffemodel(model.prototxt))
    net = opening.layers(model)
    if not_understood(net):
        return part_report(net, model.caffemodel)
    opening.complete(model, net)
    report = net_report(summarize(net), weights=model.caffemodel is not None)
    return _with_preprocessing(report, model, net)


def part_report(net: Net, caffemodel: Path | None) -> Report:
    """Make the report of a net of which some layers are not understood: their rows have gaps."""
    if caffemodel is not None:
        attach(net, read_caffemodel(caffemodel))
    found, weights = summarize_known(net), caffemodel is not None
    gaps: dict[str, Any] = dict.fromkeys(column.key for column in NET_COLUMNS)
    rows = [
        _row(found.rows[layer], weights)
        if layer in found.rows
        else {
            **gaps,
            "name": layer.name,
            "type": layer.type,
            "bottoms": list(layer.bottoms),
            "tops": list(layer.tops),
        }
        for layer in net
    ]
    total = _row(found.total, weights)
    report = _report(NET_COLUMNS, rows, {key: total[key] for key in TOTALS})
    reasons = {layer.name: reason for layer, reason in found.reasons.items()}
    said = [f"not understood: {reason}" for reason in reasons.values()]
    said.append("The total counts the layers that have a shape here.")
    data = {**report.data, "not_understood": reasons}
    return Report(data, (*report.parts, "\n".join(said)))


def _with_preprocessing(report: Report, model: ModelFiles, net: Net) -> Report:
    """Add what becomes of pictures, when a preprocess.toml beside the model says it."""
    if not (model.folder / FILE_NAME).exists():
        return report
    images = {name: shape for name, shape in input_shapes(net).items() if len(shape or ()) == 4}
    if len(images) != 1:  # classify and evaluate would not know which one is meant
        return report
    name, shape = images.popitem()
    try:
        settings = Preprocess.beside(model.folder)
        said = Transformer(settings, name, shape or ()).describe()
    except USER_ERRORS as error:  # the layers are worth showing all the same
        said = f"cannot be used: {explain(error)}"
    data = {**report.data, "preprocessing": said}
    return Report(data, (*report.parts, f"preprocessing ({FILE_NAME}): {said}"))


def is_binary(path: Path) -> bool:
    """Tell a caffemodel from a prototxt by a control byte near the start, whatever its name.

    What can be read only once, such as a pipe, is taken for a prototxt.
    """
    if path.exists() and not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4096)
    return any(byte < 32 and byte not in b"\t\n\r\f\v" for byte in start)


def net_report(summary: NetSummary, *, weights: bool) -> Report:
    """Make the report of a net; without weights there is nothing to call zero."""
    *rows, total = (_row(layer, weights) for layer in (*summary.layers, summary.total))
    return _report(NET_COLUMNS, rows, {key: total[key] for key in TOTALS})


def _row(layer: LayerSummary, weights: bool) -> dict[str, Any]:
    of_weights = {"density": layer.density if layer.params else None}
    return asdict(layer) | (of_weights if weights else dict.fromkeys(OF_WEIGHTS))


def stored_report(layers: list[LayerCount]) -> Report:
    """Make the report of a caffemodel."""
    rows = []
    for layer in layers:
        params = sum(blob.values for blob in layer.blobs)
        nonzeros = sum(blob.nonzeros for blob in layer.blobs)
        rows.append(
            {
                "name": layer.name,
                "type": layer.type,
                "blobs": [blob.shape for blob in layer.blobs],
                **_sizes(params, nonzeros),
            }
        )
    total = _sizes(sum(r["params"] for r in rows), sum(r["nonzeros"] for r in rows))
    return _report(STORED_COLUMNS, rows, total)


def _sizes(params: int, nonzeros: int) -> dict[str, Any]:
    return {
        "params": params,
        "nonzeros": nonzeros,
        "density": nonzeros / params if params else None,
    }


def _report(
    columns: tuple[Column, ...], rows: list[dict[str, Any]], total: dict[str, Any]
) -> Report:
    table = Table(columns, rows, {**total, "name": "total"})
    return Report(data={"layers": rows, "total": total}, parts=(table,))
