"""The mean that is subtracted: values, a Caffe binaryproto or a NumPy array, in every shape met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError
from caffe_scnn.model.blob import read_binaryproto

Mean = tuple[float, ...] | Path
NUMPY_MAGIC = b"\x93NUMPY"
COLOURS = (1, 3)


def parse_mean(text: str) -> Mean:
    """Read what stands behind ``--mean``: ``104,117,123``, one value, or a file's name."""
    try:
        return tuple(float(value) for value in text.split(","))
    except ValueError:
        return Path(text)


def read_mean(path: Path) -> NDArray[np.float32]:
    """Read a mean file.

    Parameters
    ----------
    path : Path
        A ``.npy`` array or Caffe's binaryproto (a BlobProto), told apart by content.

    Returns
    -------
    ndarray of shape (C,) or (C, H, W)
        Channels in the order of the file, which must be the net's.

    Raises
    ------
    FormatError
        Not such a file, or not the shape of a mean: (C,), (C, 1, 1), (C, H, W), (H, W, C) or
        (H, W), each with or without a leading axis of 1.
    """
    with path.open("rb") as file:
        is_numpy = file.read(len(NUMPY_MAGIC)) == NUMPY_MAGIC
    values = _read_numpy(path) if is_numpy else read_binaryproto(path).array
    if not np.isfinite(values).all():
        raise FormatError("the mean holds NaN or infinite values", str(path))
    return _as_channels(values, path)


def _read_numpy(path: Path) -> NDArray[np.float32]:
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
    except (ValueError, TypeError, EOFError) as error:
        raise FormatError(f"not a readable NumPy array of numbers: {error}", str(path)) from error


def _as_channels(values: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """Bring a mean to (C,) or (C, H, W)."""
    found = values.shape
    if values.ndim == 4 and found[0] == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[0] if found[0] == 1 and found[1] in COLOURS else values[None]
    if values.ndim == 3 and values.shape[0] not in COLOURS and values.shape[2] in COLOURS:
        values = values.transpose(2, 0, 1)
    if values.ndim == 3 and values.shape[1:] == (1, 1):
        values = values[:, 0, 0]
    if values.ndim == 0:
        values = values[None]
    if values.ndim not in (1, 3) or values.shape[0] not in COLOURS:
        raise FormatError(
            f"a mean of shape {found}; it must be one value per channel (C), or a picture "
            "(C, H, W), (H, W, C) or (H, W), with C = 1 or 3",
            str(path),
        )
    return np.ascontiguousarray(values)
