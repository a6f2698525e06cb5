"""The course of a training as rows of numbers, kept in a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from caffe_scnn.model.atomic import atomic_write

FILE_NAME = "log.csv"
Row = dict[str, float]


class Log:
    """Rows that may have different columns.

    Attributes
    ----------
    rows : list of dict
        One for each evaluation: the step, means since the row before, results of the evaluation.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Remember the numbers of a step."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def close_row(self, values: Mapping[str, float]) -> Row:
        """End a row with these values and the means of what was added."""
        means = {name: total / max(1, self._count) for name, total in self._sums.items()}
        self.rows.append({**values, **means})
        self._sums, self._count = {}, 0
        return self.rows[-1]

    def columns(self) -> list[str]:
        """Return all names, in the order in which they appear first."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def write(self, path: Path) -> None:
        """Write the file; a number that a row lacks is left empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns(), restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: f"{value:.8g}" for name, value in row.items()})
        with atomic_write(path) as file:
            file.write(text.getvalue().encode())

    def state(self) -> dict[str, object]:
        """Return what a checkpoint must hold."""
        return {"rows": self.rows, "sums": self._sums, "count": self._count}

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from :meth:`state`."""
        self.rows, self._sums, self._count = state["rows"], state["sums"], state["count"]  # type: ignore[assignment]
