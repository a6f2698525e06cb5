"""Removes what only training needs: losses, accuracies, labels, Dropout and Silence.

| layer | becomes |
|---|---|
| ...Loss, Accuracy, Silence | removed; what it read is an output if nobody else reads it |
| Input or DummyData that only such layers read | removed |
| Dropout | removed: at TEST it hands its bottom on |

A Dropout whose top is an output keeps the output's name: the blob before it is renamed.
"""

from __future__ import annotations

from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import PassResult
from caffe_scnn.passes.wiring import (
    check_same_results,
    in_place_reader,
    remove_identity,
    rename_blob,
)

SOURCES = ("Input", "DummyData")


def strip_training(net: Net) -> PassResult:
    """Leave the part of a net that is for deployment (see the module).

    Raises
    ------
    PassError
        A blob that is left is not computed as before.
    """
    result = net.copy()
    notes: list[str] = []
    ends = [layer for layer in result.layers if _only_trains(layer)]
    if len(ends) == len(result.layers):
        return PassResult(result, 0, ("left everything: the net has no other layers",))
    for layer in ends:
        result.remove(layer)
        notes.append(f'removed "{layer.name}" ({layer.type})')
    if ends:
        _remove_sources(net, result, notes)
    removed = len(notes)
    for layer in list(result.layers):
        if layer.type == "Dropout":
            reason = _remove_dropout(result, layer)
            removed += not reason
            notes.append(
                f'left "{layer.name}": {reason}' if reason else f'removed "{layer.name}" (Dropout)'
            )
    check_same_results(net, result, Graph(result).blobs, "strip_training")
    return PassResult(result, removed, tuple(notes))


def _only_trains(layer: Layer) -> bool:
    return layer.type in ("Accuracy", "Silence") or layer.type.endswith("Loss")


def _remove_sources(net: Net, result: Net, notes: list[str]) -> None:
    """Take out labels: what was read before, but is not any more."""
    read = {bottom for layer in net for bottom in layer.bottoms}
    still = {bottom for layer in result for bottom in layer.bottoms}
    for layer in list(result.layers):
        if layer.type not in SOURCES:
            continue
        unread = [top for top in layer.tops if top in read and top not in still]
        if len(unread) == len(layer.tops):
            result.remove(layer)
            notes.append(f'removed "{layer.name}" ({layer.type}): only training read it')


def _remove_dropout(net: Net, layer: Layer) -> str | None:
    """Take a Dropout out, or return why not."""
    bottom, top = layer.bottoms[0], layer.tops[0]
    graph = Graph(net)
    is_output = not graph.writes[layer][0].consumers
    only_reader = len(graph.reads[layer][0].consumers) == 1
    if top != bottom and not only_reader:
        if is_output:
            return f'its top "{top}" is an output, its bottom is read by others'
        if reader := in_place_reader(net, layer):
            return f'"{reader}" works in place on its top, its bottom is read by others'
    if is_output and graph.reads[layer][0].producer.type == "Input":
        return f'its top "{top}" is an output, its bottom an input'
    remove_identity(net, layer)
    if is_output and top != bottom:
        rename_blob(net, bottom, top)
    return None
