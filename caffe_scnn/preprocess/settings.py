"""The settings, and ``preprocess.toml``, the file that keeps them beside a model."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from caffe_scnn.errors import FormatError
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.toml import parse_toml, read_toml
from caffe_scnn.preprocess.geometry import parse_resize
from caffe_scnn.preprocess.mean import Mean, parse_mean

FILE_NAME = "preprocess.toml"
CHANNELS = ("bgr", "rgb", "gray")


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the values of a net's input: ``(pixel − mean) · scale``.

    Pixels are 0 … 255 as OpenCV reads them. The order of the steps: resize, crop, mean, scale.

    Parameters
    ----------
    mean : tuple of float or Path, optional
        One value per channel (or one for all) in the order of ``channels``, or a mean file.
    scale : float
        Factor after the mean is subtracted (Caffe's ``scale``; 1/255 = 0.00392157).
    resize : str, optional
        ``"n"``: to n×n pixels, as Caffe's ``new_height``/``new_width`` do; ``"keep:n"``: the
        shorter side to n, proportions kept; ``"keep"``: the shorter side to the crop;
        ``"none"``: not at all. None: to the net's input size, or not at all when ``crop`` is given.
    crop : int, optional
        The n×n pixels in the middle: offset (size − n) // 2.
    channels : {"bgr", "rgb", "gray"}, optional
        None: gray for an input of one channel, else BGR, Caffe's order.
    """

    mean: Mean | None = None
    scale: float = 1.0
    resize: str | None = None
    crop: int | None = None
    channels: str | None = None

    def __post_init__(self) -> None:
        """Check what does not depend on a net.

        Raises
        ------
        FormatError
            A setting out of its range.
        """
        if not math.isfinite(self.scale) or self.scale == 0:
            raise FormatError(f"scale must be a number other than 0, not {self.scale}")
        if isinstance(self.mean, tuple) and not all(map(math.isfinite, self.mean)):
            raise FormatError(f"mean must be finite values, not {self.mean}")
        if self.crop is not None and self.crop < 1:
            raise FormatError(f"crop must be at least 1 pixel, not {self.crop}")
        if self.channels not in (None, *CHANNELS):
            raise FormatError(f'channels must be bgr, rgb or gray, not "{self.channels}"')
        if self.resize is not None:
            parse_resize(self.resize)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``preprocess.toml``; a mean file named in it is looked up beside it.

        Raises
        ------
        FormatError
            Not TOML, an unknown key, or a value of the wrong type or range.
        """
        return read_toml(path, lambda text: cls(**_checked(parse_toml(text), path.parent)))

    @classmethod
    def beside(cls, folder: Path) -> Self:
        """Read the ``preprocess.toml`` in a model's folder; the defaults where there is none."""
        path = folder / FILE_NAME
        return cls.read(path) if path.exists() else cls()

    def of_size(self, height: int, width: int) -> Self:
        """Return settings for an input of another size: the same part of each picture.

        Raises
        ------
        FormatError
            A crop is square, and that size is not.
        """
        if self.crop is None:
            return self
        if height != width:
            raise FormatError(f"a crop of {self.crop} does not lead to {width}x{height} pixels")
        resize = self.resize
        if resize is not None and resize.split(":")[-1].isdecimal():
            size = resize.split(":")[-1]
            scaled = max(height, round(int(size) * height / self.crop))
            resize = f"{resize.removesuffix(size)}{scaled}"
        return replace(self, crop=height, resize=resize)

    def save(self, folder: Path) -> Path:
        """Write ``preprocess.toml`` into a model's folder, and return its path.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        path = folder / FILE_NAME
        with atomic_write(path) as file:
            file.write(self.text(folder).encode())
        return path

    def text(self, folder: Path) -> str:
        """Return the settings as TOML, a mean file named relative to ``folder``."""
        lines = ["# value = (pixel - mean) * scale; order: resize, crop, mean, scale"]
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, Path):
                value = os.path.relpath(value, folder)
            if value is not None:
                # JSON's strings, numbers and arrays are TOML's too.
                lines.append(f"{setting.name} = {json.dumps(value, ensure_ascii=False)}")
        return "\n".join(lines) + "\n"


def _checked(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Turn a TOML table into arguments of :class:`Preprocess`."""
    known = [setting.name for setting in fields(Preprocess)]
    for key in table:
        if key not in known:
            raise FormatError(f'unknown key "{key}"; known are {", ".join(known)}')
    arguments = dict(table)
    if "mean" in table:
        arguments["mean"] = _mean(table["mean"], folder)
    if "resize" in table:
        arguments["resize"] = str(table["resize"])
    # type(), not isinstance(): true is no number here.
    wanted = {"scale": (int, float), "crop": (int,), "channels": (str,)}
    for key, types in wanted.items():
        if key in table and type(table[key]) not in types:
            raise FormatError(f"{key} has the wrong type: {table[key]!r}")
    return arguments


def _mean(value: Any, folder: Path) -> Mean:
    if isinstance(value, str):
        mean = parse_mean(value)
        return folder / mean if isinstance(mean, Path) else mean
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(item) in (int, float) for item in values):
        raise FormatError(f"mean must be numbers or a file's name, not {value!r}")
    return tuple(map(float, values))
