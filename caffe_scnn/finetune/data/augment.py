"""Training images made different each time they are seen; the same seed gives the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.decompose.base import require
from caffe_scnn.preprocess import Transformer

Values = NDArray[np.float32]
Generator = np.random.Generator


@dataclass(frozen=True)
class Augmentation:
    """What chance does to a training image.

    Attributes
    ----------
    crop : bool
        Cut at a random place rather than in the middle, where pictures are larger than the net's
        input: ``crop_size`` of Caffe's ``transform_param`` in its TRAIN phase.
    mirror : bool
        Swap left and right half the time, as Caffe's ``mirror`` does. Digits and letters do not
        stand it.
    area : (float, float)
        Instead of the crop: a random rectangle of this share of the picture, from least to most,
        resized to the input. (1, 1): not at all.
    aspect : float
        The rectangle's sides differ by this factor at most.
    colour : float
        Brightness, contrast and saturation change by this share at most.
    """

    crop: bool = field(default=True, metadata={"help": "cut at a random place"})
    mirror: bool = field(default=False, metadata={"help": "swap left and right half the time"})
    area: tuple[float, float] = field(
        default=(1.0, 1.0), metadata={"help": "share of the picture that is cut out and resized"}
    )
    aspect: float = field(default=4 / 3, metadata={"help": "how oblong that part may be"})
    colour: float = field(default=0.0, metadata={"help": "change of brightness, contrast, colour"})

    def __post_init__(self) -> None:
        least, most = self.area
        require(0 < least <= most <= 1, f"area must be 0 < least <= most <= 1, not {self.area}")
        require(self.aspect >= 1, f"aspect must be at least 1, not {self.aspect}")
        require(0 <= self.colour < 1, f"colour must be in [0, 1), not {self.colour}")

    def __call__(self, pixels: NDArray[Any], transformer: Transformer, chance: Generator) -> Values:
        """Turn pixels (H, W, C) into input (C, H, W).

        The order is Caffe's: crop, mean and scale, mirror; a mean picture is cut where the picture
        is.
        """
        oblong = self.area != (1.0, 1.0)
        if oblong:
            pixels = self._rectangle(pixels, transformer, chance)
        else:
            pixels = transformer.resized(pixels)
        place = self._place(pixels, transformer, chance)
        if self.colour:
            pixels = self._coloured(pixels, chance)
        if oblong:
            values = transformer.pixels(pixels.transpose(2, 0, 1)[None])[0]
        else:
            values = transformer.values(pixels, place)
        if self.mirror and chance.random() < 0.5:
            values = np.ascontiguousarray(values[:, :, ::-1])
        return np.asarray(values, np.float32)

    def _place(
        self, pixels: NDArray[Any], transformer: Transformer, chance: Generator
    ) -> tuple[int, int] | None:
        room = [n - m for n, m in zip(pixels.shape[:2], transformer.size, strict=True)]
        if not self.crop or min(room) < 0 or not any(room):
            return None
        return int(chance.integers(room[0] + 1)), int(chance.integers(room[1] + 1))

    def _rectangle(
        self, pixels: NDArray[Any], transformer: Transformer, chance: Generator
    ) -> NDArray[Any]:
        import cv2

        height, width = pixels.shape[:2]
        area = chance.uniform(*self.area) * height * width
        ratio = math.exp(chance.uniform(-1, 1) * math.log(self.aspect))
        h = min(height, max(1, round(math.sqrt(area / ratio))))
        w = min(width, max(1, round(math.sqrt(area * ratio))))
        top, left = int(chance.integers(height - h + 1)), int(chance.integers(width - w + 1))
        part = np.ascontiguousarray(pixels[top : top + h, left : left + w])
        size = transformer.size[1], transformer.size[0]
        made: NDArray[Any] = np.asarray(cv2.resize(part, size))
        return made.reshape(*transformer.size, pixels.shape[2])

    def _coloured(self, pixels: NDArray[Any], chance: Generator) -> NDArray[Any]:
        values = pixels.astype(np.float32)
        brightness, contrast, saturation = chance.uniform(1 - self.colour, 1 + self.colour, 3)
        values = values * np.float32(brightness)
        values = (values - values.mean()) * np.float32(contrast) + values.mean()
        if values.shape[2] == 3:
            grey = values.mean(axis=2, keepdims=True)
            values = grey + (values - grey) * np.float32(saturation)
        return np.asarray(np.clip(values, 0, 255))
