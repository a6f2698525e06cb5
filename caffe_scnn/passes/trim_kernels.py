"""Takes rims of zeros off the kernels of convolutions.

Given a kernel whose first and last ``t`` taps along an axis are zero in all filters, and padding of
at least ``t·dilation``, the result has ``2t`` taps fewer and padding less by ``t·dilation``: the
same windows, for inputs of any size. A 3×3 kernel of which only the middle is left becomes 1×1.

Left alone: what would need more on one side than on the other; Deconvolution; weights shared under
a name.
"""

from __future__ import annotations

import numpy as np

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Weights
from caffe_scnn.layers.convolution import Convolution
from caffe_scnn.layers.deconvolution import Deconvolution
from caffe_scnn.layers.geometry import Window, convolution_window
from caffe_scnn.model.net import Layer, Net


def trim_kernels(net: Net) -> list[str]:
    """Trim the kernels of a net in place; returns a note for each that became smaller."""
    notes = []
    for layer in net.layers:
        if not _takes(layer):
            continue
        weights = layer.blobs[0]
        window = convolution_window(layer, weights.ndim - 2)
        rims = _rims(weights, window)
        if any(rims):
            _trim(layer, window, rims)
            before, after = ("x".join(map(str, w.shape[2:])) for w in (weights, layer.blobs[0]))
            notes.append(f'"{layer.name}" ({layer.type}): its kernel of {before} became {after}')
    return notes


def _takes(layer: Layer) -> bool:
    kind = layer_type(layer)
    return (
        isinstance(kind, Convolution)
        and not isinstance(kind, Deconvolution)
        and not any(spec.name for spec in layer.proto.param)
        and layer.proto.convolution_param.axis == 1
        and bool(layer.blobs)
    )


def _rims(weights: Weights, window: Window) -> list[int]:
    """Return how many taps can go at both ends of every spatial axis."""
    rims = []
    for axis, (pad, dilation) in enumerate(zip(window.pad, window.dilation, strict=True), 2):
        others = tuple(i for i in range(weights.ndim) if i != axis)
        used = np.flatnonzero(weights.any(axis=others))
        size = weights.shape[axis]
        first, last = (used[0], used[-1]) if len(used) else (size // 2, size // 2)
        rims.append(min(int(first), size - 1 - int(last), pad // dilation))
    return rims


def _trim(layer: Layer, window: Window, rims: list[int]) -> None:
    inner = tuple(slice(t, size - t) for t, size in zip(rims, window.kernel, strict=True))
    layer.blobs[0] = np.ascontiguousarray(layer.blobs[0][(slice(None), slice(None), *inner)])
    param = layer.proto.convolution_param
    kernel = [size - 2 * t for size, t in zip(window.kernel, rims, strict=True)]
    pad = [p - t * d for p, t, d in zip(window.pad, rims, window.dilation, strict=True)]
    for field in ("kernel_size", "kernel_h", "kernel_w", "pad", "pad_h", "pad_w"):
        param.ClearField(field)
    param.kernel_size.extend(kernel[:1] if len(set(kernel)) == 1 else kernel)
    if any(pad):
        param.pad.extend(pad[:1] if len(set(pad)) == 1 else pad)
