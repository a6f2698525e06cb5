"""One pass of convolutions a scale: the feature maps of a whole picture."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np

from caffe_scnn.detect.geometry import map_geometry, only_picture
from caffe_scnn.detect.picture import Picture
from caffe_scnn.engine import Executor
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.errors import ModelError
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net
from caffe_scnn.passes.remove_dead import remove_dead
from caffe_scnn.preprocess import Preprocess, read_mean

ROWS = 64  # of a picture that are turned into values at a time
PLAN_BYTES = 2 << 30  # of the plans for the sizes of pictures that were met last


def scaled(picture: Picture, scale: int) -> Picture:
    """Bring the shorter side to ``scale`` pixels, bilinear without smoothing; sides round up."""
    import cv2

    shorter = min(picture.shape[:2])
    height, width = (math.ceil(side * scale / shorter - 1e-9) for side in picture.shape[:2])
    return np.asarray(
        cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8
    )


class Backbone:
    """The convolutions of a detector.

    Parameters
    ----------
    net : Net
        One input for pictures; layers behind ``blob`` are left out.
    blob : str
        The feature map.
    settings : Preprocess
        Mean, scale and channel order; sizes are the pyramid's business. Of a mean picture the
        average of each channel is taken.
    rounding : float, optional
        See :func:`~caffe_scnn.detect.geometry.map_geometry`.
    threads : int, optional
    tune : bool
        See :class:`~caffe_scnn.engine.Executor`.

    Attributes
    ----------
    geometry : MapGeometry
    channels : int
        Of the map.

    Raises
    ------
    ModelError
        The blob is no map of a colour picture.
    """

    def __init__(
        self,
        net: Net,
        blob: str,
        settings: Preprocess,
        *,
        rounding: float | None = None,
        threads: int | None = None,
        tune: bool = False,
    ) -> None:
        self.geometry = map_geometry(net, blob, rounding)
        self.net = remove_dead(net, [blob]).net
        self.blob, self.input, self.settings = blob, only_picture(net), settings
        shapes = infer_shapes(self.net).blobs
        if shapes[self.input][1:2] != (3,):
            raise ModelError(
                f'input "{self.input}" has the shape {shapes[self.input]}; a detector takes '
                "pictures of 3 channels"
            )
        self.channels = shapes[blob][1]
        self.mean = _mean(settings)
        self.executor = Executor(self.net, threads=threads, tune=tune, plan_bytes=PLAN_BYTES)

    def map(self, picture: Picture, scale: int) -> Float32:
        """Compute the feature map of a picture at one scale.

        Parameters
        ----------
        picture : uint8 ndarray of shape (H, W, 3)
        scale : int
            Pixels of the shorter side.

        Returns
        -------
        float32 ndarray of shape (C, h, w)
            Valid until the next call.
        """
        pixels = scaled(picture, scale)
        plan = self.executor.plan({self.input: (1, 3, *pixels.shape[:2])}, [self.blob])
        self._fill(plan.input(self.input)[0], pixels)
        plan.run()
        found: Float32 = plan.output(self.blob)[0]
        return found

    def _fill(self, values: Float32, pixels: Picture) -> None:
        """Turn pixels (H, W, 3) into planes (3, H, W), some rows at a time: they stay in cache."""
        import cv2

        planes = cv2.split(pixels)
        if self.settings.channels == "rgb":
            planes = planes[::-1]
        means = np.broadcast_to(self.mean, 3)
        factor = np.float32(self.settings.scale)
        for plane, mean, result in zip(planes, means, values, strict=True):
            for top in range(0, len(plane), ROWS):
                rows = slice(top, top + ROWS)
                np.subtract(plane[rows], mean, out=result[rows], dtype=np.float32)
                result[rows] *= factor

    def digest(self) -> str:
        """Return a fingerprint of all that a map depends on, the picture and the scale apart."""
        found = hashlib.sha256(self.net.text().encode())
        for layer in self.net:
            for blob in layer.blobs:
                found.update(np.ascontiguousarray(blob).tobytes())
        found.update(repr((self.blob, self.settings.channels, self.settings.scale)).encode())
        found.update(self.mean.tobytes())
        return found.hexdigest()


def _mean(settings: Preprocess) -> Float32:
    if not isinstance(settings.mean, Path):
        return np.asarray(settings.mean or (0.0,), np.float32)
    values = read_mean(settings.mean)
    channels: Float32 = values.reshape(len(values), -1).mean(axis=1)
    return channels
