"""The settings fitted to one input of one net; pictures are read by OpenCV, as Caffe does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.preprocess.geometry import Geometry, Size
from caffe_scnn.preprocess.geometry import pixels as sizes
from caffe_scnn.preprocess.mean import Mean, read_mean
from caffe_scnn.preprocess.settings import Preprocess

Values = NDArray[np.float32]

# Names of files that are taken for pictures where a folder is given.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Transformer:
    """Turns pictures and pixel arrays into the values of one net input.

    Parameters
    ----------
    settings : Preprocess
    blob : str
        Name of the input, for messages.
    shape : sequence of int
        Its shape (N, C, H, W); N does not matter.

    Raises
    ------
    FormatError, ModelError, OSError
        The settings do not lead to that shape, or the mean file cannot be read or does not fit.
    """

    def __init__(self, settings: Preprocess, blob: str, shape: Sequence[int]) -> None:
        if len(shape) != 4:
            raise ModelError(
                f'input "{blob}" has the shape {tuple(shape)}; pictures need (N, C, H, W)'
            )
        self.blob = blob
        self.planes = shape[1]
        self.size: Size = (shape[2], shape[3])
        self.channels = settings.channels or ("gray" if self.planes == 1 else "bgr")
        if self.planes != (1 if self.channels == "gray" else 3):
            raise ModelError(
                f'input "{blob}" takes {self.planes} channels, not those of {self.channels} '
                "pictures; see --channels"
            )
        self.geometry = Geometry.towards(self.size, settings.resize, settings.crop)
        self.mean_size: Size | None = None  # that pictures must have before the crop
        self._uncut_mean: Values | None = None  # (H, W, C)
        self.mean = self._fit_mean(settings.mean)
        self.scale = np.float32(settings.scale)

    def picture(self, path: Path) -> Values:
        """Read one picture.

        Returns
        -------
        ndarray of shape (C, H, W)

        Raises
        ------
        FormatError
            The file is no picture, or its size does not lead to the net's.
        OSError
            The file cannot be read.
        """
        return self.values(self.resized(self.read(path)), name=str(path))

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return the pixels of a file, (H, W, C) in the order of ``channels``.

        Raises
        ------
        FormatError
            The file is no picture.
        OSError
            The file cannot be read.
        """
        import cv2

        flag = cv2.IMREAD_GRAYSCALE if self.channels == "gray" else cv2.IMREAD_COLOR
        content = np.frombuffer(path.read_bytes(), np.uint8)
        picture = cv2.imdecode(content, flag) if content.size else None
        if picture is None:
            raise FormatError("not a picture that OpenCV can read", str(path))
        values = np.asarray(picture, np.uint8).reshape(*picture.shape[:2], self.planes)
        return values[:, :, ::-1] if self.channels == "rgb" else values

    def resized(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Resize (H, W, C) as the settings say; what is cut off comes later."""
        return self.geometry.resized(pixels)

    def values(
        self, pixels: NDArray[Any], place: tuple[int, int] | None = None, name: str = "a picture"
    ) -> Values:
        """Cut resized pixels to the net's size, subtract the mean and scale.

        Parameters
        ----------
        pixels : ndarray of shape (H, W, C)
        place : (top, left), optional
            Where to cut the net's size out; in the middle by default. A mean picture is cut at the
            same place.
        name : str
            The file, for messages.

        Returns
        -------
        ndarray of shape (C, H, W)

        Raises
        ------
        FormatError
            The size does not lead to the net's.
        """
        found = pixels.shape[:2]
        if self.mean_size not in (None, found):
            raise FormatError(
                f"{sizes(found)} pixels, but the mean picture has {sizes(self.mean_size)}; use "
                "--resize, or one mean value per channel",
                name,
            )
        if place is None:
            return self._centre(pixels, name)
        mean = self.mean
        if self._uncut_mean is not None and self._uncut_mean.shape[:2] == found:
            mean = self._cut(self._uncut_mean, place)
        return (self._cut(pixels, place).astype(np.float32) - mean) * self.scale

    def _cut(self, pixels: NDArray[Any], place: tuple[int, int]) -> NDArray[Any]:
        (top, left), (height, width) = place, self.size
        return pixels[top : top + height, left : left + width].transpose(2, 0, 1)

    def _centre(self, pixels: NDArray[Any], name: str) -> Values:
        cut = self.geometry.cropped(pixels, name)
        if cut.shape[:2] != self.size:
            raise FormatError(
                f"{sizes(cut.shape[:2])} pixels, but the net takes {sizes(self.size)}; use "
                "--resize or --crop",
                name,
            )
        return self._scaled(cut.transpose(2, 0, 1))

    def pictures(self, paths: Sequence[Path]) -> Values:
        """Read several pictures: (N, C, H, W)."""
        return np.stack([self.picture(path) for path in paths])

    def pixels(self, values: NDArray[Any]) -> Values:
        """Subtract the mean from pixels that have the net's size already, and scale them.

        Parameters
        ----------
        values : ndarray of shape (N, C, H, W), or (N, H, W) for one channel
            Channels in the net's order.

        Raises
        ------
        ModelError
            Another shape.
        """
        planes = values[:, None] if values.ndim == 3 and self.planes == 1 else values
        if planes.ndim != 4 or planes.shape[1:] != (self.planes, *self.size):
            raise ModelError(
                f'arrays of shape {values.shape}, but input "{self.blob}" takes '
                f"(N, {self.planes}, {self.size[0]}, {self.size[1]})"
            )
        return self._scaled(planes)

    def describe(self) -> str:
        """Say in one line what is done to a picture."""
        averages = self.mean.reshape(self.planes, -1).mean(axis=1)
        mean = ", ".join(f"{value:.4g}" for value in averages)
        if self.mean.shape[1:] != (1, 1):
            mean = f"mean picture, {mean} on average"
        steps = self.geometry.describe()
        return f"{self.channels} pixels, {steps}, (pixel - [{mean}]) * {float(self.scale):.6g}"

    def _fit_mean(self, mean: Mean | None) -> Values:
        """Return the mean as (C, 1, 1), or cut to (C, H, W).

        Caffe subtracts a mean picture before it crops. Both are cut in the middle, so the cut
        mean subtracted from the cut picture gives the same.
        """
        file = str(mean) if isinstance(mean, Path) else "--mean"
        if isinstance(mean, Path):
            values = read_mean(mean)
        else:
            values = np.asarray(mean or (0.0,), np.float32)
        if values.shape[0] not in (1, self.planes):
            raise FormatError(
                f'{values.shape[0]} values per pixel, but input "{self.blob}" has {self.planes} '
                "channels",
                file,
            )
        if values.shape[0] != self.planes:
            values = np.repeat(values, self.planes, axis=0)
        return values[:, None, None] if values.ndim == 1 else self._fit_mean_picture(values, file)

    def _fit_mean_picture(self, mean: Values, file: str) -> Values:
        if mean.shape[1:] == self.size:
            return mean
        uncut = mean.transpose(1, 2, 0)
        if self.geometry.exact:
            uncut = self.geometry.resized(uncut)
        else:
            self.mean_size = (mean.shape[1], mean.shape[2])
        self._uncut_mean = uncut
        cut = self.geometry.cropped(uncut, file)
        if cut.shape[:2] != self.size:
            raise FormatError(
                f"the mean picture has {sizes(mean.shape[1:])} pixels; it must have the size of "
                f"the pictures before the crop, or {sizes(self.size)} as the net",
                file,
            )
        return cut.transpose(2, 0, 1)

    def _scaled(self, values: NDArray[Any]) -> Values:
        return (values.astype(np.float32) - self.mean) * self.scale
