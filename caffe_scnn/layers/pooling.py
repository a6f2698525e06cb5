"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Coupling,
    Example,
    LayerType,
    MaskedPoolingSpec,
    OpSpec,
    PoolingSpec,
    ReferenceSpec,
    Shape,
    refuse,
)
from caffe_scnn.layers.geometry import Window
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb

MAX, AVE = pb.PoolingParameter.MAX, pb.PoolingParameter.AVE
LOWEST = float(np.finfo(np.float32).min)  # what Caffe leaves in a window without cells


class Pooling(LayerType):
    """Maximum or average of a sliding window (``pooling_layer.cpp``).

    Windows may hang over the lower and right edge: Caffe rounds their number up. An average
    divides by the window clipped to the padded image.
    """

    type: ClassVar[str] = "Pooling"
    tops: ClassVar[tuple[int, int | None]] = (1, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Round up (or down), and with padding drop a last window that starts outside."""
        shape = bottoms[0]
        if len(shape) != 4:
            raise refuse(layer, f"needs a blob of four axes, got shape {shape}")
        param = layer.proto.pooling_param
        if len(layer.tops) > 1 and param.pool != MAX:
            raise refuse(layer, "only max pooling has a second top (the positions)")
        window = self.window(layer, shape)
        size = []
        for n, k, s, p in zip(shape[2:], window.kernel, window.stride, window.pad, strict=True):
            span = n + 2 * p - k
            floor = param.round_mode == pb.PoolingParameter.FLOOR or not param.ceil_mode
            out = (span // s if floor else -(-span // s)) + 1
            if any(window.pad) and (out - 1) * s >= n + p:
                out -= 1
            size.append(out)
        return [(*shape[:2], *size)] * len(layer.tops)

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Window by window, all channels at once."""
        x = bottoms[0]
        if layer.proto.pooling_param.pool not in (MAX, AVE):
            raise refuse(layer, "stochastic pooling does not run on a CPU")
        window = self.window(layer, x.shape)
        shape = self.infer(layer, [x.shape])[0]
        y, mask = np.empty(shape), np.full(shape, -1.0)
        for i, j in np.ndindex(*shape[2:]):
            self._pool(layer, x, window, (i, j), y, mask)
        return [y, mask][: len(layer.tops)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Windows that all have cells have kernels, or an op if positions are wanted."""
        window = self.window(layer, bottoms[0])
        output = self.infer(layer, bottoms)[0]
        method = layer.proto.pooling_param.pool
        empty = any(
            (out - 1) * s - p >= n
            for out, s, p, n in zip(
                output[2:], window.stride, window.pad, bottoms[0][2:], strict=True
            )
        )
        if empty or method not in (MAX, AVE):
            return ReferenceSpec()
        kernel, stride, pad = ((v[0], v[1]) for v in (window.kernel, window.stride, window.pad))
        if len(layer.tops) > 1:
            return MaskedPoolingSpec(kernel, stride, pad)
        return PoolingSpec("max" if method == MAX else "ave", kernel, stride, pad)

    def coupling(self, layer: Layer) -> Coupling:
        """Channel by channel."""
        return Coupling.PASSES

    def examples(self) -> list[Example]:
        """Overhanging, padded, global, with positions."""
        return [
            Example("pooling_param { kernel_size: 3 stride: 2 }", ((2, 3, 8, 7),)),
            Example("pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", ((2, 3, 7, 8),)),
            Example("pooling_param { pool: AVE global_pooling: true }", ((1, 3, 4, 5),)),
            Example("pooling_param { kernel_h: 2 kernel_w: 3 }", ((1, 2, 5, 5),), tops=2),
            Example(
                "pooling_param { kernel_size: 3 stride: 2 pad_h: 1 pad_w: 0 }",
                ((2, 3, 8, 8),),
                tops=2,
            ),
        ]

    def window(self, layer: Layer, shape: Shape) -> Window:
        """Read ``pooling_param``."""
        param = layer.proto.pooling_param
        pair = param.HasField("kernel_h") or param.HasField("kernel_w")
        if param.global_pooling:
            if pair or param.HasField("kernel_size"):
                raise refuse(layer, "global_pooling has no kernel size of its own; leave it out")
            kernel = shape[2:4]
        elif pair and param.HasField("kernel_size"):
            raise refuse(layer, "give either kernel_size or kernel_h and kernel_w, not both")
        else:
            kernel = (param.kernel_h, param.kernel_w) if pair else (param.kernel_size,) * 2
        stride = _pair(param, "stride")
        pad = _pair(param, "pad")
        if min(kernel) < 1:
            raise refuse(layer, "kernel_size is missing; give it, or global_pooling: true")
        if min(stride) < 1:
            raise refuse(layer, f"stride {stride} must be positive")
        if param.global_pooling and (any(pad) or stride != (1, 1)):
            raise refuse(layer, "global_pooling takes neither pad nor stride")
        if any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise refuse(layer, f"pad {pad} must be smaller than the kernel {kernel}")
        return Window(kernel, stride, pad, (1, 1))

    def _pool(
        self,
        layer: Layer,
        x: Array,
        window: Window,
        at: tuple[int, int],
        y: Array,
        mask: Array,
    ) -> None:
        """Pool the window of one output pixel."""
        start = [i * s - p for i, s, p in zip(at, window.stride, window.pad, strict=True)]
        clipped = [
            min(a + k, n + p)
            for a, k, n, p in zip(start, window.kernel, x.shape[2:], window.pad, strict=True)
        ]
        (top, left), (bottom, right) = (
            [max(a, 0) for a in start],
            [min(b, n) for b, n in zip(clipped, x.shape[2:], strict=True)],
        )
        cells = x[:, :, top : max(bottom, top), left : max(right, left)]
        if layer.proto.pooling_param.pool == AVE:
            area = (clipped[0] - start[0]) * (clipped[1] - start[1])
            y[:, :, at[0], at[1]] = cells.sum(axis=(2, 3)) / area if area else np.nan
        elif cells.shape[2] * cells.shape[3] == 0:
            y[:, :, at[0], at[1]] = LOWEST
        else:
            flat = cells.reshape(*cells.shape[:2], -1)
            best = flat.argmax(axis=2)
            y[:, :, at[0], at[1]] = flat.max(axis=2)
            row, column = np.divmod(best, cells.shape[3])
            mask[:, :, at[0], at[1]] = (top + row) * x.shape[3] + left + column


def _pair(param: pb.PoolingParameter, name: str) -> tuple[int, int]:
    """Read ``name`` or ``name_h`` and ``name_w``."""
    if param.HasField(f"{name}_h") or param.HasField(f"{name}_w"):
        return int(getattr(param, f"{name}_h")), int(getattr(param, f"{name}_w"))
    return (int(getattr(param, name)),) * 2
