"""Interp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    ResampleSpec,
    Sampling,
    Shape,
    ViewSpec,
    count,
    refuse,
)
from caffe_scnn.model.net import Layer


class Interp(LayerType):
    """Bilinear resizing that maps corner pixels to corner pixels (forks DeepLab v2, PSPNet)."""

    type: ClassVar[str] = "Interp"
    stock: ClassVar[bool] = False

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shrink, zoom, or take the given size; pads are negative: they cut."""
        shape, param = bottoms[0], layer.proto.interp_param
        if len(shape) != 4:
            raise refuse(layer, f"needs a blob of four axes, got shape {shape}")
        if param.pad_beg > 0 or param.pad_end > 0:
            raise refuse(layer, "pad_beg and pad_end cut, so they must not be positive")
        given = param.HasField("height") and param.HasField("width")
        shrinks, zooms = param.HasField("shrink_factor"), param.HasField("zoom_factor")
        if not (given or shrinks or zooms):
            raise refuse(layer, "give height and width, zoom_factor or shrink_factor")
        if min(param.shrink_factor, param.zoom_factor) < 1:
            raise refuse(layer, "zoom_factor and shrink_factor must be 1 or more")
        if given and shrinks == zooms:
            return [(*shape[:2], param.height, param.width)]
        size = [n + param.pad_beg + param.pad_end for n in shape[2:]]
        size = [(n - 1) // param.shrink_factor + 1 for n in size]
        return [(*shape[:2], *(n + (n - 1) * (param.zoom_factor - 1) for n in size))]

    def macs(self, layer: Layer, bottoms: Sequence[Shape]) -> int:
        """Four a pixel."""
        return 4 * count(self.infer(layer, bottoms)[0])

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Interpolate along rows, then along columns."""
        param = layer.proto.interp_param
        shape = self.infer(layer, [bottoms[0].shape])[0]
        end = [n + param.pad_end for n in bottoms[0].shape[2:]]
        x = bottoms[0][:, :, -param.pad_beg : end[0], -param.pad_beg : end[1]]
        rows, columns = (_weights(x.shape[axis], shape[axis]) for axis in (2, 3))
        return [np.einsum("ih,nchw,jw->ncij", rows, x, columns, optimize=True)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Say for each row and column between which two it lies."""
        param, wanted = layer.proto.interp_param, self.infer(layer, bottoms)[0]
        if wanted == bottoms[0] and not (param.pad_beg or param.pad_end):
            return ViewSpec()
        samplings = []
        for size, new in zip(bottoms[0][2:], wanted[2:], strict=True):
            at = _positions(size + param.pad_beg + param.pad_end, new)
            low = at.astype(np.int64)
            samplings.append(Sampling(low - param.pad_beg, (at - low).astype(np.float32)))
        return ResampleSpec(*samplings)

    def coupling(self, layer: Layer) -> Coupling:
        """Channel by channel."""
        return Coupling.PASSES

    def examples(self) -> list[Example]:
        """Give a size, a zoom, a shrink with cut borders."""
        return [
            Example("interp_param { height: 7 width: 9 }", ((2, 3, 4, 5),)),
            Example("interp_param { zoom_factor: 3 }", ((1, 2, 1, 5),)),
            Example(
                "interp_param { shrink_factor: 2 zoom_factor: 3 pad_beg: -1 pad_end: -1 }",
                ((1, 2, 9, 8),),
            ),
        ]


def _weights(size: int, wanted: int) -> Array:
    """Return the matrix (wanted, size) that interpolates along one axis."""
    matrix = np.zeros((wanted, size))
    at = _positions(size, wanted)
    low = np.minimum(at.astype(int), size - 1)
    matrix[np.arange(wanted), low] += 1 - (at - low)
    matrix[np.arange(wanted), np.minimum(low + 1, size - 1)] += at - low
    return matrix


def _positions(size: int, wanted: int) -> Array:
    """Return where the new pixels of an axis lie among the old ones, both ends included."""
    at = np.arange(wanted) * ((size - 1) / (wanted - 1) if wanted > 1 else 0.0)
    return np.asarray(at.clip(max=size - 1), np.float64)  # rounding may lead beyond the last one
