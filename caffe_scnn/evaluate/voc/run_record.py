"""What a detector did while it made its results: ``run.json``, which ``detect`` leaves beside them.

``{"images": n, "seconds": {part: total}, "stages": [{"name", "windows_in", "windows_out",
"seconds"}], "settings": {…}}``, all of them totals over the images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe_scnn.errors import FormatError

FILE_NAME = "run.json"
PARTS = ("proposals", "conv", "pooling", "fc", "rest")
REJECTION = "reject"
"""The stage that is the first of a cascade."""


@dataclass(frozen=True)
class RunRecord:
    """The work of a detector, per image.

    Attributes
    ----------
    images : int
    windows : float
        Windows that were looked at.
    kept : float or None
        Windows left by the first stage of the cascade; None without a cascade.
    milliseconds : mapping
        Part of the detector → time; the parts are :data:`PARTS`.
    """

    images: int
    windows: float
    kept: float | None
    milliseconds: Mapping[str, float]

    @property
    def rejected(self) -> float | None:
        """The fraction of the windows that the first stage rejects."""
        if self.kept is None or not self.windows:
            return None
        return 1 - self.kept / self.windows

    @property
    def total(self) -> float:
        """Milliseconds of all parts."""
        return sum(self.milliseconds.values())


def read_run_record(folder: Path) -> RunRecord | None:
    """Read the record in a folder of results; None where there is none.

    Raises
    ------
    FormatError
        The file is not as above.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        return _record(json.loads(path.read_bytes()))
    except json.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error.msg}", str(path), error.lineno, error.colno) from error
    except UnicodeDecodeError as error:
        raise FormatError("not JSON: no UTF-8 text", str(path)) from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FormatError(
            f"not a record of a detection run: {type(error).__name__} {error}; detect writes it",
            str(path),
        ) from error


def _record(data: Any) -> RunRecord:
    images = int(data["images"])
    if images < 1:
        raise ValueError(f"of {images} images")
    stages = data["stages"]
    seconds = {str(part): float(value) for part, value in data["seconds"].items()}
    if not seconds.keys() <= set(PARTS):
        raise ValueError(f"parts {', '.join(seconds)}; known are {', '.join(PARTS)}")
    rejection = [stage for stage in stages if stage["name"] == REJECTION]
    return RunRecord(
        images,
        float(stages[0]["windows_out"]) / images,
        float(rejection[0]["windows_out"]) / images if rejection else None,
        {part: 1000 * seconds.get(part, 0.0) / images for part in PARTS},
    )
