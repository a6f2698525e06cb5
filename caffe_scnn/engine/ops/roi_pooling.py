"""Regions of a map brought to one size by maxima: ROIPooling."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import RoiPoolingSpec
from caffe_scnn.layers.roi_pooling import corners, image_of, whole_bins

Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]


class RoiPoolingOp(Op):
    """Maxima of rows, then of columns, all channels side by side."""

    name: ClassVar[str] = "roi_pooling"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, RoiPoolingSpec)
        self.spec, self.layer, self.kernel = node.spec, node.layers[0], "numpy_roipool"

    def run(self, arena: Float32) -> None:
        """Pool region by region."""
        clear(self.writes[0], arena)
        x, regions = (tensor.array(arena) for tensor in self.reads)
        regions = regions.reshape(len(regions), 5)
        images = [image_of(self.layer, region, len(x)) for region in regions]
        left, top, right, bottom = corners(regions, self.spec.scale).T
        rows = whole_bins(top, bottom, self.spec.pooled[0], x.shape[2])
        columns = whole_bins(left, right, self.spec.pooled[1], x.shape[3])
        maps = {n: np.ascontiguousarray(x[n].transpose(1, 2, 0)) for n in set(images)}
        y = self.writes[0].array(arena)
        for r, image in enumerate(images):
            begin, end = columns[0][r], columns[1][r]
            first = begin.min()
            strips = _maxima(maps[image][:, first : end.max()], (rows[0][r], rows[1][r]))
            bins = _maxima(strips.swapaxes(0, 1), (begin - first, end - first))
            y[r] = bins.transpose(2, 1, 0)


def _maxima(x: Float32, bounds: Bounds) -> Float32:
    """Return the maximum along axis 0 within each pair of bounds; 0 where there is nothing."""
    result = np.zeros((len(bounds[0]), *x.shape[1:]), np.float32)
    for maximum, begin, end in zip(result, *bounds, strict=True):
        if begin < end:
            x[begin:end].max(axis=0, out=maximum)
    return result
