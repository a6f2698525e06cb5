"""Tables and precision–recall plots of VOC evaluations, one detector or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from caffe_scnn.evaluate.voc.bootstrap import Difference
from caffe_scnn.evaluate.voc.evaluation import ClassResult, Evaluation
from caffe_scnn.evaluate.voc.match import Truths
from caffe_scnn.evaluate.voc.run_record import PARTS, RunRecord
from caffe_scnn.report.numbers import count
from caffe_scnn.report.plot import Plot, Series
from caffe_scnn.report.report import Report
from caffe_scnn.report.table import Column, Table

PANELS_IN_A_ROW = 4


@dataclass(frozen=True)
class Evaluated:
    """One detector's results.

    Parameters
    ----------
    name : str
        What its columns, rows and curves are called.
    evaluation : Evaluation
    record : RunRecord, optional
        How it made them.
    difference : Difference, optional
        To the first detector.
    """

    name: str
    evaluation: Evaluation
    record: RunRecord | None = None
    difference: Difference | None = None


def voc_report(
    detectors: Sequence[Evaluated], truths: Mapping[str, Truths], about: Mapping[str, Any]
) -> Report:
    """Make the report of one detector or several.

    Parameters
    ----------
    detectors : sequence of Evaluated
        All by the same measure.
    truths : mapping
        Class → objects.
    about : mapping
        What JSON says besides: the image set, the year.

    Returns
    -------
    Report
        JSON: ``mean`` and ``ap`` (class → fraction) of a single detector at the top, of several in
        the list ``results``.
    """
    measure = detectors[0].evaluation.measure
    data = {**about, **asdict(measure)}
    if len(detectors) == 1:
        data |= _data(detectors[0], truths)
        parts = [_class_table(detectors[0].evaluation, truths)]
    else:
        data["results"] = [{"name": one.name, **_data(one, truths)} for one in detectors]
        parts = [_side_by_side(detectors, truths)]
    if len(detectors) > 1 or detectors[0].record:
        parts.append(_summary(detectors))
    unknown = [result.name for result in detectors[0].evaluation.classes if result.ap is None]
    notes = [f"Not in the set, nor in the mean: {', '.join(unknown)}."] if unknown else []
    rules = f"{measure.metric}, rules of {measure.rules}, overlap {measure.overlap:g}."
    return Report(data, (*parts, *notes, f"Metric {rules}"))


def precision_recall_plots(detectors: Sequence[Evaluated]) -> list[Plot]:
    """Draw one panel a class, one curve a detector; classes without objects are left out."""
    plots = []
    for results in zip(*(one.evaluation.classes for one in detectors), strict=True):
        if results[0].ap is None:
            continue
        labels = [
            f"{one.name} {_fraction(r.ap)}" for one, r in zip(detectors, results, strict=True)
        ]
        title = results[0].name + (f": {_fraction(results[0].ap)}" if len(detectors) == 1 else "")
        curves = [_curve(label, result) for label, result in zip(labels, results, strict=True)]
        plots.append(
            Plot(curves, "recall", "precision", title, x_limits=(0, 1), y_limits=(0, 1.02))
        )
    return plots


def _curve(label: str, result: ClassResult) -> Series:
    assert result.curve is not None
    # Between two hits the precision only falls: the points at hits tell everything.
    at = np.flatnonzero(np.diff(result.curve.hits, prepend=0))
    return Series(label, result.curve.recall[at], result.curve.precision[at])


def _fraction(ap: float | None) -> str:
    return "-" if ap is None else f"{100 * ap:.1f} %"


def _data(one: Evaluated, truths: Mapping[str, Truths]) -> dict[str, Any]:
    return {
        "mean": one.evaluation.mean,
        "ap": one.evaluation.ap,
        "classes": [_class_row(result, truths[result.name]) for result in one.evaluation.classes],
        "run": None if one.record is None else asdict(one.record),
        "difference": None if one.difference is None else asdict(one.difference),
    }


def _class_row(result: ClassResult, truths: Truths) -> dict[str, Any]:
    return {
        "class": result.name,
        "objects": truths.positives,
        "difficult": int(truths.difficult.sum()),
        "detections": len(result.matches.scores),
        "hits": int(result.matches.hits.sum()),
        "recall": _reached(result),
        "ap": result.ap,
    }


def _reached(result: ClassResult) -> float | None:
    """Return the share of the objects that is found; None without objects."""
    if result.ap is None or result.curve is None:
        return None
    return float(result.curve.recall[-1]) if len(result.curve.recall) else 0.0


def _hundredths(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


_COUNTS = (
    Column("class"),
    Column("objects", show=count),
    Column("difficult", show=count),
)


def _class_table(evaluation: Evaluation, truths: Mapping[str, Truths]) -> Table:
    columns = (
        *_COUNTS,
        Column("detections", show=count),
        Column("recall", "recall [%]", _hundredths),
        Column("ap", "AP [%]", _hundredths),
    )
    rows = [_class_row(result, truths[result.name]) for result in evaluation.classes]
    total = {key: sum(row[key] for row in rows) for key in ("objects", "difficult", "detections")}
    return Table(columns, rows, {"class": "mean", **total, "ap": evaluation.mean})


def _side_by_side(detectors: Sequence[Evaluated], truths: Mapping[str, Truths]) -> Table:
    columns = [Column(f"ap {one.name}", one.name, _hundredths) for one in detectors]
    rows: list[dict[str, Any]] = []
    for results in zip(*(one.evaluation.classes for one in detectors), strict=True):
        row = _class_row(results[0], truths[results[0].name])
        for column, result in zip(columns, results, strict=True):
            row[column.key] = result.ap
        rows.append(row)
    means = {c.key: one.evaluation.mean for c, one in zip(columns, detectors, strict=True)}
    total = {key: sum(row[key] for row in rows) for key in ("objects", "difficult")}
    return Table(
        (*_COUNTS, *columns), rows, {"class": "mean", **total, **means}, "Average precision [%]"
    )


_SUMMARY = (
    Column("name", "results"),
    Column("mean", "mAP [%]", _hundredths),
    Column("difference", "to the first [points]", "{:+.2f}".format),
    Column("interval", "95 % interval", str),
    Column("windows", "windows", "{:.0f}".format),
    Column("kept", "after stage 1", "{:.0f}".format),
    Column("rejected", "rejected [%]", _hundredths),
    *(Column(part, f"{part} [ms]", "{:.1f}".format) for part in PARTS),
    Column("total", "total [ms]", "{:.1f}".format),
)


def _summary(detectors: Sequence[Evaluated]) -> Table:
    """One row a detector; windows and times are those of one image."""
    rows = [_summary_row(one) for one in detectors]
    columns = [c for c in _SUMMARY if any(row.get(c.key) is not None for row in rows)]
    recorded = any(one.record for one in detectors)
    return Table(columns, rows, title="Windows and times per image" if recorded else "")


def _summary_row(one: Evaluated) -> dict[str, Any]:
    row: dict[str, Any] = {"name": one.name, "mean": one.evaluation.mean}
    if one.difference is not None:
        ends = (100 * end for end in (one.difference.low, one.difference.high))
        row["difference"] = 100 * one.difference.mean
        row["interval"] = "{:+.2f} … {:+.2f}".format(*ends)
    if one.record is not None:
        row |= {"windows": one.record.windows, "kept": one.record.kept}
        row |= {"rejected": one.record.rejected, "total": one.record.total}
        row |= {part: one.record.milliseconds[part] for part in PARTS}
    return row
