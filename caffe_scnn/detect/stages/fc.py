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
# Windows that go through the layers together: weights are read once for so many. More would not fit
# into registers, and fewer leave the multiplication waiting for weights. Every size has its plan,
# and each of these its own copy of the weights: multiples of two vectors are sizes enough.
MOST, STEP = 128, 32


def equal_batches(windows: int) -> int:
    """Return the size of batches that a number of windows fills."""
    batches = -(-windows // MOST)
    return -(-windows // (batches * STEP)) * STEP


@dataclass
class Fc:
    """Run a net of fully connected layers, about a hundred windows at a time.

    The last batch is filled up with zeros.
    """

    name: ClassVar[str] = "fc"
    part: ClassVar[Part] = Part.FC
    executor: Executor

    def run(self, frame: Frame) -> None:
        """Add the features ``fc`` from the pooled ones."""
        pooled = frame.features[POOLED]
        (source,), (target,) = self.executor.inputs, self.executor.outputs
        width = int(np.prod(infer_shapes(self.executor.net).blobs[target][1:]))
        results = np.empty((len(pooled), width), np.float32)
        batch = equal_batches(max(1, len(pooled)))
        shape = (batch, *self.executor.shapes[source][1:])
        for begin in range(0, len(pooled), batch):
            part = pooled[begin : begin + batch]
            filled = part
            if len(part) < batch:
                filled = np.zeros((batch, pooled.shape[1]), np.float32)
                filled[: len(part)] = part
            found = self.executor.run({source: filled.reshape(shape)})[target]
            results[begin : begin + batch] = found.reshape(batch, width)[: len(part)]
        frame.features[FC] = results
