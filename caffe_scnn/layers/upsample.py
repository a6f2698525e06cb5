"""Upsample: two forks that share a name."""

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
    ResampleSpec,
    Sampling,
    Shape,
    UnpoolSpec,
    refuse,
)
from caffe_scnn.model.net import Layer


class Upsample(LayerType):
    """Undo a pooling.

    With one bottom, every pixel becomes a block (fork eric612/MobileNet-YOLO). With two, every
    value goes to the place in the second, a mask of max pooling (fork alexgkendall/caffe-segnet);
    other places are 0.
    """

    type: ClassVar[str] = "Upsample"
    stock: ClassVar[bool] = False
    bottoms: ClassVar[tuple[int, int | None]] = (1, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the given size, or the bottom's times the scale less a padding row."""
        param, shape = layer.proto.upsample_param, bottoms[0]
        if len(shape) != 4 or any(other != shape for other in bottoms):
            raise refuse(layer, f"needs blobs of four axes and one shape, got {list(bottoms)}")
        if param.HasField("upsample_h") and param.HasField("upsample_w"):
            return [(*shape[:2], param.upsample_h, param.upsample_w)]
        scale = self._scale(layer, len(bottoms))
        pad = (param.pad_out_h, param.pad_out_w)
        if any(p and s != 2 for p, s in zip(pad, scale, strict=True)):
            raise refuse(layer, f"pad_out needs a scale of 2, got {scale}")
        size = (n * s - p for n, s, p in zip(shape[2:], scale, pad, strict=True))
        return [(*shape[:2], *size)]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Repeat, or scatter."""
        x, shape = bottoms[0], self.infer(layer, [b.shape for b in bottoms])[0]
        if len(bottoms) == 1:
            rows, columns = (_sources(n, m) for n, m in zip(shape[2:], x.shape[2:], strict=True))
            return [x[:, :, rows][:, :, :, columns]]
        y = np.zeros((*shape[:2], shape[2] * shape[3]))
        at = bottoms[1].astype(np.int64).reshape(*shape[:2], -1)
        if at.min() < 0 or at.max() >= y.shape[2]:
            raise refuse(layer, f"the mask points to {at.max()}, outside of {shape[2]}x{shape[3]}")
        # In file order, so that of several values for one place the last one stays.
        for n, c in np.ndindex(*shape[:2]):
            for place, value in zip(at[n, c], x[n, c].ravel(), strict=True):
                y[n, c, place] = value
        return [y.reshape(shape)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Repeat, or scatter."""
        if len(bottoms) == 2:
            return UnpoolSpec()
        wanted = self.infer(layer, bottoms)[0][2:]
        return ResampleSpec(
            *(
                Sampling(_sources(new, size), np.zeros(new, np.float32))
                for new, size in zip(wanted, bottoms[0][2:], strict=True)
            )
        )

    def coupling(self, layer: Layer) -> Coupling:
        """Join the channels of values and mask."""
        return Coupling.JOINS if len(layer.bottoms) > 1 else Coupling.PASSES

    def examples(self) -> list[Example]:
        """Blocks, and blocks of 3 x 2; a mask of random values points to a few places."""
        return [
            Example("upsample_param { scale: 2 }", ((2, 3, 4, 5),)),
            Example("upsample_param { scale_h: 3 scale_w: 2 }", ((1, 2, 2, 3),)),
            Example("upsample_param { upsample_h: 4 upsample_w: 5 }", ((2, 3, 2, 3),) * 2),
        ]

    def _scale(self, layer: Layer, bottoms: int) -> tuple[int, int]:
        param = layer.proto.upsample_param
        if param.HasField("scale_h") or param.HasField("scale_w"):
            scale = int(param.scale_h), int(param.scale_w)
        elif param.HasField("scale"):
            scale = (int(param.scale),) * 2
        else:
            scale = (2, 2) if bottoms == 2 else (1, 1)
        if min(scale) < 1:
            raise refuse(layer, f"scale {scale} must be positive")
        return scale


def _sources(wanted: int, size: int) -> NDArray[np.int64]:
    """Return which old pixel of an axis each new one repeats."""
    return np.arange(wanted, dtype=np.int64) * size // wanted
