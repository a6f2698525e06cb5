"""Window files of Caffe's WindowData layer (``window_data_layer.cpp``).

A block an image: ``# <index>``, the picture's path, its channels, height and width, the number of
windows, and for each ``<class> <overlap> <x1> <y1> <x2> <y2>`` in pixels from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.labels import read_lines

_WINDOW = "class overlap x1 y1 x2 y2"


def read_window_file(path: Path) -> dict[str, Boxes]:
    """Read the windows of a window file; classes and overlaps are left out.

    Returns
    -------
    dict
        Name of the picture without folder and suffix → boxes of shape (n, 4), from 1.

    Raises
    ------
    FormatError
        Not laid out as above, with the line; or two blocks of one picture.
    """
    lines = ((n, line.strip()) for n, line in enumerate(read_lines(path), 1) if line.strip())
    found: dict[str, Boxes] = {}
    for number, line in lines:
        if not line.startswith("#"):
            raise FormatError(f'a block begins with "# <index>", not "{line}"', str(path), number)
        at, picture = _next(lines, path, number, "the picture's path")
        for what in ("channels", "height", "width"):
            at, _ = _count(lines, path, at, what)
        at, count = _count(lines, path, at, "the number of windows")
        name = Path(picture).stem
        if name in found:
            raise FormatError(f'a second block of picture "{name}"', str(path), number)
        found[name] = _windows(lines, path, at, count)
    return found


def _next(lines: Iterator[tuple[int, str]], path: Path, before: int, what: str) -> tuple[int, str]:
    try:
        return next(lines)
    except StopIteration:
        raise FormatError(f"the file ends before {what}", str(path), before) from None


def _count(lines: Iterator[tuple[int, str]], path: Path, before: int, what: str) -> tuple[int, int]:
    number, line = _next(lines, path, before, what)
    if not (line.isascii() and line.isdigit()):
        raise FormatError(f'{what} should stand here, not "{line}"', str(path), number)
    return number, int(line)


def _windows(lines: Iterator[tuple[int, str]], path: Path, before: int, count: int) -> Boxes:
    rows = []
    for index in range(count):
        before, line = _next(lines, path, before, f"window {index + 1} of {count}")
        try:
            row = [float(field) for field in line.split()]
        except ValueError:
            row = []
        if len(row) != 6 or not np.isfinite(row).all():
            raise FormatError(f'a window is {_WINDOW}, not "{line}"', str(path), before)
        rows.append(row[2:])
    return np.array(rows, np.float32).reshape(-1, 4) + 1
