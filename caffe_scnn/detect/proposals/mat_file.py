"""Selective-search windows in MATLAB files, as R-CNN, SPP-net and Fast R-CNN hand them out.

Data sets: ``images``, a cell of image ids, and ``boxes``, a cell of one (k, 4) matrix an image with
rows ``y1 x1 y2 x2``, counted from 1. Fast R-CNN's demo pictures: one matrix ``boxes`` with rows
``x1 y1 x2 y2``, counted from 0, for the picture that the file is named after.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.detect.mat import MatFile
from caffe_scnn.errors import FormatError

_DEMO_NAME = "_boxes"


def read_mat_proposals(path: Path) -> dict[str, Boxes]:
    """Read the windows of many images, or of one.

    Parameters
    ----------
    path : Path
        MATLAB's version 5 to 7 (SciPy), or 7.3, which is HDF5 (h5py).

    Returns
    -------
    dict
        Image id → boxes of shape (n, 4), ``x1 y1 x2 y2`` counted from 1.

    Raises
    ------
    FormatError
        Not a MATLAB file, no variable ``boxes``, or not as above.
    """
    with MatFile(path) as file:
        boxes = file.read("boxes")
        if isinstance(boxes, np.ndarray):
            return {path.stem.removesuffix(_DEMO_NAME): _rows(boxes, "boxes", path) + 1}
        if not isinstance(boxes, list):
            raise FormatError('"boxes" is neither a matrix nor a cell', str(path))
        images = file.read("images")
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise FormatError('"images" is no cell of image ids', str(path))
    if len(images) != len(boxes):
        raise FormatError(f"{len(images)} images, but windows of {len(boxes)}", str(path))
    found: dict[str, Boxes] = {}
    for index, (image, rows) in enumerate(zip(images, boxes, strict=True), start=1):
        name = Path(image).stem
        if name in found:
            raise FormatError(f'image "{name}" is there twice', str(path))
        found[name] = _rows(rows, f"boxes{{{index}}}", path)[:, [1, 0, 3, 2]]
    return found


def _rows(value: Any, name: str, path: Path) -> Boxes:
    matrix: NDArray[Any] = np.asarray(value)
    if matrix.size == 0:
        return np.zeros((0, 4), np.float32)
    if matrix.ndim != 2 or matrix.shape[1] != 4 or matrix.dtype.kind not in "iuf":
        raise FormatError(
            f"{name} is {matrix.dtype} of shape {matrix.shape}; windows are numbers of shape "
            "(n, 4)",
            str(path),
        )
    return matrix.astype(np.float32)
