"""Labelled images (a list ``name label``, or arrays) and names of classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.evaluate.arrays import read_arrays


@dataclass(frozen=True)
class LabelledPicture:
    """One line of a list: the picture's path, its class, and where the list says so."""

    path: Path
    label: int
    line: int


def read_list(path: Path, folder: Path) -> list[LabelledPicture]:
    """Read a list of pictures as Caffe's ImageData and ``convert_imageset`` do.

    Parameters
    ----------
    path : Path
        One picture a line: the name, a blank, the class as a number from 0. The *last* blank
        parts them, so names may hold blanks. Empty lines are skipped.
    folder : Path
        Where the names start.

    Raises
    ------
    FormatError
        A line without a class, or no line at all.
    """
    pictures = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        name, *rest = line.rsplit(maxsplit=1)
        label = rest[0] if rest else ""
        if not (label.isascii() and label.isdigit()):
            raise FormatError(
                f'each line is a picture, a blank and its class (0, 1, …), not "{line.strip()}"',
                str(path),
                number,
            )
        pictures.append(LabelledPicture(folder / name.strip(), int(label), number))
    if not pictures:
        raise FormatError("the list of pictures is empty", str(path))
    return pictures


def read_labelled_arrays(path: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read ``x`` (images) and ``y`` (their classes) from an npz.

    Returns
    -------
    x : ndarray of shape (images, ...)
    y : ndarray of shape (images,)

    Raises
    ------
    FormatError
        Another file, no such arrays, or other numbers of images and classes.
    """
    arrays = read_arrays(path)
    if not {"x", "y"} <= arrays.keys():
        found = ", ".join(filter(None, arrays)) or "one array without a name"
        raise FormatError(
            f"labelled images are an npz with x (images) and y (classes); it holds {found}",
            str(path),
        )
    x, y = arrays["x"], arrays["y"]
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "iu":
        raise FormatError(
            f"x must be numbers and y integers, not {x.dtype} and {y.dtype}", str(path)
        )
    if y.ndim != 1 or x.shape[:1] != y.shape or not y.size:
        raise FormatError(
            f"x must be (images, …) and y (images) with at least one image, not {x.shape} and "
            f"{y.shape}",
            str(path),
        )
    return x, y.astype(np.int64)


def read_class_names(path: Path) -> list[str]:
    """Read one class name a line, in the order of the net's outputs.

    Raises
    ------
    FormatError
        The file holds no line.
    """
    names = [line.strip() for line in read_lines(path)]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise FormatError("the file of class names is empty", str(path))
    return names


def read_lines(path: Path) -> list[str]:
    """Read a text file; one that is no text is refused with its name."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError("not a text file (UTF-8)", str(path)) from error


def check_labels(labels: NDArray[np.int64], classes: int) -> None:
    """Refuse labels that are no classes of a net.

    Raises
    ------
    ModelError
        A label is negative, or not below the number of classes.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise ModelError(
            f"image {wrong[0] + 1} of {len(labels)} has the label {labels[wrong[0]]}, but the net "
            f"has {classes} classes (0 … {classes - 1})"
        )
