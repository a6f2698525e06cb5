"""A table as data, and its three faces: text for a terminal, markdown, records for JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

NOT_KNOWN = "-"


@dataclass(frozen=True)
class Column:
    """One column.

    Parameters
    ----------
    key : str
        The key of its values in a row, and in JSON.
    title : str, optional
        The heading, with the unit; the key when empty.
    show : callable, optional
        Value → text. Columns with one are flush right: they hold numbers.
    left : bool
        Flush left in spite of ``show``.
    """

    key: str
    title: str = ""
    show: Callable[[Any], str] | None = None
    left: bool = False

    @property
    def heading(self) -> str:
        """What stands above the column."""
        return self.title or self.key

    @property
    def flush_right(self) -> bool:
        """Whether the values line up at their right edge."""
        return self.show is not None and not self.left

    def cell(self, row: Row) -> str:
        """Text of this column in one row; a missing value is a dash."""
        value = row.get(self.key)
        if value is None:
            return NOT_KNOWN
        return self.show(value) if self.show else str(value)


@dataclass(frozen=True)
class Table:
    """Rows under columns, with an optional row of totals.

    Parameters
    ----------
    columns : sequence of Column
    rows : sequence of mapping
        Column key → raw value; a value that is missing or None is shown as a dash.
    total : mapping, optional
        The last row, set apart by a rule.
    title : str
        A line above the table.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    total: Row | None = None
    title: str = ""

    def text(self) -> str:
        """Return aligned lines, one a row however long: a terminal may wrap, nothing is lost."""
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [self._aligned(line, widths) for line in cells]
        rule = "-" * max(map(len, lines))
        lines.insert(1, rule)
        if self.total is not None:
            lines.insert(len(lines) - 1, rule)
        return "\n".join([*self._heading(), *lines])

    def markdown(self) -> str:
        """Return the table as GitHub-flavoured markdown."""
        headings, *rows = self._cells()
        rules = ["---:" if column.flush_right else "---" for column in self.columns]
        if self.total is not None:
            rows[-1] = [f"**{cell}**" if cell else "" for cell in rows[-1]]
        body = [
            "| " + " | ".join(map(_escape_pipes, line)) + " |" for line in (headings, rules, *rows)
        ]
        return "\n".join([*(f"{line}\n" for line in self._heading()), *body])

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries of raw values, every column present."""
        return [{column.key: row.get(column.key) for column in self.columns} for row in self.rows]

    def _cells(self) -> list[list[str]]:
        """Text of every cell: the headings, the rows, the total."""
        lines = [[column.heading for column in self.columns]]
        lines += [[column.cell(row) for column in self.columns] for row in self.rows]
        if self.total is not None:
            total = self.total
            lines.append([c.cell(total) if c.key in total else "" for c in self.columns])
        return lines

    def _aligned(self, line: Sequence[str], widths: Sequence[int]) -> str:
        cells = [
            cell.rjust(width) if column.flush_right else cell.ljust(width)
            for column, cell, width in zip(self.columns, line, widths, strict=True)
        ]
        return "  ".join(cells).rstrip()

    def _heading(self) -> list[str]:
        return [self.title] if self.title else []


def _escape_pipes(cell: str) -> str:
    return cell.replace("|", "\\|")
