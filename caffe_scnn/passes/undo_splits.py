"""Removes Split layers, which Caffe inserts by itself and which some tools write out.

Given ``a → Split → b, c``, who read b or c reads a. A top that is an output of the net has
nobody to rename: such a layer is left alone, with a note, and so is one whose top a later layer
changes in place, since that would change the other readers' values.
"""

from __future__ import annotations

from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import PassResult, check_shapes
from caffe_scnn.passes.wiring import check_same_results, in_place_reader, remove_identity


def undo_splits(net: Net) -> PassResult:
    """Remove every Split layer whose tops are only read (see the module).

    Raises
    ------
    PassError
        An output is not computed as before.
    """
    result = net.copy()
    notes: list[str] = []
    removed = 0
    for layer in list(result.layers):
        if layer.type != "Split":
            continue
        reason = _keep(result, layer)
        if reason:
            notes.append(f'left "{layer.name}": {reason}')
            continue
        remove_identity(result, layer)
        removed += 1
        notes.append(f'removed "{layer.name}"')
    check_shapes(net, result, "undo_splits")
    check_same_results(net, result, Graph(net).outputs, "undo_splits")
    return PassResult(result, removed, tuple(notes))


def _keep(net: Net, layer: Layer) -> str | None:
    for value in Graph(net).writes[layer]:
        if not value.consumers:
            return f'its top "{value.name}" is an output of the net'
    reader = in_place_reader(net, layer)
    return f'"{reader}" works in place on one of its tops' if reader else None
