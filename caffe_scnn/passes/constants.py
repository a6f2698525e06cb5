"""Channels that hold one value, whatever the net is given: those of filters without weights.

A row of zeros makes a constant channel of its bias. ReLU, BatchNorm, Scale, pooling, Concat and the
like hand it on; a convolution makes one of constants alone, unless its padding shows at the border.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Array, Coupling, Shape
from caffe_scnn.layers.deconvolution import Deconvolution
from caffe_scnn.layers.geometry import convolution_window
from caffe_scnn.model.graph import Value, is_fed
from caffe_scnn.model.net import Layer
from caffe_scnn.passes.channels import Channels
from caffe_scnn.passes.weight_blocks import rows_without, summed

# Rounding of a pooled constant at a border; anything that varies does so by far more.
UNIFORM = 1e-12

_THROUGH = (Coupling.PASSES, Coupling.MIXES, Coupling.JOINS)


def constant_channels(channels: Channels) -> dict[Value, Array]:
    """Return the value that every channel of every blob holds.

    Parameters
    ----------
    channels : Channels
        Of a net with its weights.

    Returns
    -------
    dict of Value to float64 ndarray
        One number for each index along axis 1, NaN where it varies or may vary.
    """
    found: dict[Value, Array] = {}
    for layer in channels.net.layers:
        bottoms = [found[value] for value in channels.graph.reads[layer]]
        tops = _tops(channels, layer, bottoms)
        found |= zip(channels.graph.writes[layer], tops, strict=True)
    return found


def by_column(channels: Channels, layer: Layer, constants: Array) -> Array:
    """Repeat the values of channels for all columns of a linear layer that read them."""
    return np.repeat(constants, len(channels.linear[layer].columns) // max(1, len(constants)))


def sees_border(layer: Layer) -> bool:
    """Tell whether a layer makes something else of a constant at a border than inside."""
    if layer.type == "InnerProduct":
        return False
    if isinstance(layer_type(layer), Deconvolution):
        return True
    return any(convolution_window(layer, layer.blobs[0].ndim - 2).pad)


def _tops(channels: Channels, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
    extents = [len(numbers) for numbers in channels.tops(layer)]
    varying = [np.full(extent, np.nan) for extent in extents]
    if is_fed(layer) or not bottoms:
        return varying
    if layer in channels.linear or layer in channels.depthwise:
        return [_linear(channels, layer, constants) for constants in bottoms]
    if not any(np.isfinite(constants).any() for constants in bottoms):
        return varying
    if layer.type == "Upsample" and len(bottoms) > 1:
        return varying  # its mask holds places, which no noise can stand for
    coupling = layer_type(layer).coupling(layer)
    if coupling is Coupling.CONCATENATES and len(extents) == 1:
        return [np.concatenate(bottoms)]
    if coupling is Coupling.SPLITS:
        return np.split(bottoms[0], np.cumsum(extents)[:-1])
    if coupling is Coupling.FLATTENS and extents[0] % max(1, len(bottoms[0])) == 0:
        return [np.repeat(bottoms[0], extents[0] // len(bottoms[0]))]
    if coupling in _THROUGH and extents == [len(bottoms[0])] * len(extents):
        return _through(layer, bottoms, channels.shapes.bottoms[layer])
    return varying


def _linear(channels: Channels, layer: Layer, constants: Array) -> Array:
    if layer in channels.linear:
        constants = by_column(channels, layer, constants)
    known = np.isfinite(constants)
    plain = (constants == 0) | (known & (not sees_border(layer)))
    rows = rows_without(channels, layer, ~plain)
    values = summed(channels, layer, np.where(plain & known, constants, 0.0))
    if len(layer.blobs) > 1:
        values = values + layer.blobs[1]
    return np.where(rows, values, np.nan)


def _through(layer: Layer, bottoms: Sequence[Array], shapes: Sequence[Shape]) -> list[Array]:
    """Let a layer compute its constants, with noise for everything else."""
    rng = np.random.default_rng(0)
    known = np.all([np.isfinite(constants) for constants in bottoms], axis=0)
    inputs = []
    for constants, shape in zip(bottoms, shapes, strict=True):
        x = rng.standard_normal((2, *shape[1:]))
        at = np.flatnonzero(np.isfinite(constants))
        x[:, at] = constants[at].reshape(-1, *[1] * (len(shape) - 2))
        inputs.append(x)
    with np.errstate(all="ignore"):
        tops = layer_type(layer).reference(layer, inputs)
    return [np.where(known, _uniform(top), np.nan) for top in tops]


def _uniform(values: Array) -> Array:
    """Return the value of every channel, NaN where it is not the same everywhere."""
    flat = values.swapaxes(0, 1).reshape(values.shape[1], -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    same = high - low <= UNIFORM * np.maximum(np.abs(high), np.abs(low))
    return np.where(same & np.isfinite(flat).all(axis=1), flat[:, 0], np.nan)
