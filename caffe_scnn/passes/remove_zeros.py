"""Removes what is zero already: filters, input channels, taps, branches of sums.

Nothing that the net computes changes. A channel goes, with the filters that make it and the weights
that read it, everywhere (see :mod:`~caffe_scnn.passes.narrow`), when every layer that reads it can
do without, because

1. its weights for the channel are zero, or the channel holds 0: nothing is missing; or
2. the channel holds another constant (a filter of zeros has its bias), which becomes part of the
   reader's bias; not where the reader pads, since the border would show, or shares its weights.

A bottom of an Eltwise sum that is constant goes, too, with the layers that make it: a residual
block without weights. Of a sum of one bottom nothing, a Bias or a Scale remains. Last, kernels
lose their rims of zeros (:mod:`~caffe_scnn.passes.trim_kernels`).

Left alone: channels of the net's inputs and outputs, those that meet a layer they cannot be
followed through, an LRN across channels (neighbours would move closer), or groups that would become
unequal; the last channel of a layer that stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from caffe_scnn.errors import PassError
from caffe_scnn.layers import layer_type, reference
from caffe_scnn.layers.base import Array, Coupling, Shape, count
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph, Value
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import PassResult
from caffe_scnn.passes.channels import Channels
from caffe_scnn.passes.constants import by_column, constant_channels, sees_border
from caffe_scnn.passes.narrow import Flags, balanced, cut
from caffe_scnn.passes.trim_kernels import trim_kernels
from caffe_scnn.passes.weight_blocks import summed, unread, unrounded
from caffe_scnn.passes.zero_branches import remove_constant_branches

# Of the largest output: rounding of float64 sums in another order, over many layers.
TOLERANCE = 1e-9


def remove_zeros(net: Net) -> PassResult:
    """Remove zero filters, inputs, taps and branches; outputs stay (see the module).

    Parameters
    ----------
    net : Net
        Phase selected and weights bound.

    Raises
    ------
    PassError
        An output on a random input differs by more than rounding: the pass is wrong.
    """
    result = net.copy()
    notes: list[str] = []
    while True:
        found = remove_constant_branches(result)
        if not found:
            step = _remove_channels(result)
            result, found = step.net, list(step.notes)
        if not found:
            break
        notes += found
    notes += trim_kernels(result)
    if notes:
        _check(net, result)
    # Biases took constants up in float64; only now are they rounded.
    for layer in result.layers:
        layer.blobs = [np.asarray(blob, np.float32) for blob in layer.blobs]
    return PassResult(result, len(notes), tuple(notes))


def _remove_channels(net: Net) -> PassResult:
    channels = Channels(net)
    constants = constant_channels(channels)
    gone = np.ones(channels.count, bool)
    for layer in net.layers:
        if layer in channels.linear:
            for value in channels.graph.reads[layer]:
                spared = _can_do_without(channels, layer, constants[value])
                gone[channels.linear[layer].columns[~spared]] = False
        elif layer_type(layer).coupling(layer) is Coupling.MIXES:
            gone[np.concatenate(channels.bottoms(layer))] = False
    gone, _ = balanced(channels, gone)
    if not gone.any():
        return PassResult(net, 0, ())
    for layer in channels.linear:
        _take_up(channels, layer, constants, gone)
    return cut(channels, gone)


def _can_do_without(channels: Channels, layer: Layer, constants: Array) -> Flags:
    """Tell for every column of a linear layer whether its channel may go."""
    known = by_column(channels, layer, constants)
    spared: Flags = unread(channels, layer) | (known == 0)
    shared = len(layer.bottoms) > 1 or any(spec.name for spec in layer.proto.param)
    if not shared and not sees_border(layer):
        spared |= np.isfinite(known)
    return spared


def _take_up(
    channels: Channels, layer: Layer, constants: Mapping[Value, Array], gone: Flags
) -> None:
    """Put what the constants that go make of a layer's rows into its bias."""
    first = channels.graph.reads[layer][0]
    going = gone[channels.linear[layer].columns]
    known = np.nan_to_num(by_column(channels, layer, constants[first]), nan=0.0)
    shift = summed(channels, layer, np.where(going, known, 0.0))
    if not shift.any():
        return
    if len(layer.blobs) > 1:
        layer.blobs[1] = unrounded(layer.blobs[1] + shift)
        return
    layer.blobs.append(unrounded(shift))
    inner = layer.type == "InnerProduct"
    param = layer.proto.inner_product_param if inner else layer.proto.convolution_param
    param.ClearField("bias_term")  # the default is true


def _check(before: Net, after: Net) -> None:
    """Compare the outputs of both nets on one random input."""
    rng = np.random.default_rng(0)
    shapes = infer_shapes(before)
    inputs = {name: _noise(rng, shapes.blobs[name]) for name in Graph(before).inputs}
    want, got = (reference.run(net, inputs) for net in (before, after))
    for blob, values in want.items():
        if blob not in got or got[blob].shape != values.shape:
            raise PassError(f'remove_zeros: output "{blob}" has changed its shape or name')
        error = np.abs(got[blob] - values).max(initial=0.0)
        if not error <= TOLERANCE * max(1.0, np.abs(values).max(initial=0.0)):
            raise PassError(f'remove_zeros: output "{blob}" differs by {error:.3g}')


def _noise(rng: np.random.Generator, shape: Shape) -> Array:
    """Return random values, or class 0 where an item has only one value: a label."""
    if count(shape[1:]) == 1:
        return np.zeros(shape)
    return rng.standard_normal(shape)
