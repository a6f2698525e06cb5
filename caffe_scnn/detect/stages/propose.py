"""Windows that may hold an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.proposals import Proposer
from caffe_scnn.detect.stages.base import Part


@dataclass
class Propose:
    """Ask for the windows of a picture."""

    name: ClassVar[str] = "propose"
    part: ClassVar[Part] = Part.PROPOSALS
    proposer: Proposer

    def run(self, frame: Frame) -> None:
        """Fill ``boxes``."""
        frame.boxes = self.proposer.boxes(frame.name, frame.picture)
