"""Better boxes: each detection is moved and resized as its class has learnt to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from caffe_scnn.detect.boxes import clip
from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.regression import BoxRegression
from caffe_scnn.detect.stages.base import Part
from caffe_scnn.detect.stages.spp_pool import POOLED


@dataclass
class Regress:
    """Apply the regression of each detection's class to its box."""

    name: ClassVar[str] = "regress"
    part: ClassVar[Part] = Part.REST
    regression: BoxRegression

    def run(self, frame: Frame) -> None:
        """Replace the boxes of ``found``; scores stay."""
        found = frame.found
        if found is None or not len(found):
            return
        features = frame.features[POOLED]
        boxes = self.regression.apply(features, found.windows, found.labels, found.boxes)
        height, width = frame.picture.shape[:2]
        found.boxes = clip(boxes, width, height)
