"""Windows in CSV, one a line; the first line says which of two forms it is.

``image,x1,y1,x2,y2`` is VOC's: first and last pixel, counted from 1. The other one is pycaffe's
``detect.py``: ``filename,ymin,xmin,ymax,xmax``, whose crops are ``picture[ymin:ymax, xmin:xmax]``,
counted from 0 and without the last pixel.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.labels import read_lines
from caffe_scnn.model.atomic import atomic_write

_VOC = ["image", "x1", "y1", "x2", "y2"]
_PYCAFFE = ["filename", "ymin", "xmin", "ymax", "xmax"]


def read_csv_proposals(path: Path) -> dict[str, Boxes]:
    """Read windows.

    Returns
    -------
    dict
        Image (without folder and suffix) → boxes of shape (n, 4), ``x1 y1 x2 y2`` from 1.

    Raises
    ------
    FormatError
        Another first line, or a line that is no window, with its number.
    """
    rows = csv.reader(read_lines(path))
    header = [field.strip() for field in next(rows, [])]
    if header not in (_VOC, _PYCAFFE):
        raise FormatError(
            f"the first line must be {','.join(_VOC)} (pixels from 1, both ends inside) or "
            f"{','.join(_PYCAFFE)} (from 0, without the last)",
            str(path),
            1,
        )
    found: dict[str, list[list[float]]] = {}
    for fields in rows:
        if not fields:
            continue
        try:
            image, *rest = fields
            corners = [float(field) for field in rest]
        except ValueError:
            corners = []
        if len(corners) != 4 or not np.isfinite(corners).all():
            raise FormatError(
                f'a window is {",".join(header)}, not "{",".join(fields)}"',
                str(path),
                rows.line_num,
            )
        if header == _PYCAFFE:
            y1, x1, y2, x2 = corners
            corners = [x1 + 1, y1 + 1, x2, y2]
        found.setdefault(Path(image.strip()).stem, []).append(corners)
    return {image: np.array(corners, np.float32) for image, corners in found.items()}


def write_csv_proposals(path: Path, proposals: Mapping[str, Boxes]) -> None:
    """Write windows in VOC's form.

    Raises
    ------
    OutputError
        The place cannot be written.
    """
    with atomic_write(path) as file:
        file.write((",".join(_VOC) + "\n").encode())
        for image, boxes in proposals.items():
            for box in boxes:
                corners = ",".join(f"{corner:.9g}" for corner in box)
                file.write(f"{image},{corners}\n".encode())
