"""BatchReindex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    LayerType,
    Shape,
    refuse,
)
from caffe_scnn.model.net import Layer


class BatchReindex(LayerType):
    """Items of the first bottom in the order of the second (``batch_reindex_layer.cpp``)."""

    type: ClassVar[str] = "BatchReindex"
    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return as many items as there are indices."""
        if len(bottoms[1]) != 1:
            raise refuse(layer, f"its indices have shape {bottoms[1]}; one axis is needed")
        return [(*bottoms[1], *bottoms[0][1:])]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Gather along the first axis."""
        index = bottoms[1].astype(np.int64)
        if ((index < 0) | (index >= len(bottoms[0]))).any():
            bad = index[(index < 0) | (index >= len(bottoms[0]))][0]
            raise refuse(layer, f"index {bad} is not one of the {len(bottoms[0])} items")
        return [bottoms[0][index]]
