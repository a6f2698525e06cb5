"""Sizes of pictures: resized, then cut in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError

Size = tuple[int, int]  # height, width


def parse_resize(text: str) -> tuple[str, int | None]:
    """Read ``none``, ``keep``, ``keep:256`` or ``256``: the rule, and its size where it has one.

    Raises
    ------
    FormatError
        None of these.
    """
    if text in ("none", "keep"):
        return text, None
    rule = "keep" if text.startswith("keep:") else "exact"
    number = text.removeprefix("keep:")
    if not (number.isascii() and number.isdigit() and int(number) > 0):
        raise FormatError(f'resize must be a size in pixels, keep, keep:SIZE or none, not "{text}"')
    return rule, int(number)


@dataclass(frozen=True)
class Geometry:
    """What happens to the size of a picture.

    Parameters
    ----------
    exact : (height, width), optional
        Resized to this size, proportions or not, as Caffe's ``new_height``/``new_width`` do.
    shorter : int, optional
        Resized so that the shorter side has this length, proportions kept.
    crop : int, optional
        Then the n×n pixels in the middle: offset (size − n) // 2.
    """

    exact: Size | None = None
    shorter: int | None = None
    crop: int | None = None

    @classmethod
    def towards(cls, size: Size, resize: str | None, crop: int | None) -> Geometry:
        """Fit the settings to the size a net takes.

        Raises
        ------
        FormatError
            They lead to another size whatever the picture.
        """
        if resize is None and crop is None:
            return cls(exact=size)
        rule, number = parse_resize(resize or "none")
        if rule == "keep":
            crop = crop or size[0]
            geometry = cls(shorter=number or crop, crop=crop)
        else:
            geometry = cls(exact=(number, number) if number else None, crop=crop)
        geometry._check(size)
        return geometry

    def _check(self, size: Size) -> None:
        final = (self.crop, self.crop) if self.crop else self.exact
        if final not in (None, size):
            source = f"a crop of {self.crop}" if self.crop else "the resizing"
            raise FormatError(
                f"{source} gives {pixels(final)} pixels, but the net takes {pixels(size)}"
                + ("; use --crop {0} or --resize {0}".format(size[0]) if size[0] == size[1] else "")
            )
        side = self.shorter or min(self.exact or (0, 0))
        if self.crop and side and side < self.crop:
            raise FormatError(f"a crop of {self.crop} does not fit into pictures resized to {side}")

    def resized(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Resize (H, W) or (H, W, C) bilinearly."""
        if self.shorter:
            factor = self.shorter / min(picture.shape[:2])
            height, width = (round(side * factor) for side in picture.shape[:2])
            return _bilinear(picture, (height, width))
        return _bilinear(picture, self.exact) if self.exact else picture

    def cropped(self, picture: NDArray[Any], name: str) -> NDArray[Any]:
        """Cut the middle out of (H, W) or (H, W, C); ``name`` is the file, for the message.

        Raises
        ------
        FormatError
            The picture is smaller than the crop.
        """
        if self.crop is None:
            return picture
        size = picture.shape[:2]
        if min(size) < self.crop:
            raise FormatError(
                f"{pixels(size)} pixels are too few for a crop of {self.crop}; use --resize", name
            )
        top, left = ((side - self.crop) // 2 for side in size)
        return picture[top : top + self.crop, left : left + self.crop]

    def describe(self) -> str:
        """Say it in words."""
        steps = []
        if self.shorter:
            steps.append(f"shorter side to {self.shorter}")
        if self.exact:
            steps.append(f"resized to {pixels(self.exact)}")
        if self.crop:
            steps.append(f"{self.crop}x{self.crop} in the middle")
        return ", ".join(steps) or "size as it is"


def pixels(size: Sequence[int] | None) -> str:
    """``(227, 227)`` → ``227x227``."""
    return "x".join(map(str, size or ()))


def _bilinear(picture: NDArray[Any], size: Size) -> NDArray[Any]:
    """OpenCV's bilinear resize, what Caffe's ReadImageToCVMat calls."""
    import cv2

    resized = cv2.resize(np.ascontiguousarray(picture), (size[1], size[0]))
    return np.asarray(resized).reshape(*size, *picture.shape[2:])
