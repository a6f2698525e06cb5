"""Windows that slide over spatial axes: the parameters of convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from caffe_scnn.layers.base import Array, Shape, refuse
from caffe_scnn.model.net import Layer

if TYPE_CHECKING:
    from caffe_scnn.proto import caffe_pb2 as pb


@dataclass(frozen=True)
class Window:
    """Kernel, stride, pad and dilation, one value for each spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    def extent(self) -> tuple[int, ...]:
        """Pixels from the first tap to the last."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def floor_output(self, size: Sequence[int]) -> Shape:
        """Size of a convolution's result: windows that lie wholly inside the padded input."""
        return tuple(
            (n + 2 * p - e) // s + 1 if n + 2 * p >= e else 0
            for n, p, e, s in zip(size, self.pad, self.extent(), self.stride, strict=True)
        )

    def taps(self, x: Array, output: Sequence[int]) -> list[Array]:
        """Cut the padded input (N, C, …) into one array of the output's size for each tap."""
        border = [(0, 0), (0, 0), *((p, p) for p in self.pad)]
        padded = np.pad(x, border)
        return [padded[tap] for tap in self.tap_slices(output)]

    def tap_slices(self, output: Sequence[int]) -> list[tuple[slice, ...]]:
        """Index, for each tap, the padded pixels (N, C, …) that it meets at every output pixel."""
        return [
            (
                slice(None),
                slice(None),
                *(
                    slice(i * d, i * d + s * (n - 1) + 1, s)
                    for i, d, s, n in zip(position, self.dilation, self.stride, output, strict=True)
                ),
            )
            for position in product(*(range(k) for k in self.kernel))
        ]


def convolution_window(layer: Layer, axes: int) -> Window:
    """Read a ``convolution_param`` for a number of spatial axes.

    Raises
    ------
    ModelError
        List and ``_h``/``_w`` forms together, or a wrong number of values.
    """
    param = layer.proto.convolution_param
    window = Window(
        _values(layer, param, "kernel_size", "kernel", axes, None),
        _values(layer, param, "stride", "stride", axes, 1),
        _values(layer, param, "pad", "pad", axes, 0),
        _values(layer, param, "dilation", None, axes, 1),
    )
    if min(window.kernel, default=1) < 1:
        raise refuse(layer, f"kernel size {window.kernel} must be positive")
    if min((*window.stride, *window.dilation), default=1) < 1:
        raise refuse(
            layer, f"stride {window.stride} and dilation {window.dilation} must be positive"
        )
    return window


def _values(
    layer: Layer,
    param: pb.ConvolutionParameter,
    name: str,
    prefix: str | None,
    axes: int,
    default: int | None,
) -> tuple[int, ...]:
    listed = list(getattr(param, name))
    pair = [f"{prefix}_h", f"{prefix}_w"] if prefix else []
    if any(param.HasField(part) for part in pair):
        if listed:
            raise refuse(layer, f"give either {name} or {pair[0]} and {pair[1]}, not both")
        if axes != 2:
            raise refuse(layer, f"{pair[0]} and {pair[1]} need two spatial axes, not {axes}")
        return tuple(int(getattr(param, part)) for part in pair)
    if not listed and default is not None:
        return (default,) * axes
    if len(listed) not in (1, axes):
        raise refuse(layer, f"has {len(listed)} values of {name} for {axes} spatial axes")
    return tuple(int(v) for v in listed) if len(listed) == axes else (int(listed[0]),) * axes
