"""Features of chosen windows of training pictures, by the very stages that detection runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.samples import TrainingSet
from caffe_scnn.detect.stages import Stage
from caffe_scnn.engine.tensor import Float32

References = NDArray[np.int64]
"""Windows as (picture, window), one a row."""


@dataclass(frozen=True)
class FeatureSource:
    """Computes features of windows when they are asked for; maps come from a cache.

    Parameters
    ----------
    data : TrainingSet
    stages : sequence of Stage
        From maps to features.
    """

    data: TrainingSet
    stages: Sequence[Stage]

    def frame(self, index: int, chosen: NDArray[np.intp] | None = None) -> Frame:
        """Run the stages on some windows of a picture, on all of them by default.

        Features are valid until the next call.
        """
        picture = self.data.pictures[index]
        windows = picture.windows if chosen is None else picture.windows[chosen]
        frame = Frame(picture.name, self.data.read(index), windows)
        for stage in self.stages:
            stage.run(frame)
        return frame

    def gather(self, references: References, name: str) -> Float32:
        """Return the features ``name`` of windows, in the order of the references.

        Parameters
        ----------
        references : ndarray of shape (n, 2)
            Windows of one picture next to each other.
        """
        found = []
        for index, group in groupby(references.tolist(), key=lambda pair: pair[0]):
            chosen = np.array([window for _, window in group], np.intp)
            found.append(self.frame(index, chosen).features[name].copy())
        return np.concatenate(found)
