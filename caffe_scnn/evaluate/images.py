"""The images that a path stands for: pictures in a folder or a list, arrays, a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.arrays import ONLY, read_arrays
from caffe_scnn.evaluate.database import Database, is_database
from caffe_scnn.evaluate.labels import read_labelled_arrays, read_list
from caffe_scnn.preprocess.transformer import SUFFIXES

Images = list[Path] | NDArray[Any] | Database
Labels = NDArray[np.int64] | None


def read_images(path: Path, root: Path | None = None) -> tuple[Images, Labels]:
    """Find out what ``path`` is; pictures and databases are not read yet.

    Parameters
    ----------
    path : Path
        A folder of pictures (unlabelled, all below it); a list of ``name label`` lines; an npz
        with ``x``, pixels (N, C, H, W), and perhaps ``y``, classes, or an npy; a folder with an
        LMDB or LevelDB of Datum messages.
    root : Path, optional
        Where the names of a list start; the list's own folder by default.

    Returns
    -------
    images : list of Path, ndarray or Database
    labels : int64 ndarray of shape (N,) or None

    Raises
    ------
    FormatError
        It is none of these, or empty.
    OSError
        It cannot be read.
    """
    if is_database(path):
        database = Database(path)
        return database, database.labels
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise FormatError(
                f"neither pictures ({', '.join(SUFFIXES)}) nor a database in this folder", str(path)
            )
        return found, None
    if path.suffix.lower() in (".npz", ".npy"):
        return _arrays(path)
    listed = read_list(path, root or path.parent)
    labels = np.array([picture.label for picture in listed], np.int64)
    return [picture.path for picture in listed], labels


def _arrays(path: Path) -> tuple[NDArray[Any], Labels]:
    arrays = read_arrays(path)
    if {"x", "y"} <= arrays.keys():
        x, y = read_labelled_arrays(path)
        _check_finite(x, path)
        return x, y
    only = arrays.get("x", arrays.get(ONLY))
    if only is None or only.dtype.kind not in "biuf" or not len(only):
        raise FormatError(
            "images are an npy, or an npz with x and perhaps y, their classes: numbers of shape "
            "(N, C, H, W)",
            str(path),
        )
    _check_finite(only, path)
    return only, None


def _check_finite(images: NDArray[Any], path: Path) -> None:
    """Refuse values that are not finite: nothing can be fitted to them."""
    for number, image in enumerate(images, start=1):
        if not np.isfinite(image).all():
            raise FormatError(
                f"image {number} of {len(images)} holds values that are not finite", str(path)
            )
