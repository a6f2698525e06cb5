"""Stages in a row, with what each was given, what it left, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.picture import Picture
from caffe_scnn.detect.stages import Part, Stage


@dataclass
class StageRecord:
    """What a stage did, summed over pictures.

    Attributes
    ----------
    name : str
    part : Part
    windows_in, windows_out : int
        Windows, or detections once there are any.
    seconds : float
    """

    name: str
    part: Part
    windows_in: int = 0
    windows_out: int = 0
    seconds: float = 0.0


@dataclass
class RunRecord:
    """What a cascade did with some pictures: the content of ``run.json``.

    Attributes
    ----------
    images : int
    stages : list of StageRecord
        In order.
    """

    images: int = 0
    stages: list[StageRecord] = field(default_factory=list)

    def add(self, other: RunRecord) -> None:
        """Add what the same stages did with other pictures."""
        if not self.stages:
            self.stages = [StageRecord(record.name, record.part) for record in other.stages]
        self.images += other.images
        for mine, its in zip(self.stages, other.stages, strict=True):
            mine.windows_in += its.windows_in
            mine.windows_out += its.windows_out
            mine.seconds += its.seconds

    def seconds(self) -> dict[str, float]:
        """Sum the time of the stages under each heading."""
        return {
            part.value: sum(record.seconds for record in self.stages if record.part is part)
            for part in Part
        }

    def data(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return {
            "images": self.images,
            "seconds": self.seconds(),
            "stages": [
                {
                    "name": record.name,
                    "windows_in": record.windows_in,
                    "windows_out": record.windows_out,
                    "seconds": record.seconds,
                    "part": record.part.value,
                }
                for record in self.stages
            ],
        }

    @classmethod
    def of(cls, data: dict[str, Any]) -> RunRecord:
        """Return the record that :meth:`data` came from."""
        stages = [
            StageRecord(
                stage["name"],
                Part(stage["part"]),
                stage["windows_in"],
                stage["windows_out"],
                stage["seconds"],
            )
            for stage in data["stages"]
        ]
        return cls(data["images"], stages)


@dataclass
class Cascade:
    """Runs stages on pictures.

    Parameters
    ----------
    stages : sequence of Stage
    """

    stages: Sequence[Stage]

    def run(self, name: str, picture: Picture) -> tuple[Frame, RunRecord]:
        """Put one picture through all stages.

        Parameters
        ----------
        name : str
            Of the picture; where windows come from files they are looked up by it.
        picture : uint8 ndarray of shape (H, W, 3)
        """
        frame = Frame(name, picture)
        record = RunRecord(1)
        for stage in self.stages:
            done = StageRecord(stage.name, stage.part, len(frame))
            begin = time.perf_counter()
            stage.run(frame)
            done.seconds = time.perf_counter() - begin
            done.windows_out = len(frame)
            record.stages.append(done)
        return frame, record
