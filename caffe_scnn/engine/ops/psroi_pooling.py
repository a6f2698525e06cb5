"""Averages of regions, each bin of its own channels: PSROIPooling."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op, clear
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.layers.base import PSRoiPoolingSpec
from caffe_scnn.layers.roi_pooling import fractional_bins, image_of

Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]


class PSRoiPoolingOp(Op):
    """Sums over any rectangle from four values of a table of sums, all regions at once."""

    name: ClassVar[str] = "psroi_pooling"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, PSRoiPoolingSpec)
        self.spec, self.layer, self.kernel = node.spec, node.layers[0], "numpy_psroipool"

    def run(self, arena: Float32) -> None:
        """Pool bin by bin."""
        clear(self.writes[0], arena)
        x, regions = (tensor.array(arena) for tensor in self.reads)
        y, group = self.writes[0].array(arena), self.spec.group
        regions = regions.reshape(len(regions), 5)
        images = np.array([image_of(self.layer, region, len(x)) for region in regions])
        columns, rows = (
            fractional_bins(regions[:, 1 + k], regions[:, 3 + k], self.spec.scale, group, size)
            for k, size in enumerate((x.shape[3], x.shape[2]))
        )
        for image in set(images.tolist()):
            sums = _sums(x[image]).reshape(-1, group, group, x.shape[2] + 1, x.shape[3] + 1)
            of_image = np.flatnonzero(images == image)
            for i, j in np.ndindex(group, group):
                top, bottom = (bound[of_image, i] for bound in rows)
                left, right = (bound[of_image, j] for bound in columns)
                y[of_image, :, i, j] = _mean(sums[:, i, j], top, bottom, left, right).T


def _sums(x: Float32) -> NDArray[np.float64]:
    """Return the sums (C, H + 1, W + 1) of all values above and to the left, in float64."""
    sums = np.zeros((len(x), x.shape[1] + 1, x.shape[2] + 1))
    np.cumsum(x, axis=1, out=sums[:, 1:, 1:])
    np.cumsum(sums[:, 1:, 1:], axis=2, out=sums[:, 1:, 1:])
    return sums


def _mean(
    sums: NDArray[np.float64],
    top: NDArray[np.int64],
    bottom: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the averages (C, R) over rectangles; 0 over those without cells."""
    total = sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left]
    total += sums[:, top, left]
    area = np.maximum(bottom - top, 0) * np.maximum(right - left, 0)
    mean: NDArray[np.float64] = np.zeros_like(total)
    np.divide(total, area, out=mean, where=area > 0)
    return mean
