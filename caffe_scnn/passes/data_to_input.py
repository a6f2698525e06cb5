"""Replaces layers that read databases and files by an Input layer that the caller feeds.

Given: ``Data`` with tops ``data`` (read) and ``label`` (read by nobody after ``strip_training``).
Result: ``Input`` with top ``data``, of the shape that the layer gives it.

What the layer did to its images (crop, mean, scale) is the caller's to do; a note names it.
"""

from __future__ import annotations

from caffe_scnn.layers.shapes import Shapes, infer_shapes
from caffe_scnn.model.graph import is_fed
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import PassResult, check_shapes
from caffe_scnn.proto import caffe_pb2 as pb


def data_to_input(net: Net) -> PassResult:
    """Replace every data layer by an Input layer of the same shape (see the module).

    Raises
    ------
    ModelError
        The prototxt does not say what shape the data have.
    """
    result = net.copy()
    shapes = infer_shapes(result)
    read = {bottom for layer in result.layers for bottom in layer.bottoms}
    notes: list[str] = []
    for layer in list(result.layers):
        if layer.type == "Input" or not is_fed(layer):
            continue
        tops = [top for top in layer.tops if top in read] or layer.tops
        result.replace(layer, _input(layer, tops, shapes))
        for top in set(layer.tops) - set(tops):
            result.input_shapes.pop(top, None)
        notes.append(f'"{layer.name}": {layer.type} became Input{_transform(layer)}')
    check_shapes(net, result, "data_to_input")
    return PassResult(result, len(notes), tuple(notes))


def _input(layer: Layer, tops: list[str], shapes: Shapes) -> Layer:
    proto = pb.LayerParameter(name=layer.name, type="Input", top=tops)
    for top in tops:
        shape = shapes.tops[layer][layer.tops.index(top)]
        proto.input_param.shape.add(dim=shape)
    return Layer(proto)


def _transform(layer: Layer) -> str:
    """Say what was done to images, and is not any more."""
    param = layer.proto.transform_param
    parts = [f"crop {param.crop_size}"] if param.crop_size else []
    if param.mean_file:
        parts.append(f"mean {param.mean_file}")
    if param.mean_value:
        parts.append("mean " + " ".join(f"{value:g}" for value in param.mean_value))
    if param.scale != 1:
        parts.append(f"scale {param.scale:g}")
    return f"; its images had: {', '.join(parts)}" if parts else ""
