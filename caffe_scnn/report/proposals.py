"""Table and plot of how well windows cover the objects of an image set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caffe_scnn.detect.proposals import Coverage
from caffe_scnn.report.numbers import count
from caffe_scnn.report.plot import Plot, Series
from caffe_scnn.report.report import Report
from caffe_scnn.report.table import Column, Table


def proposals_report(
    coverage: Coverage,
    classes: Sequence[str],
    thresholds: Sequence[float],
    about: Mapping[str, Any],
) -> Report:
    """Make the report of a list of windows.

    Parameters
    ----------
    coverage : Coverage
    classes : sequence of str
        Those without objects are left out of the table.
    thresholds : sequence of float
        Overlaps at which the recall is told.
    about : mapping
        What JSON says besides.
    """
    columns = (
        Column("class"),
        Column("objects", show=count),
        *(Column(f"recall {t:g}", f"at {t:g} [%]", _hundredths) for t in thresholds),
        Column("mean_best_overlap", "mean best overlap [%]", _hundredths),
    )
    by_class = [(name, coverage.of_class(name)) for name in classes]
    rows = [_row(name, own, thresholds) for name, own in by_class if len(own.best)]
    total = _row("all", coverage, thresholds)
    per_image = coverage.windows / coverage.images
    data = {
        **about,
        "images": coverage.images,
        "windows": coverage.windows,
        "recall": {f"{t:g}": coverage.recall(t) for t in thresholds},
        "mean_best_overlap": coverage.mean_best_overlap,
        "classes": rows,
    }
    words = f"{count(coverage.windows)} windows in {count(coverage.images)} images: "
    title = "Recall: objects that a window overlaps by at least so much"
    return Report(data, (Table(columns, rows, total, title), f"{words}{per_image:.0f} per image."))


def recall_plot(coverage: Coverage) -> Plot:
    """Draw the recall over the overlap from 0.5 to 1."""
    overlaps = np.linspace(0.5, 1, 101)
    recalls = [coverage.recall(overlap) for overlap in overlaps]
    return Plot([Series("recall", overlaps, recalls)], "overlap", "recall", y_limits=(0, 1))


def _row(name: str, coverage: Coverage, thresholds: Sequence[float]) -> dict[str, Any]:
    recalls = {f"recall {t:g}": coverage.recall(t) for t in thresholds}
    row = {"class": name, "objects": len(coverage.best), **recalls}
    return row | {"mean_best_overlap": coverage.mean_best_overlap}


def _hundredths(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
