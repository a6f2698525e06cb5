"""Fully connected layers on the pooled windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.stages.base import Part
from caffe_scnn.detect.stages.spp_pool import POOLED
from caffe_scnn.engine import Executor
from caffe_scnn.layers.shapes import infer_shapes

FC = "fc"
# Windows that go through the layers together: weights are read once for so many. Multiples of a
# vector; more would not fit into registers, and fewer leave the multiplication waiting for weights.
BATCH, MOST, VECTOR = 96, 128, 16


def equal_batches(windows: int | None) -> int:
    """Return the size of batches that a number of windows fills; None: of any number.

    Parameters
    ----------
    windows : int, optional
        The most that a picture can have.
    """
    if windows is None:
        return BATCH
    batches = -(-windows // MOST)
    return -(-windows // (batches * VECTOR)) * VECTOR


@dataclass
class Fc:
    """Run a net of fully connected layers, a fixed number of windows at a time.

    A plan is made for one batch size; the last batch is filled up with zeros.
    """

    name: ClassVar[str] = "fc"
    part: ClassVar[Part] = Part.FC
    executor: Executor
    batch: int = BATCH

    def run(self, frame: Frame) -> None:
        """Add the features ``fc`` from the pooled ones."""
        pooled = frame.features[POOLED]
        (source,), (target,) = self.executor.inputs, self.executor.outputs
        shape = (self.batch, *self.executor.shapes[source][1:])
        width = int(np.prod(infer_shapes(self.executor.net).blobs[target][1:]))
        results = np.empty((len(pooled), width), np.float32)
        for begin in range(0, len(pooled), self.batch):
            part = pooled[begin : begin + self.batch]
            filled = np.zeros((self.batch, pooled.shape[1]), np.float32)
            filled[: len(part)] = part
            found = self.executor.run({source: filled.reshape(shape)})[target]
            results[begin : begin + self.batch] = found.reshape(self.batch, width)[: len(part)]
        frame.features[FC] = results
