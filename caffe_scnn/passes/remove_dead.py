"""Removes layers that do not lead to the outputs that are kept.

Without names the net's own outputs are kept: then only layers go whose every result ends in a
Silence layer. Inputs that nobody reads any more go too.
"""

from __future__ import annotations

from collections.abc import Sequence

from caffe_scnn.errors import ModelError
from caffe_scnn.model.graph import Graph, Value
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import PassResult, check_shapes
from caffe_scnn.passes.wiring import check_same_results


def remove_dead(net: Net, outputs: Sequence[str] = ()) -> PassResult:
    """Keep what leads to some blobs (see the module).

    Parameters
    ----------
    net : Net
    outputs : sequence of str
        Blobs to keep, with their last values; the net's outputs by default.

    Raises
    ------
    ModelError
        The net has no such blob.
    PassError
        A blob that is kept is not computed as before.
    """
    graph = Graph(net)
    kept = list(outputs) or graph.outputs
    for name in kept:
        if name not in graph.blobs:
            raise ModelError(f'the net has no blob "{name}"; it has {", ".join(graph.blobs)}')
    needed: set[Layer] = set()
    waiting: list[Value] = [graph.blobs[name] for name in kept]
    while waiting:
        producer = waiting.pop().producer
        if producer not in needed:
            needed.add(producer)
            waiting += graph.reads[producer]
    result = net.copy()
    pairs = list(zip(net.layers, result.layers, strict=True))
    dead = [new for old, new in pairs if old not in needed]
    result.layers = [new for old, new in pairs if old in needed]
    check_shapes(net, result, "remove_dead")
    check_same_results(net, result, kept, "remove_dead")
    notes = tuple(f'removed "{layer.name}" ({layer.type})' for layer in dead)
    return PassResult(result, len(dead), notes)
