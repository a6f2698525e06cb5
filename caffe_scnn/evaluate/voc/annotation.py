"""Annotations of PASCAL VOC: the objects in a picture, their classes and boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.voc.elements import Element, read_elements

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TRUE, _FALSE = ("1", "true", "yes"), ("", "0", "false", "no", "unspecified")


@dataclass(frozen=True)
class Object:
    """One object of a picture.

    Attributes
    ----------
    name : str
        The class, as the file writes it.
    box : (float, float, float, float)
        ``xmin ymin xmax ymax``: first and last pixel, both inside, counted from 1.
    difficult : bool
        Neither a hit nor a miss counts.
    truncated : bool
        Part of the object lies outside the box.
    pose : str
        Empty where the file says nothing.
    line : int
        Where the object begins in the file.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool = False
    truncated: bool = False
    pose: str = ""
    line: int = 0


@dataclass(frozen=True)
class Annotation:
    """What is in a picture.

    Attributes
    ----------
    image : str
        The picture's id: the name of the file without ``.xml``. The field ``filename`` inside is
        wrong in many sets made at home, and not used.
    width, height : int
        The picture's size in pixels; 0 where the file does not tell.
    objects : tuple of Object
        In the order of the file; may be empty.
    """

    image: str
    width: int
    height: int
    objects: tuple[Object, ...]


def read_annotation(path: Path) -> Annotation:
    """Read ``Annotations/<id>.xml`` of VOC 2007 to 2012, and of sets made at home in its likeness.

    Only direct children of an object are its own: parts (a person's head, hand, foot) have names
    and boxes too. The order of fields is free, coordinates may be fractions, unknown fields are
    passed over; ``difficult``, ``truncated``, ``pose`` and ``size`` may be missing.

    Raises
    ------
    FormatError
        Not an annotation, an object without a name or a box, a coordinate that is no number, or a
        box whose ends are the wrong way round; with file and line.
    OSError
        The file cannot be read.
    """
    root = read_elements(path)
    if root.tag != "annotation":
        raise FormatError(
            f"the outermost element is <{root.tag}>, not <annotation>", str(path), root.line
        )
    size = root.child("size")
    return Annotation(
        path.stem,
        _length(size, "width", path),
        _length(size, "height", path),
        tuple(_object(element, path) for element in root.all("object")),
    )


def _object(element: Element, path: Path) -> Object:
    name, box = element.child("name"), element.child("bndbox")
    if name is None or not name.text:
        raise FormatError("an object without a <name>", str(path), element.line)
    if box is None:
        raise FormatError(f'the object "{name.text}" has no <bndbox>', str(path), element.line)
    pose = element.child("pose")
    return Object(
        name.text,
        _box(box, path),
        _flag(element, "difficult", path),
        _flag(element, "truncated", path),
        pose.text if pose else "",
        element.line,
    )


def _box(element: Element, path: Path) -> tuple[float, float, float, float]:
    corners = []
    for tag in _CORNERS:
        corner = element.child(tag)
        if corner is None:
            raise FormatError(f"a <bndbox> without <{tag}>", str(path), element.line)
        corners.append(_number(corner, path))
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        raise FormatError(
            f"a <bndbox> from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}): xmin and ymin come first; "
            "correct the box, or remove the object",
            str(path),
            element.line,
        )
    return x1, y1, x2, y2


def _number(element: Element, path: Path) -> float:
    try:
        value = float(element.text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(
            f'<{element.tag}> is "{element.text}", no number', str(path), element.line
        )
    return value


def _flag(element: Element, tag: str, path: Path) -> bool:
    flag = element.child(tag)
    text = flag.text.lower() if flag else ""
    if flag and text not in _TRUE + _FALSE:
        raise FormatError(f'<{tag}> is "{flag.text}", neither 0 nor 1', str(path), flag.line)
    return text in _TRUE


def _length(size: Element | None, tag: str, path: Path) -> int:
    length = size.child(tag) if size else None
    return round(_number(length, path)) if length and length.text else 0
