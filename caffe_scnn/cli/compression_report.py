"""The report of a compression: layer by layer, the whole net, its files, its time, its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from caffe_scnn.cli.calibrating import Judgement
from caffe_scnn.decompose import Compression, Goal, LayerReport, Plan
from caffe_scnn.decompose.costs import packed_bytes
from caffe_scnn.decompose.select import Target
from caffe_scnn.evaluate.benchmark import Comparison
from caffe_scnn.layers.summary import summarize
from caffe_scnn.model.net import Net
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import (
    count,
    counted,
    megabytes,
    milliseconds,
    names,
    percent,
    significant,
)
from caffe_scnn.save import CAFFEMODEL


def _whole(number: float) -> str:
    return count(round(number))


COLUMNS = (
    Column("layer"),
    Column("written", "written as", names, left=True),
    Column("macs_before", "MACs", count),
    Column("macs_after", "MACs after", count),
    Column("nonzeros_before", "non-zeros", count),
    Column("nonzeros_after", "non-zeros after", count),
    Column("density", show=percent),
    Column("weight_error", "weight error", significant),
)
RESPONSES = Column("response_error", "response error", significant)
TIMES = (
    Column("before_ms", "ms", milliseconds),
    Column("after_ms", "ms after", milliseconds),
)
UNITS = {"macs": "MACs", "time": "ms", "size": "bytes"}
SHOWN = {"macs": _whole, "time": milliseconds, "size": _whole}


@dataclass(frozen=True)
class Files:
    """Where the model was written, and the size of its caffemodel in bytes before and after."""

    folder: Path
    size_before: int
    size_after: int


def compression_report(
    net: Net,
    compression: Compression,
    time: Comparison | None,
    files: Files,
    judgements: Sequence[Judgement] = (),
) -> Report:
    """Make the report: before and after for every layer, the whole net, the files, the time.

    Parameters
    ----------
    net : Net
        The original.
    compression : Compression
    time : Comparison, optional
        Of both nets, where they were timed.
    files : Files
    judgements : sequence of Judgement
        What images say that no layer was fitted to.
    """
    before, after = summarize(net).total, summarize(compression.net).total
    total = _row(
        "whole net", before.nonzero_macs, after.nonzero_macs, before.nonzeros, after.nonzeros
    )
    layers = [{**report.as_dict(), **_times(report, time)} for report in compression.reports]
    rows = [_layer_row(report, time) for report in compression.reports]
    packed = {"before": packed_bytes(net), "after": packed_bytes(compression.net)}
    if time:
        total |= {"before_ms": time.before.median_ms, "after_ms": time.after.median_ms}
    data = {
        "layers": layers,
        "total": total,
        "time": _time(time),
        "held_back": asdict(judgements[0]) if judgements else None,
        "check": asdict(judgements[1]) if len(judgements) > 1 else None,
        "caffemodel_bytes": {"before": files.size_before, "after": files.size_after},
        "packed_bytes": packed,
        "output": files.folder,
    }
    looked = any(report.response_error is not None for report in compression.reports)
    columns = (*COLUMNS, *((RESPONSES,) if looked else ()), *(TIMES if time else ()))
    said = [
        *_sizes(files, packed),
        *([_speed(time)] if time else []),
        *(judgement.text() for judgement in judgements),
        f"wrote {files.folder}",
    ]
    return Report(data, (Table(columns, rows, total), "\n".join(said)))


def plan_report(plan: Plan) -> Report:
    """Make the report of what would be done."""
    show = SHOWN[plan.resource]
    columns = (
        Column("layer"),
        Column("method", left=True),
        Column("density", show=percent),
        Column("before", f"{UNITS[plan.resource]}", show),
        Column("after", f"{UNITS[plan.resource]} after", show),
        Column("loss", "expected loss", significant),
    )
    rows = [
        {
            "layer": choice.layer,
            "method": "as it is" if choice.goal is None else described(choice.goal),
            "density": None if choice.goal is None else choice.goal.density,
            "before": choice.before,
            "after": choice.after,
            "loss": choice.loss,
        }
        for choice in plan.choices
    ]
    total = {"layer": "whole net", "before": plan.whole, "after": plan.predicted}
    said = (
        "Loss: divergence of the net's answers that the layer alone is expected to cause "
        "(without images: its squared relative error).\nPredicted, not made: nothing was written."
    )
    data = {"layers": rows, "total": total, "resource": plan.resource, "recipe": plan.recipe.text()}
    return Report(data, (Table(columns, rows, total), said))


def selection_report(targets: Sequence[Target]) -> Report:
    """Make the report of a recipe that says by itself what becomes of every layer."""
    columns = (
        Column("layer"),
        Column("method", left=True),
        Column("density", show=percent),
        Column("error", show=significant),
        Column("weights", show=count),
    )
    rows = [
        {
            "layer": layer.name,
            "method": described(target.goal),
            "density": target.goal.density,
            "error": target.goal.error,
            "weights": target.size,
        }
        for target in targets
        for layer in target.layers
    ]
    return Report({"layers": rows}, (Table(columns, rows), "Nothing was written."))


def described(goal: Goal) -> str:
    """Return a method's name, with the parameters that are not its defaults."""
    method = goal.method
    changed = [
        f"{field.name}={getattr(method, field.name)}"
        for field in fields(method)  # type: ignore[arg-type]
        if getattr(method, field.name) != field.default
    ]
    return " ".join([method.name, *changed])


def _sizes(files: Files, packed: dict[str, int]) -> list[str]:
    return [
        "MACs on non-zero weights; density: non-zeros written over the layer's original weights; "
        "the whole net's non-zeros include biases.",
        f"{CAFFEMODEL}: {megabytes(files.size_after)}, before {megabytes(files.size_before)}. "
        "Caffe stores zeros like any number: a sparse model is not smaller on disk. Packed, with "
        f"one bit for a zero: {megabytes(packed['after'])}, before {megabytes(packed['before'])}.",
    ]


def _speed(time: Comparison) -> str:
    return (
        f"time of one forward pass, {counted(time.threads, 'thread')}, medians in turns: "
        f"{time.before.median_ms:.3f} ms before, {time.after.median_ms:.3f} ms after, "
        f"{time.ratio:.2f}x as fast"
    )


def _time(time: Comparison | None) -> dict[str, float] | None:
    if time is None:
        return None
    return {
        "before_ms": time.before.median_ms,
        "after_ms": time.after.median_ms,
        "ratio": time.ratio,
        "threads": time.threads,
    }


def _times(report: LayerReport, time: Comparison | None) -> dict[str, float]:
    if time is None:
        return {}
    before, after = time.of_layers(report.layer, report.written)
    return {"before_ms": before, "after_ms": after}


def _layer_row(report: LayerReport, time: Comparison | None) -> dict[str, Any]:
    before, after = report.before, report.after
    return {
        **_row(report.layer, before.macs, after.macs, before.nonzeros, after.nonzeros),
        "written": report.written,
        "density": report.density,
        "weight_error": report.weight_error,
        "response_error": report.response_error,
        **_times(report, time),
    }


def _row(
    name: str, macs: int, macs_after: int, nonzeros: int, nonzeros_after: int
) -> dict[str, Any]:
    return {
        "layer": name,
        "macs_before": macs,
        "macs_after": macs_after,
        "nonzeros_before": nonzeros,
        "nonzeros_after": nonzeros_after,
    }
