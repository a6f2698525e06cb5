"""From windows in a picture to cells of a feature map, for any net.

A box is VOC's: ``x1 y1 x2 y2``, first and last pixel, counted from 1. The steps are those of the
SPP-net detector (He et al., ECCV 2014; the authors' MATLAB code), whose numbers for the ZF-5 net
(stride 16, offset 21, 13 cells at 224 pixels) follow here from the net's layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import ModelError
from caffe_scnn.evaluate.voc.overlap import Boxes, heights, widths
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Coupling
from caffe_scnn.layers.geometry import convolution_window
from caffe_scnn.layers.pooling import Pooling
from caffe_scnn.layers.shapes import Shapes, infer_shapes
from caffe_scnn.model.graph import Graph, is_fed
from caffe_scnn.model.net import Layer, Net

Cells = NDArray[np.int64]
"""Of each window (left, top, right, bottom): first and last cell, both inside, counted from 0."""

STANDARD_CROP = 224  # pixels for which the size of a map tells which scale suits a window
ROUNDING = 6.5 / 16  # SPP-net's rounding offset, in strides
# What a layer does to channels when it leaves every cell in its place.
IN_PLACE = (Coupling.PASSES, Coupling.MIXES, Coupling.JOINS, Coupling.CONCATENATES)
Place = tuple[tuple[int, float], tuple[int, float]]
"""Of rows and of columns: stride, and centre of the first cell counted from 0."""


@dataclass(frozen=True)
class MapGeometry:
    """Where the cells of a feature map lie in the picture.

    Parameters
    ----------
    stride : int
        Pixels from a cell to the next.
    offset : float
        Pixel, counted from 1, at the centre of what the first cell sees.
    cells : int
        Cells a side for a crop of 224 pixels.
    rounding : float
        Pixels by which the ends of a window are moved inwards before they are rounded to cells; a
        quarter to a half of the stride.
    """

    stride: int
    offset: float
    cells: int
    rounding: float

    def choose_scale(self, boxes: Boxes, shorter: int, scales: Sequence[int]) -> NDArray[np.intp]:
        """Choose for each window the scale at which it is nearest to the standard crop.

        Parameters
        ----------
        boxes : ndarray of shape (n, 4)
        shorter : int
            Shorter side of the picture, in pixels.
        scales : sequence of int
            Shorter sides of the scaled pictures.

        Returns
        -------
        ndarray of shape (n,)
            Index into ``scales``; the first of equally good ones.
        """
        side = np.sqrt(widths(boxes) * heights(boxes))
        expected = np.floor(self.cells * self.stride * shorter / side + 0.5)
        distance = np.abs(np.asarray(scales, np.float64)[None] - expected[:, None])
        nearest: NDArray[np.intp] = np.argmin(distance, axis=1)
        return nearest

    def to_cells(self, boxes: Boxes, shorter: int, scale: int, size: tuple[int, int]) -> Cells:
        """Project windows on the map of one scale.

        Parameters
        ----------
        boxes : ndarray of shape (n, 4)
            In pixels of the picture.
        shorter, scale : int
            Shorter side of the picture, before and after it was scaled.
        size : (int, int)
            Height and width of the map.

        Returns
        -------
        ndarray of shape (n, 4)
        """
        scaled = (boxes - 1) * ((scale - 1) / max(shorter - 1, 1)) + 1
        begin = (scaled[:, :2] - self.offset + self.rounding) / self.stride
        end = (scaled[:, 2:] - self.offset - self.rounding) / self.stride
        first = np.floor(begin + 0.5).astype(np.int64) + 1  # from 1, as the original
        last = np.ceil(end - 0.5).astype(np.int64) + 1
        # C's division, towards zero, of the sum of two numbers that may be negative.
        middle = np.trunc((first + last) / 2).astype(np.int64)
        crossed = first > last
        first, last = np.where(crossed, middle, first), np.where(crossed, middle, last)
        limit = np.array([size[1], size[0]])
        return np.hstack([np.clip(first, 1, limit), np.clip(last, 1, limit)]) - 1

    def to_region(self, boxes: Boxes, shorter: int, scale: int) -> Cells:
        """Project windows as Fast R-CNN does: pixels counted from 0, times 1/stride, rounded.

        The result may reach over the map.
        """
        scaled = (boxes - 1) * (scale / shorter)
        return np.floor(scaled / self.stride + 0.5).astype(np.int64)


def map_geometry(net: Net, blob: str, rounding: float | None = None) -> MapGeometry:
    """Derive the geometry of a feature map from the layers that lead to it.

    Parameters
    ----------
    net : Net
        With one picture as its input.
    blob : str
        The map.
    rounding : float, optional
        See :class:`MapGeometry`; 6.5 pixels for a stride of 16 by default, as SPP-net has it.

    Raises
    ------
    ModelError
        There is no such blob, or a layer before it is none of convolution, pooling and those that
        leave cells in their places.
    """
    graph = Graph(net)
    if blob not in graph.blobs:
        raise ModelError(f'the net has no blob "{blob}"; it has {", ".join(graph.blobs)}')
    shapes = infer_shapes(net)
    places: dict[str, Place] = {}
    last = net.layers.index(graph.producer(blob))
    for layer in net.layers[: last + 1]:
        try:
            place = _place(layer, shapes, places)
        except (KeyError, NotImplementedError):
            continue  # matters only where the map depends on it
        places.update(dict.fromkeys(layer.tops, place))
    if blob not in places:
        raise ModelError(
            f'blob "{blob}" is no map of the picture: a layer before it is none of convolution, '
            "pooling and those that leave cells in their places"
        )
    rows, columns = places[blob]
    if rows != columns:
        raise ModelError(
            f'blob "{blob}" has other strides or paddings in rows than in columns: {rows}, '
            f"{columns}; the projection of windows needs square ones"
        )
    stride, offset = rows
    return MapGeometry(
        stride,
        offset + 1,
        standard_size(net, blob),
        ROUNDING * stride if rounding is None else rounding,
    )


def standard_size(net: Net, blob: str) -> int:
    """Cells a side of a map for a crop of 224 pixels."""
    name = only_picture(net)
    channels = infer_shapes(net).blobs[name][1]
    upper = replace_layers(net, blob)
    shape = infer_shapes(upper, {name: (1, channels, STANDARD_CROP, STANDARD_CROP)}).blobs[blob]
    if len(shape) != 4:
        raise ModelError(f'blob "{blob}" has the shape {shape}; a map has four axes')
    return shape[2]


def replace_layers(net: Net, blob: str) -> Net:
    """Return the net without the layers behind the one that makes ``blob``."""
    result = net.copy()
    last = net.layers.index(Graph(net).producer(blob))
    result.layers = result.layers[: last + 1]
    return result


def only_picture(net: Net) -> str:
    """Name of the net's one input.

    Raises
    ------
    ModelError
        There are none or several.
    """
    inputs = Graph(net).inputs
    if len(inputs) != 1:
        raise ModelError(f"a detector's net has one input, this one has {len(inputs)}")
    return inputs[0]


def _place(layer: Layer, shapes: Shapes, places: dict[str, Place]) -> Place:
    """Place the cells of a layer's tops; NotImplementedError where they have no place."""
    if is_fed(layer):
        return (1, 0.0), (1, 0.0)
    found = [places[bottom] for bottom in layer.bottoms]
    bottoms, tops = shapes.bottoms[layer], shapes.tops[layer]
    if layer.type in ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution"):
        window = convolution_window(layer, 2)
    elif layer.type == "Pooling":
        window = Pooling().window(layer, bottoms[0])
    elif layer_type(layer).coupling(layer) in IN_PLACE and bottoms[0][2:] == tops[0][2:]:
        return _mean(found)
    else:
        raise NotImplementedError
    rows, columns = (
        (stride * step, offset + ((extent - 1) / 2 - pad) * stride)
        for (stride, offset), extent, step, pad in zip(
            found[0], window.extent(), window.stride, window.pad, strict=True
        )
    )
    return rows, columns


def _mean(found: Sequence[Place]) -> Place:
    """Place cells that come from several maps at the middle of what these see."""
    if len({tuple(stride for stride, _ in place) for place in found}) > 1:
        raise NotImplementedError
    rows, columns = (
        (axis[0][0], float(np.mean([offset for _, offset in axis])))
        for axis in zip(*found, strict=True)
    )
    return rows, columns
