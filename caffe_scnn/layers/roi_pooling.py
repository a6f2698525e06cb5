"""ROIPooling and PSROIPooling: regions of a map brought to one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    PSRoiPoolingSpec,
    RoiPoolingSpec,
    Shape,
    refuse,
)
from caffe_scnn.model.net import Layer

Float = np.float32  # Caffe computes bins in float32: their bounds depend on it
Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]


class ROIPooling(LayerType):
    """Maximum over each bin of each region (fork rbgirshick/fast-rcnn).

    The second bottom has a row for each region: image, x1, y1, x2, y2 in input pixels, inclusive.
    A bin without cells gives 0.
    """

    type: ClassVar[str] = "ROIPooling"
    stock: ClassVar[bool] = False
    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """(regions, channels, pooled_h, pooled_w)."""
        param = layer.proto.roi_pooling_param
        pooled = int(param.pooled_h), int(param.pooled_w)
        if min(pooled) < 1:
            raise refuse(layer, f"pooled_h and pooled_w are {pooled}; both must be given")
        _check(layer, bottoms)
        return [(bottoms[1][0], bottoms[0][1], *pooled)]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Region by region, bin by bin."""
        x, regions = bottoms[0], bottoms[1].reshape(len(bottoms[1]), -1)
        y = np.zeros(self.infer(layer, [b.shape for b in bottoms])[0])
        edges = corners(regions, layer.proto.roi_pooling_param.spatial_scale)
        for r, (region, (left, top, right, bottom)) in enumerate(zip(regions, edges, strict=True)):
            image = image_of(layer, region, len(x))
            rows = whole_bins(top, bottom, y.shape[2], x.shape[2])
            columns = whole_bins(left, right, y.shape[3], x.shape[3])
            for i, j in np.ndindex(*y.shape[2:]):
                cells = x[image, :, rows[0][i] : rows[1][i], columns[0][j] : columns[1][j]]
                if cells.size:
                    y[r, :, i, j] = cells.max(axis=(1, 2))
        return [y]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Give size and scale."""
        param = layer.proto.roi_pooling_param
        return RoiPoolingSpec((int(param.pooled_h), int(param.pooled_w)), param.spatial_scale)

    def coupling(self, layer: Layer) -> Coupling:
        """Blocked: the channels of the regions are coordinates."""
        return Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """Regions near the origin."""
        body = "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 2 }"
        return [Example(body, ((4, 3, 6, 7), (3, 5)))]


class PSROIPooling(LayerType):
    """Average over each bin, each of its own channels (fork daijifeng001/caffe-rfcn).

    Output channel c at bin (i, j) reads input channel ``(c·g + i)·g + j`` for g x g bins.
    """

    type: ClassVar[str] = "PSROIPooling"
    stock: ClassVar[bool] = False
    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """(regions, output_dim, group_size, group_size)."""
        param = layer.proto.psroi_pooling_param
        _check(layer, bottoms)
        if param.group_size < 1 or bottoms[0][1] != param.output_dim * param.group_size**2:
            raise refuse(
                layer,
                f"{bottoms[0][1]} channels are not output_dim {param.output_dim} times "
                f"group_size {param.group_size} squared",
            )
        return [(bottoms[1][0], param.output_dim, param.group_size, param.group_size)]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Region by region, bin by bin."""
        x, regions = bottoms[0], bottoms[1].reshape(len(bottoms[1]), -1)
        param = layer.proto.psroi_pooling_param
        y = np.zeros(self.infer(layer, [b.shape for b in bottoms])[0])
        scale, group = param.spatial_scale, int(param.group_size)
        maps = x.reshape(len(x), -1, group, group, *x.shape[2:])
        for r, region in enumerate(regions):
            image = image_of(layer, region, len(x))
            columns, rows = (
                fractional_bins(region[1 + k], region[3 + k], scale, group, x.shape[3 - k])
                for k in range(2)
            )
            for i, j in np.ndindex(group, group):
                cells = maps[image, :, i, j, rows[0][i] : rows[1][i], columns[0][j] : columns[1][j]]
                if cells.size:
                    y[r, :, i, j] = cells.mean(axis=(1, 2))
        return [y]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Give group and scale."""
        param = layer.proto.psroi_pooling_param
        return PSRoiPoolingSpec(int(param.group_size), param.spatial_scale)

    def examples(self) -> list[Example]:
        """Regions near the origin."""
        body = "psroi_pooling_param { spatial_scale: 2 output_dim: 2 group_size: 3 }"
        return [Example(body, ((4, 18, 6, 7), (3, 5)))]


def _check(layer: Layer, bottoms: Sequence[Shape]) -> None:
    if len(bottoms[0]) != 4 or len(bottoms[1]) < 2 or np.prod(bottoms[1][1:]) != 5:
        raise refuse(layer, f"takes a map (N, C, H, W) and regions (R, 5), got {list(bottoms)}")


def image_of(layer: Layer, region: NDArray[np.floating], images: int) -> int:
    """Return which image a region lies in.

    Raises
    ------
    ModelError
        There is no such image.
    """
    if not 0 <= region[0] < images:
        raise refuse(layer, f"a region lies in image {region[0]:g}, but there are {images}")
    return int(region[0])


def _round(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """C's round: halves go away from zero."""
    return (np.sign(value) * np.floor(np.abs(value) + Float(0.5))).astype(Float)


def corners(regions: NDArray[np.floating], scale: float) -> NDArray[np.int64]:
    """Return left, top, right and bottom pixel (R, 4) of regions (R, 5) on the map."""
    return _round(regions[:, 1:].astype(Float) * Float(scale)).astype(np.int64)


def whole_bins(first: NDArray[np.int64], last: NDArray[np.int64], bins: int, size: int) -> Bounds:
    """Bounds (…, bins) of the bins of regions of whole pixels, clipped to the map."""
    first = first[..., None]
    width = np.maximum(last[..., None] - first + 1, 1).astype(Float) / Float(bins)
    at = np.arange(bins + 1, dtype=Float)
    start = np.floor(at[:-1] * width).astype(np.int64) + first
    end = np.ceil(at[1:] * width).astype(np.int64) + first
    return np.clip(start, 0, size), np.clip(end, 0, size)


def fractional_bins(
    first: NDArray[np.floating], last: NDArray[np.floating], scale: float, bins: int, size: int
) -> Bounds:
    """Bounds (…, bins) of the bins of regions whose ends lie between pixels of the map."""
    start = _round(np.asarray(first, Float)) * Float(scale)
    end = (_round(np.asarray(last, Float)) + Float(1)) * Float(scale)
    width = np.maximum(end - start, Float(0.1)) / Float(bins)
    edges = np.arange(bins + 1, dtype=Float) * width[..., None]
    low = np.floor(edges[..., :-1] + start[..., None]).astype(np.int64)
    high = np.ceil(edges[..., 1:] + start[..., None]).astype(np.int64)
    return np.clip(low, 0, size), np.clip(high, 0, size)
