"""The answer of a command: data for programs, tables and sentences for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe_scnn.report.table import Table


@dataclass(frozen=True)
class Report:
    """What was found.

    Parameters
    ----------
    data : mapping
        What ``json`` prints; numbers stay numbers.
    parts : sequence of Table or str
        What a person reads, in order.
    passed : bool
        False when a check failed (the command then exits with 1).
    """

    data: Mapping[str, Any]
    parts: Sequence[Table | str]
    passed: bool = True

    def text(self) -> str:
        """Return tables and sentences for a terminal."""
        return "\n\n".join(p.text() if isinstance(p, Table) else p for p in self.parts)

    def markdown(self) -> str:
        """Return tables and sentences as markdown."""
        return "\n\n".join(p.markdown() if isinstance(p, Table) else p for p in self.parts)

    def json(self) -> str:
        """Return the data as JSON text."""
        return json.dumps(plain(self.data), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Turn a value into what JSON has: NumPy numbers and arrays, paths and tuples included.

    JSON has no NaN and no infinity: they become null.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
