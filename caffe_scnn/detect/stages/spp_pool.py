"""The features of each window: the maps pooled into a pyramid of bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.geometry import MapGeometry
from caffe_scnn.detect.spp_pool import bins_of
from caffe_scnn.detect.stages.base import Part
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.engine.window_pooling import pool_windows

if TYPE_CHECKING:
    from caffe_scnn.detect.model_folder import DetectorSettings
    from caffe_scnn.detect.pyramid import Backbone

POOLED = "pooled"
COARSE = "coarse"


@dataclass
class SppPool:
    """Pool each window on the scale that suits it.

    Parameters
    ----------
    geometry : MapGeometry
    channels : int
        Of the maps.
    scales : sequence of int
    levels : sequence of int
        Bins a side of each level.
    pooling : {"spp-net", "spp-layer", "roi"}
    target : str
        Under which name the features go into the frame: they are valid until the next run.
    threads : int, optional
    """

    name: ClassVar[str] = "spp_pool"
    part: ClassVar[Part] = Part.POOLING
    geometry: MapGeometry
    channels: int
    scales: Sequence[int]
    levels: Sequence[int]
    pooling: str = "spp-net"
    target: str = POOLED
    threads: int | None = None
    # Fresh memory for each picture's features took longer than to pool them.
    _memory: Float32 = field(
        default_factory=lambda: np.empty(0, np.float32), init=False, repr=False, compare=False
    )

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        settings: DetectorSettings,
        threads: int | None,
        *,
        coarse: bool = False,
    ) -> Self:
        """Return the pooling of a detector's maps: for the rejection (``coarse``), or the whole."""
        levels, target = (settings.coarse_levels, COARSE) if coarse else (settings.levels, POOLED)
        return cls(
            backbone.geometry,
            backbone.channels,
            settings.scales,
            levels,
            settings.pooling,
            target,
            threads,
        )

    def run(self, frame: Frame) -> None:
        """Add the features (windows, channels · bins): level by level, each channel-major."""
        width = self.channels * sum(level * level for level in self.levels)
        out = self._room(len(frame.boxes), width)
        chosen = self.geometry.choose_scale(frame.boxes, frame.shorter, self.scales)
        for at, (scale, cells) in enumerate(zip(self.scales, frame.maps, strict=False)):
            rows = np.flatnonzero(chosen == at)
            if not rows.size:
                continue
            bins = bins_of(
                self.pooling,
                self.levels,
                self.geometry,
                frame.boxes[rows],
                (frame.shorter, scale),
                (cells.shape[1], cells.shape[2]),
            )
            pool_windows(cells, self.channels, bins, out, rows, threads=self.threads)
        frame.features[self.target] = out

    def _room(self, windows: int, width: int) -> Float32:
        """Return memory for so many windows: that of the last picture, if it is enough."""
        if self._memory.size < windows * width:
            del self._memory  # before there is more
            self._memory = np.empty(windows * width, np.float32)
        return self._memory[: windows * width].reshape(windows, width)
