"""The fully connected part of a detector as a Caffe net of its own: pooled windows in."""

from __future__ import annotations

import numpy as np

from caffe_scnn.engine.tensor import Float32
from caffe_scnn.errors import ModelError
from caffe_scnn.layers.base import refuse
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.remove_dead import remove_dead
from caffe_scnn.proto import caffe_pb2 as pb

INPUT = "pooled"


def cut_fc_net(net: Net, blob: str, pooled: int) -> Net:
    """Cut the fully connected layers out of a classification net.

    Parameters
    ----------
    net : Net
    blob : str
        What is classified: fc7 of CaffeNet, ZF-5 and VGG.
    pooled : int
        Values of a pooled window, which the first of these layers must take; in Caffe's order,
        level by level, each channel-major.

    Returns
    -------
    Net
        From the input ``pooled`` (1, values) to ``blob``.

    Raises
    ------
    ModelError
        There is no such blob, no fully connected layer leads to it, or the first one takes another
        number of values.
    """
    cut = remove_dead(net, [blob]).net
    first = next((layer for layer in cut.layers if layer.type == "InnerProduct"), None)
    if first is None:
        raise ModelError(f'no fully connected layer leads to blob "{blob}"')
    wanted = first.blobs[0].shape[-1]
    if wanted != pooled:
        raise refuse(
            first,
            f"takes {wanted} values, the pyramid gives {pooled} a window; choose levels so that "
            "channels times bins is what the layer takes",
        )
    at = cut.layers.index(first)
    before = set(Graph(cut).blobs) - {top for layer in cut.layers[at:] for top in layer.tops}
    for layer in cut.layers[at + 1 :]:
        if set(layer.bottoms) & before:
            raise refuse(layer, f'reads a blob from before "{first.name}"; it cannot be cut there')
    first.proto.bottom[:] = [INPUT]
    cut.layers = [_input(pooled), *cut.layers[at:]]
    return cut


def reduction_net(weights: Float32) -> Net:
    """Return the net of one linear layer ``fc6`` without bias, weights (outputs, pooled)."""
    proto = pb.LayerParameter(name="fc6", type="InnerProduct", bottom=[INPUT], top=["fc6"])
    proto.inner_product_param.num_output = len(weights)
    proto.inner_product_param.bias_term = False
    net = Net.parse('name: "reduction"')
    net.layers = [_input(weights.shape[1]), Layer(proto, [np.ascontiguousarray(weights)])]
    return net


def _input(values: int) -> Layer:
    proto = pb.LayerParameter(name=INPUT, type="Input", top=[INPUT])
    proto.input_param.shape.add(dim=[1, values])
    return Layer(proto)
