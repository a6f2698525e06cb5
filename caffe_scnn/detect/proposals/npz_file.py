"""Windows in an npz: an array (n, 4) an image, under the image's id, ``x1 y1 x2 y2`` from 1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.arrays import read_arrays, write_arrays


def read_npz_proposals(path: Path) -> dict[str, Boxes]:
    """Read windows.

    Raises
    ------
    FormatError
        Not an npz, or an array that is not (n, 4) finite numbers.
    """
    found = {}
    for image, boxes in read_arrays(path).items():
        numbers = boxes.dtype.kind in "iuf"
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not numbers or not np.isfinite(boxes).all():
            raise FormatError(
                f'the windows of "{image}" are {boxes.dtype} of shape {boxes.shape}; they must be '
                "finite numbers of shape (n, 4)",
                str(path),
            )
        found[image] = boxes.astype(np.float32)
    return found


def write_npz_proposals(path: Path, proposals: Mapping[str, Boxes]) -> None:
    """Write windows, whole or not at all.

    Raises
    ------
    OutputError
        The place cannot be written.
    """
    write_arrays(path, {image: np.asarray(boxes) for image, boxes in proposals.items()})
