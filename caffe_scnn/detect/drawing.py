"""Pictures with boxes drawn on them, and sheets of many pictures."""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.detect.picture import Picture
from caffe_scnn.errors import OutputError
from caffe_scnn.model.atomic import atomic_write

Colour = tuple[int, int, int]

_PAPER: Colour = (245, 245, 245)
_INK: Colour = (40, 40, 40)
_TRUTH: Colour = (255, 255, 255)
# The golden section spreads any number of hues well; neighbours in the list differ most.
_HUE_STEP = (math.sqrt(5) - 1) / 2


def class_colour(index: int) -> Colour:
    """Return the colour (blue, green, red) of a class, the same in every picture."""
    hue = index * _HUE_STEP % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95 if index % 2 else 0.75)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_detections(
    picture: Picture,
    classes: Sequence[str],
    labels: NDArray[np.integer[Any]],
    scores: NDArray[np.floating[Any]],
    boxes: Boxes,
    objects: Boxes | None = None,
) -> Picture:
    """Draw boxes with class and score on a copy of a picture; the best lies on top.

    Parameters
    ----------
    picture : ndarray of shape (H, W, 3), uint8
    classes : sequence of str
    labels : ndarray of shape (n,)
        Index of each detection's class.
    scores : ndarray of shape (n,)
    boxes : ndarray of shape (n, 4)
        ``x1 y1 x2 y2``: first and last pixel, both inside, counted from 1.
    objects : ndarray of shape (m, 4), optional
        Boxes of the objects that are there, drawn thin and white.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    drawn = np.ascontiguousarray(picture).copy()
    thickness = max(1, round(min(picture.shape[:2]) / 200))
    for box in np.zeros((0, 4)) if objects is None else objects:
        _rectangle(drawn, box, _INK, thickness + 1)
        _rectangle(drawn, box, _TRUTH, thickness)
    for index in np.argsort(scores, kind="stable"):
        colour = class_colour(int(labels[index]))
        _rectangle(drawn, boxes[index], colour, 2 * thickness)
        text = f"{classes[int(labels[index])]} {scores[index]:.2f}"
        _tag(drawn, text, boxes[index], colour)
    return drawn


def contact_sheets(
    pictures: Iterable[tuple[str, Picture]],
    columns: int = 5,
    rows: int = 6,
    cell: tuple[int, int] = (400, 300),
) -> Iterator[Picture]:
    """Lay pictures out on sheets, row by row, each above its caption.

    Parameters
    ----------
    pictures : iterable of (caption, picture)
        Only those of one sheet are in memory at a time.
    columns, rows : int
        Of a full sheet; a sheet that is not full has only the rows it needs.
    cell : (int, int)
        Width and height in pixels that a picture is shrunk into, with its shape kept.

    Yields
    ------
    ndarray of shape (h, w, 3), uint8
    """
    source = iter(pictures)
    while page := list(itertools.islice(source, columns * rows)):
        yield _sheet(page, min(columns, len(page)), cell)


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture in the format of the file's suffix, whole or not at all.

    Raises
    ------
    OutputError
        OpenCV writes no such format, or the place cannot be written.
    """
    import cv2

    if not path.suffix or not cv2.haveImageWriter(path.suffix):
        raise OutputError(f"{path}: pictures are written as .png or .jpg; change its name")
    done, content = cv2.imencode(path.suffix, picture)
    if not done:
        raise OutputError(f"{path}: OpenCV could not encode the picture")
    with atomic_write(path) as file:
        file.write(content.tobytes())


def _rectangle(picture: Picture, box: NDArray[Any], colour: Colour, thickness: int) -> None:
    import cv2

    x1, y1, x2, y2 = (round(float(corner)) - 1 for corner in box)
    cv2.rectangle(picture, (x1, y1), (x2, y2), colour, thickness)


def _tag(picture: Picture, text: str, box: NDArray[Any], colour: Colour) -> None:
    """Write a text on a filled ground above a box, or inside it where the picture ends."""
    import cv2

    text = _plain(text)
    scale = max(0.35, min(picture.shape[:2]) / 900)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    height += below
    x1, y1 = (round(float(corner)) - 1 for corner in box[:2])
    x = max(0, min(x1, picture.shape[1] - width))
    y = max(0, y1 - height if y1 >= height else min(y1, picture.shape[0] - height))
    cv2.rectangle(picture, (x, y), (x + width - 1, y + height - 1), colour, cv2.FILLED)
    blue, green, red = colour
    bright = 0.114 * blue + 0.587 * green + 0.299 * red > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    at = (x, y + height - below)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)


def _sheet(page: Sequence[tuple[str, Picture]], columns: int, cell: tuple[int, int]) -> Picture:
    import cv2

    margin, caption = 8, 20
    width, height = cell[0] + margin, cell[1] + caption + margin
    rows = math.ceil(len(page) / columns)
    sheet = np.full((rows * height + margin, columns * width + margin, 3), _PAPER, np.uint8)
    for index, (text, picture) in enumerate(page):
        row, column = divmod(index, columns)
        left, top = margin + column * width, margin + row * height
        small = _fitted(picture, cell)
        x = left + (cell[0] - small.shape[1]) // 2
        y = top + (cell[1] - small.shape[0]) // 2
        sheet[y : y + small.shape[0], x : x + small.shape[1]] = small
        at = (left, top + cell[1] + caption - 6)
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(sheet, _short(text, cell[0]), at, font, 0.42, _INK, 1, cv2.LINE_AA)
    return sheet


def _fitted(picture: Picture, cell: tuple[int, int]) -> Picture:
    import cv2

    height, width = picture.shape[:2]
    factor = min(cell[0] / width, cell[1] / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8)


def _short(text: str, width: int) -> str:
    """Cut a caption at the width of its cell."""
    import cv2

    text = _plain(text)
    while text and cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0] > width:
        text = text[:-1]
    return text


def _plain(text: str) -> str:
    """OpenCV's fonts have the characters of ASCII only."""
    return text.encode("ascii", "replace").decode()
