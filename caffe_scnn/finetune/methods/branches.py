"""Residual branches: layers that a shortcut leads around."""

from __future__ import annotations

from caffe_scnn.model.graph import Graph, Value
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.proto import caffe_pb2 as pb


def residual_branches(net: Net) -> dict[str, list[Layer]]:
    """Return the layers of every branch beside an identity, by the name of the Eltwise sum.

    A branch is a chain of layers of one bottom from a value to a sum that has this value itself as
    its other bottom. Without the branch the signal still passes; a branch beside a projection is
    none, since the projection is a layer as well.
    """
    graph = Graph(net)
    found = {}
    for layer in net:
        summed = layer.type == "Eltwise" and (
            layer.proto.eltwise_param.operation == pb.EltwiseParameter.SUM
        )
        if not summed or len(layer.bottoms) != 2:
            continue
        one, other = graph.reads[layer]
        chain = _chain(graph, one, other) or _chain(graph, other, one)
        if chain:
            found[layer.name] = chain
    return found


def _chain(graph: Graph, end: Value, start: Value) -> list[Layer]:
    """Return the layers that make ``end`` out of ``start`` alone; none if others have a part."""
    layers: list[Layer] = []
    value = end
    while value is not start:
        layer = value.producer
        only = len(value.consumers) == 1 and len(graph.writes[layer]) == 1
        if not only or len(graph.reads[layer]) != 1:
            return []
        layers.append(layer)
        value = graph.reads[layer][0]
    return layers[::-1]
