"""The bins of a window: SPP-net's overlapping pyramid, BVLC Caffe's SPP layer, ROI pooling.

All three are bins of rows × bins of columns, which
:func:`~caffe_scnn.engine.window_pooling.pool_windows` takes by their bounds. Cells are (left, top,
right, bottom), both ends inside, counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.geometry import Cells, MapGeometry
from caffe_scnn.engine.window_pooling import Bounds, WindowBins
from caffe_scnn.errors import ModelError
from caffe_scnn.evaluate.voc.overlap import Boxes

LOWEST = float(np.finfo(np.float32).min)
Sizes = NDArray[np.int64]
POOLINGS = ("spp-net", "spp-layer", "roi")


def spp_net_bins(cells: Cells, levels: Sequence[int]) -> WindowBins:
    """Overlapping bins of SPP-net: floor(i/n·size) … ceil((i+1)/n·size) − 1, computed in float32.

    A level of n × n bins always has n × n of them, however small the window. The maximum starts at
    0, which is right for maps behind a ReLU (SPP_net ``spm_pool_caffe_mex.cpp``).
    """

    def edges(size: Sizes, bins: int) -> tuple[Sizes, Sizes]:
        share = np.arange(bins + 1, dtype=np.float32) / np.float32(bins)
        at = share[None] * size.astype(np.float32)[:, None]
        return np.floor(at[:, :-1]).astype(np.int64), np.ceil(at[:, 1:]).astype(np.int64)

    return _bins(cells, levels, edges, 0.0)


def spp_layer_bins(cells: Cells, levels: Sequence[int]) -> WindowBins:
    """Bins of BVLC Caffe's SPP layer on the window: kernel ceil(size/n), stride = kernel, padded.

    Bins do not overlap. Caffe refuses sizes whose padding reaches the kernel; here a bin that lies
    outside the window gives 0.
    """

    def edges(size: Sizes, bins: int) -> tuple[Sizes, Sizes]:
        kernel = -(-size // bins)
        pad = (kernel * bins - size + 1) // 2
        begin = np.arange(bins)[None] * kernel[:, None] - pad[:, None]
        whole = size[:, None]
        return np.clip(begin, 0, whole), np.clip(begin + kernel[:, None], 0, whole)

    return _bins(cells, levels, edges, LOWEST)


def roi_pooling_bins(regions: Cells, size: tuple[int, int], levels: Sequence[int]) -> WindowBins:
    """Bins of Fast R-CNN's ROIPooling: width size/n in float32, clipped to the map.

    Parameters
    ----------
    regions : ndarray of shape (n, 4)
        Rounded to whole cells, and not clipped: a region may reach over the map.
    size : (int, int)
        Height and width of the map.
    levels : sequence of int
    """

    def edges(extent: Sizes, bins: int) -> tuple[Sizes, Sizes]:
        width = np.maximum(extent, 1).astype(np.float32) / np.float32(bins)
        at = np.arange(bins + 1, dtype=np.float32)[None] * width[:, None]
        return np.floor(at[:, :-1]).astype(np.int64), np.ceil(at[:, 1:]).astype(np.int64)

    bins = _bins(regions, levels, edges, LOWEST)
    limit = np.array(size, np.int32)[None, :, None, None]
    return replace(bins, bounds=tuple(np.clip(level, 0, limit) for level in bins.bounds))


def bins_of(
    pooling: str,
    levels: Sequence[int],
    geometry: MapGeometry,
    windows: Boxes,
    scaling: tuple[int, int],
    size: tuple[int, int],
) -> WindowBins:
    """Return the bins of windows by the name of the pooling.

    Parameters
    ----------
    pooling : {"spp-net", "spp-layer", "roi"}
    levels : sequence of int
        Bins a side.
    geometry : MapGeometry
    windows : ndarray of shape (n, 4)
        In pixels of the picture.
    scaling : (int, int)
        Shorter side of the picture, and of the scaled one.
    size : (int, int)
        Height and width of the map.

    Raises
    ------
    ModelError
        No such pooling, or a level below 1.
    """
    if not levels or min(levels) < 1:
        raise ModelError(f"pyramid levels {list(levels)} must be numbers of bins a side, from 1")
    if pooling == "roi":
        return roi_pooling_bins(geometry.to_region(windows, *scaling), size, levels)
    if pooling not in POOLINGS:
        raise ModelError(f'pooling "{pooling}" is not known; there are {", ".join(POOLINGS)}')
    bins = spp_net_bins if pooling == "spp-net" else spp_layer_bins
    return bins(geometry.to_cells(windows, *scaling, size), levels)


def _bins(
    cells: Cells,
    levels: Sequence[int],
    edges: Callable[[Sizes, int], tuple[Sizes, Sizes]],
    lowest: float,
) -> WindowBins:
    sizes = cells[:, 2:] - cells[:, :2] + 1  # widths and heights
    bounds: list[Bounds] = []
    for bins in levels:
        level = np.empty((len(cells), 2, bins, 2), np.int32)
        for axis, column in ((0, 1), (1, 0)):  # rows have y, columns x
            begin, end = edges(sizes[:, column], bins)
            start = cells[:, column, None]
            level[:, axis] = np.stack([begin + start, end + start], axis=-1)
        bounds.append(level)
    return WindowBins(tuple(levels), tuple(bounds), lowest)
