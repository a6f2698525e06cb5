"""The feature maps of the whole picture, one pass of convolutions a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from caffe_scnn.detect.content_cache import ContentCache
from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.picture import Picture
from caffe_scnn.detect.pyramid import Backbone
from caffe_scnn.detect.stages.base import Part
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.engine.window_pooling import blocked


@dataclass
class Pyramid:
    """Compute the map of each scale, or take it from a cache.

    A picture without windows is not looked at.
    """

    name: ClassVar[str] = "pyramid"
    part: ClassVar[Part] = Part.CONV
    backbone: Backbone
    scales: Sequence[int]
    cache: ContentCache | None = None

    def __post_init__(self) -> None:
        """Take the fingerprint once; it reads all weights."""
        self._digest = self.backbone.digest() if self.cache is not None else ""

    def run(self, frame: Frame) -> None:
        """Fill ``maps``."""
        if len(frame.boxes):
            frame.maps = [blocked(self.map(frame.picture, scale)) for scale in self.scales]

    def map(self, picture: Picture, scale: int) -> Float32:
        """Return the map (C, h, w) of one scale; valid until the next call."""
        if self.cache is None:
            return self.backbone.map(picture, scale)
        maker = f"{self._digest} {scale}"
        return self.cache.get(maker, picture, lambda: self.backbone.map(picture, scale))
