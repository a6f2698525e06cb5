"""Takes constant bottoms out of sums, with the layers that make them.

Given ``y = c₁·x + c₂·k`` with k the same at every place (a residual block whose last filters are
zero, or have only a bias): nothing is left of the sum if c₁ = 1 and c₂·k = 0; otherwise a Bias, or
a Scale by c₁. Of three bottoms or more those that hold 0 go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Array, EltwiseSpec
from caffe_scnn.layers.shapes import Shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.channels import Channels
from caffe_scnn.passes.constants import constant_channels
from caffe_scnn.passes.weight_blocks import unrounded
from caffe_scnn.passes.wiring import in_place_reader, remove_identity


def remove_constant_branches(net: Net) -> list[str]:
    """Simplify sums of a net in place; returns a note for each and for every layer that goes."""
    channels = Channels(net)
    constants = constant_channels(channels)
    outputs = set(channels.graph.outputs)
    notes = []
    for layer in [layer for layer in net if layer.type == "Eltwise"]:
        bottoms = [constants[value] for value in channels.graph.reads[layer]]
        sum_ = _without_constants(layer, bottoms, channels.shapes)
        if layer not in net.layers or sum_ is None:
            continue
        notes.append(f'"{layer.name}" (Eltwise): left out what is constant')
        notes += _remove_unread(net, outputs)  # first of all: who reads what is left?
        _write(net, layer, sum_, outputs)
    return notes


@dataclass(frozen=True, eq=False)
class _Sum:
    """``Σ coefficients·bottoms + shift``."""

    coefficients: tuple[float, ...]
    shift: Array


def _without_constants(layer: Layer, bottoms: list[Array], shapes: Shapes) -> _Sum | None:
    """Leave constant bottoms out of a sum; None where nothing can be left out."""
    spec = layer_type(layer).lower(layer, shapes.bottoms[layer])
    assert isinstance(spec, EltwiseSpec)
    constant = [len(values) > 0 and bool(np.isfinite(values).all()) for values in bottoms]
    varying = [i for i, is_constant in enumerate(constant) if not is_constant]
    if spec.operation != "sum" or not varying or not any(constant):
        return None
    terms = [
        c * k for c, k, is_one in zip(spec.coefficients, bottoms, constant, strict=True) if is_one
    ]
    shift = np.sum(terms, axis=0)
    if len(varying) > 1 and shift.any():
        return None
    layer.proto.bottom[:] = [layer.bottoms[i] for i in varying]
    return _Sum(tuple(spec.coefficients[i] for i in varying), shift)


def _write(net: Net, layer: Layer, sum_: _Sum, outputs: set[str]) -> None:
    """Write a sum as an Eltwise, Bias or Scale, or as nothing."""
    coefficients = sum_.coefficients
    if len(coefficients) > 1:
        if layer.proto.eltwise_param.coeff:
            layer.proto.eltwise_param.coeff[:] = coefficients
        return
    layer.proto.ClearField("eltwise_param")
    if coefficients == (1.0,) and not sum_.shift.any() and _can_vanish(net, layer, outputs):
        remove_identity(net, layer)
    elif coefficients == (1.0,):
        layer.proto.type, layer.blobs = "Bias", [unrounded(sum_.shift)]
    else:
        layer.proto.type = "Scale"
        layer.proto.scale_param.bias_term = True
        factor = np.full(len(sum_.shift), coefficients[0])
        layer.blobs = [unrounded(factor), unrounded(sum_.shift)]


def _can_vanish(net: Net, layer: Layer, outputs: set[str]) -> bool:
    """Tell whether readers of the top may read the bottom instead."""
    if outputs & {*layer.tops, *layer.bottoms}:
        return False
    alone = len(Graph(net).reads[layer][0].consumers) == 1
    return alone or in_place_reader(net, layer) is None


def _remove_unread(net: Net, outputs: set[str]) -> list[str]:
    """Remove layers that nobody reads and that made no output of the net before."""
    notes = []
    for layer in net.layers[::-1]:
        written = Graph(net).writes[layer]
        if not layer.bottoms or not written or any(value.consumers for value in written):
            continue
        if not outputs & set(layer.tops):
            net.remove(layer)
            notes.append(f'removed "{layer.name}" ({layer.type}): nobody reads it any more')
    return notes
