"""A detector as a plain folder: Caffe models, an npz of heads, and a TOML of settings.

``detect.toml``, ``backbone.prototxt`` and ``.caffemodel``, ``preprocess.toml``, ``heads.npz``, and
where there are fully connected layers ``fc.prototxt`` and ``.caffemodel``. Each of the two nets may
be replaced by a compressed one of the same inputs and outputs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from caffe_scnn.detect.heads import Heads
from caffe_scnn.detect.spp_pool import POOLINGS
from caffe_scnn.errors import FormatError
from caffe_scnn.loading import load
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.caffemodel import write_caffemodel
from caffe_scnn.model.net import Net
from caffe_scnn.model.toml import parse_toml, read_toml
from caffe_scnn.preprocess import FILE_NAME, Preprocess

SETTINGS, HEADS = "detect.toml", "heads.npz"
BACKBONE, FC = "backbone", "fc"
FILES = frozenset(
    {SETTINGS, HEADS, FILE_NAME}
    | {f"{name}.{kind}" for name in (BACKBONE, FC) for kind in ("prototxt", "caffemodel")}
)
PAPER_SCALES = (480, 576, 688, 864, 1200)


@dataclass(frozen=True)
class DetectorSettings:
    """What a detector does with a picture; the names are those of ``detect.toml``.

    Parameters
    ----------
    classes : tuple of str
    blob : str
        The feature map of the backbone.
    scales : tuple of int
        Shorter sides of the scaled pictures, in pixels.
    levels : tuple of int
        Bins a side of each level of the pyramid.
    pooling : {"spp-net", "spp-layer", "roi"}
    rounding : float, optional
        Pixels; see :class:`~caffe_scnn.detect.geometry.MapGeometry`.
    coarse_levels : tuple of int
        Levels that the rejection looks at.
    keep : float, optional
        Windows of a picture that pass the rejection; up to 1: their share. None: no rejection
        unless ``reject_below``.
    reject_below : float, optional
        Least score of the rejection classifier.
    reject_overlap : float
        Of windows that overlap by more, the rejection keeps the best as long as there are others.
    scores : {"svm", "softmax"}
        What the classifiers give: distances from a margin, or probabilities.
    threshold : float
        Least score of a detection.
    overlap : float
        Of two detections of a class that overlap by more, only the better one stays.
    limit : int
        Detections of a class in a picture.
    """

    classes: tuple[str, ...]
    blob: str
    scales: tuple[int, ...] = PAPER_SCALES
    levels: tuple[int, ...] = (1, 2, 3, 6)
    pooling: str = "spp-net"
    rounding: float | None = None
    coarse_levels: tuple[int, ...] = (1, 2)
    keep: float | None = None
    reject_below: float | None = None
    reject_overlap: float = 0.9
    scores: str = "svm"
    threshold: float = -1.5
    overlap: float = 0.3
    limit: int = 100

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises
        ------
        FormatError
            A setting out of its range.
        """
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise FormatError("classes must be different names, at least one")
        if not self.scales or min(self.scales) < 16 or len(set(self.scales)) < len(self.scales):
            raise FormatError(f"scales {list(self.scales)} must be different sides, from 16 pixels")
        for name in ("levels", "coarse_levels"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise FormatError(f"{name} {list(values)} must be numbers of bins, from 1")
        if self.pooling not in POOLINGS:
            raise FormatError(f'pooling "{self.pooling}" is none of {", ".join(POOLINGS)}')
        if self.scores not in ("svm", "softmax"):
            raise FormatError(f'scores "{self.scores}" is none of svm, softmax')
        keep = self.keep
        if keep is not None and not (0 < keep <= 1 or (keep > 1 and keep % 1 == 0)):
            raise FormatError(
                f"keep must be a number of windows, or a share of them up to 1, not {keep:g}"
            )
        if not 0 <= self.overlap <= 1 or self.limit < 1:
            raise FormatError(f"overlap {self.overlap} must be 0 … 1, limit {self.limit} from 1")

    @property
    def rejects(self) -> bool:
        """Whether windows are rejected."""
        return self.keep is not None or self.reject_below is not None

    def text(self) -> str:
        """Return ``detect.toml``."""
        lines = ["# A detector; see docs/detection.md."]
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value is not None:
                # JSON's strings, numbers and arrays are TOML's too.
                lines.append(f"{setting.name} = {json.dumps(value, ensure_ascii=False)}")
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: Path) -> DetectorSettings:
        """Read ``detect.toml``.

        Raises
        ------
        FormatError
            Not TOML, an unknown key, or a value of the wrong type or range.
        """
        return read_toml(path, cls._parse)

    @classmethod
    def _parse(cls, text: str) -> DetectorSettings:
        table = parse_toml(text)
        known = {setting.name: setting.type for setting in fields(cls)}
        for key, value in table.items():
            if key not in known:
                raise FormatError(f'unknown key "{key}"; known are {", ".join(known)}')
            table[key] = _checked(key, value, str(known[key]))
        for key in ("classes", "blob"):
            if key not in table:
                raise FormatError(f"{key} is missing")
        return cls(**table)


@dataclass(frozen=True)
class DetectorModel:
    """A detector read into memory.

    Parameters
    ----------
    settings : DetectorSettings
    backbone : Net
    preprocess : Preprocess
    fc : Net, optional
        From pooled windows to the features that are classified.
    heads : Heads
    """

    settings: DetectorSettings
    backbone: Net
    preprocess: Preprocess
    fc: Net | None
    heads: Heads

    @classmethod
    def read(cls, folder: Path) -> DetectorModel:
        """Read a folder.

        Raises
        ------
        FormatError, ModelError, OSError
            A file is missing, or not what it should be.
        """
        if not (folder / SETTINGS).is_file():
            raise FormatError(
                f"there is no {SETTINGS}: not the folder of a detector; detect-train makes one",
                str(folder),
            )
        return cls(
            DetectorSettings.read(folder / SETTINGS),
            _net(folder, BACKBONE),
            Preprocess.beside(folder),
            _net(folder, FC) if (folder / f"{FC}.prototxt").exists() else None,
            Heads.read(folder / HEADS),
        )

    def write(self, folder: Path) -> None:
        """Write the files into an existing folder.

        Raises
        ------
        OutputError
            A file cannot be written.
        """
        for name, net in ((BACKBONE, self.backbone), (FC, self.fc)):
            if net is not None:
                net.write(folder / f"{name}.prototxt")
                write_caffemodel(net, folder / f"{name}.caffemodel")
        self.preprocess.save(folder)
        self.heads.write(folder / HEADS)
        with atomic_write(folder / SETTINGS) as file:
            file.write(self.settings.text().encode())

    def digest(self) -> str:
        """Return a fingerprint of nets, preprocessing and heads; not of the settings."""
        found = hashlib.sha256(self.preprocess.text(Path()).encode())
        arrays = [self.heads.weights, self.heads.bias]
        if self.heads.regression is not None:
            arrays += [self.heads.regression.weights, self.heads.regression.bias]
        if self.heads.rejector is not None:
            arrays += [self.heads.rejector.weights, self.heads.rejector.bias]
        for net in (self.backbone, self.fc):
            if net is not None:
                found.update(net.text().encode())
                arrays += [blob for layer in net for blob in layer.blobs]
        for array in arrays:
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


def _net(folder: Path, name: str) -> Net:
    return load(folder / f"{name}.prototxt", folder / f"{name}.caffemodel")


def _checked(key: str, value: Any, wanted: str) -> Any:
    """Return a TOML value as the setting's type; true is no number here."""
    item = str if "str" in wanted else int if "int" in wanted else float
    if wanted.startswith("tuple"):
        if isinstance(value, list) and all(type(entry) is item for entry in value):
            return tuple(value)
    elif type(value) is item or (item is float and type(value) is int):
        return value
    raise FormatError(f"{key} has the wrong type: {value!r}")
