"""Result files of PASCAL VOC: ``<competition>_det_<set>_<class>.txt``, one a class.

A line is ``<image id> <score> <left> <top> <right> <bottom>``, pixels counted from 1, in any order.
Competition ``comp3`` trained on VOC alone, ``comp4`` on other data too (ImageNet); R-CNN and its
heirs add a salt to the name (``comp4-1234567``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.labels import read_lines
from caffe_scnn.evaluate.voc.classes import same_class
from caffe_scnn.model.atomic import atomic_write

_FIELDS = ("image", "score", "left", "top", "right", "bottom")


@dataclass(frozen=True)
class Detections:
    """What was found of one class in the images of a set.

    Attributes
    ----------
    images : sequence of str
        Ids, one a detection.
    scores : ndarray of shape (n,)
    boxes : ndarray of shape (n, 4)
        ``x1 y1 x2 y2``: first and last pixel, both inside, counted from 1.
    path : Path, optional
        The file they were read from.
    lines : sequence of int
        The line of each in that file.
    """

    images: Sequence[str]
    scores: NDArray[np.floating[Any]]
    boxes: NDArray[np.floating[Any]]
    path: Path | None = None
    lines: Sequence[int] = ()


def read_detections(path: Path) -> Detections:
    """Read one result file; it may be empty.

    Raises
    ------
    FormatError
        A line without six fields, or with a score or a coordinate that is no finite number.
    """
    images, numbers, lines = [], [], []
    for line, text in enumerate(read_lines(path), start=1):
        fields = text.split()
        if not fields:
            continue
        try:
            image, *rest = fields
            values = [float(value) for value in rest]
        except ValueError as error:
            raise FormatError(
                f'score and box are numbers, not "{text.strip()}"', str(path), line
            ) from error
        if len(values) != len(_FIELDS) - 1:
            raise FormatError(
                f"{len(fields)} fields; a line is: {' '.join(_FIELDS)}", str(path), line
            )
        images.append(image)
        numbers.append(values)
        lines.append(line)
    table = np.array(numbers, np.float64).reshape(-1, 5)
    wrong = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if wrong.size:
        raise FormatError("score and box must be finite numbers", str(path), lines[wrong[0]])
    return Detections(images, table[:, 0], table[:, 1:], path, lines)


def results_name(competition: str, image_set: str, name: str) -> str:
    """Return the name of a class's result file."""
    return f"{competition}_det_{image_set}_{name}.txt"


def read_results(
    folder: Path,
    image_set: str,
    classes: Sequence[str],
    year: int,
    competition: str | None = None,
) -> dict[str, Detections]:
    """Read the result files of all classes.

    Parameters
    ----------
    folder : Path
        The folder of the files, or one above it: ``results``, ``VOCdevkit``.
    image_set : str
    classes : sequence of str
    year : int
        Of ``results/VOC<year>/Main``.
    competition : str, optional
        Needed where there are results of several.

    Returns
    -------
    dict
        Class → detections, in the order of ``classes``.

    Raises
    ------
    FormatError
        No results, results of several competitions, or no file of a class.
    """
    found = _result_files(folder, image_set, year)
    if competition is None:
        if len(found) != 1:
            raise FormatError(
                f"results of {', '.join(sorted(found))}; choose one with --competition"
                if found
                else f"no results here: *_det_{image_set}_<class>.txt, one file a class"
                + _sets_found(folder, year),
                str(folder),
            )
        competition = next(iter(found))
    files = found.get(competition, {})
    missing = [name for name in classes if same_class(name) not in files]
    if missing:
        first = results_name(competition, image_set, missing[0])
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FormatError(
            f"no results of {missing[0]}{others} ({first}): a class that was not found anywhere "
            "has an empty file; choose the classes with --classes",
            str(folder),
        )
    return {name: read_detections(files[same_class(name)]) for name in classes}


def write_results(
    folder: Path,
    image_set: str,
    results: Mapping[str, Detections],
    competition: str = "comp4",
) -> None:
    """Write a result file a class, also for one without detections: the devkit wants it.

    Nine digits: float32 values come back as they were, and no ties appear by rounding.

    Parameters
    ----------
    folder : Path
        An existing folder.
    results : mapping
        Class → detections.

    Raises
    ------
    OutputError
        The place cannot be written.
    """
    for name, found in results.items():
        with atomic_write(folder / results_name(competition, image_set, name)) as file:
            for image, score, box in zip(found.images, found.scores, found.boxes, strict=True):
                numbers = " ".join(f"{value:.9g}" for value in (score, *box))
                file.write(f"{image} {numbers}\n".encode())


def _places(folder: Path, year: int) -> list[Path]:
    below = Path(f"VOC{year}", "Main")
    return [folder, folder / "Main", folder / below, folder / "results" / below]


def _result_files(folder: Path, image_set: str, year: int) -> dict[str, dict[str, Path]]:
    """Return competition → class → file, of the first place that holds results of the set."""
    pattern = re.compile(rf"(.+)_det_{re.escape(image_set)}_(.+)\.txt")
    for place in _places(folder, year):
        found: dict[str, dict[str, Path]] = {}
        for path in sorted(place.glob("*.txt")):
            if match := pattern.fullmatch(path.name):
                found.setdefault(match[1], {})[same_class(match[2])] = path
        if found:
            return found
    return {}


def _sets_found(folder: Path, year: int) -> str:
    names = {path.name for place in _places(folder, year) for path in place.glob("*_det_*.txt")}
    sets = {name.split("_det_")[1].split("_")[0] for name in names}
    return f"; sets found: {', '.join(sorted(sets))}" if sets else ""
