"""A scan of a net's layers as a CSV that grows row by row, and as a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from caffe_scnn.decompose.sensitivity import Answer, Point
from caffe_scnn.errors import FormatError
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.report.plot import Plot, Series, write_plot

COLUMNS = (
    *("layer", "density", "macs", "response_error"),
    *("agreement", "divergence", "top1", "note"),
)
HEAD = "# caffe-scnn sensitivity "


class SensitivityFile:
    """Points in a CSV; what it holds already is read.

    Parameters
    ----------
    path : Path
    identity : str
        All that the points depend on, as a digest; it stands in the first line.

    Raises
    ------
    FormatError
        The file is another scan's, or none.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._identity = identity
        self.points: list[Point] = []
        if path.exists():
            self._read()

    def _read(self) -> None:
        lines = self._path.read_text(encoding="utf-8").splitlines()
        if not lines or lines[0] != HEAD + self._identity:
            raise FormatError(
                "this is not the scan of the same model, images and options; remove it or write "
                "elsewhere",
                str(self._path),
            )
        try:
            self.points = [_point(row) for row in csv.DictReader(lines[1:])]
        except (KeyError, ValueError, TypeError) as error:
            raise FormatError(f"a row of the scan is damaged: {error}", str(self._path)) from error

    def add(self, point: Point) -> None:
        """Add a row; the file appears whole or stays as it was."""
        self.points.append(point)
        text = io.StringIO()
        text.write(f"{HEAD}{self._identity}\n")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row_of(point) for point in self.points)
        with atomic_write(self._path) as file:
            file.write(text.getvalue().encode())


def row_of(point: Point) -> dict[str, Any]:
    """Return a point as one flat row; None where something is not known."""
    answer = point.answer
    values = asdict(point) | (asdict(answer) if answer else {})
    return {name: values.get(name) for name in COLUMNS}


def _point(row: dict[str, str]) -> Point:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    agreement, divergence = number("agreement"), number("divergence")
    answer = None
    if agreement is not None and divergence is not None:
        answer = Answer(agreement, divergence, number("top1"))
    return Point(
        row["layer"],
        float(row["density"]),
        number("macs"),
        number("response_error"),
        answer,
        row["note"],
    )


def write_sensitivity_plot(path: Path, points: Sequence[Point], title: str) -> None:
    """Draw the points: what the answers lose over how small a layer is, a line a layer."""
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for point in points:
        if point.answer is not None:
            answer = point.answer
            lines.setdefault(point.layer, []).append(
                (point.density, answer.divergence, answer.agreement)
            )
    moved, same = [], []
    for layer, found in lines.items():
        densities, divergences, agreements = zip(*sorted(found), strict=True)
        moved.append(Series(layer, densities, divergences, "both"))
        same.append(Series(layer, densities, agreements, "both"))
    write_plot(
        path,
        Plot(moved, "density of the layer", "divergence of the answers", title, log_y=True),
        Plot(same, "density of the layer", "same first class [%]", title),
        columns=2,
    )
