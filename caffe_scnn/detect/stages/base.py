"""What a detection stage is."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Protocol

from caffe_scnn.detect.frame import Frame


class Part(Enum):
    """Under which heading the time of a stage is reported."""

    PROPOSALS = "proposals"
    CONV = "conv"
    POOLING = "pooling"
    FC = "fc"
    REST = "rest"


class Stage(Protocol):
    """One step of a detector: drops windows or adds fields to the frame."""

    name: ClassVar[str]
    part: ClassVar[Part]

    def run(self, frame: Frame) -> None:
        """Do the step."""
