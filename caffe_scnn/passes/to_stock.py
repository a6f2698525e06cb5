"""Replaces layer types of forks by stock ones that compute exactly the same.

| fork type | becomes |
|---|---|
| ReLU6 | Clip with min 0 and max 6 |
| DepthwiseConvolution, ConvolutionDepthwise | Convolution with a group for each channel |
"""

from __future__ import annotations

from collections.abc import Callable

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Shape
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import PassResult, check_shapes


def to_stock(net: Net) -> PassResult:
    """Replace every fork type that has a stock equivalent (see the module)."""
    result = net.copy()
    shapes = infer_shapes(result)
    notes: list[str] = []
    changed = 0
    for layer in result.layers:
        kind = layer_type(layer)
        if kind.stock:
            continue
        if layer.type not in REPLACEMENTS:
            notes.append(f'left "{layer.name}": stock Caffe has nothing like {layer.type}')
            continue
        old = layer.type
        REPLACEMENTS[old](layer, shapes.bottoms[layer])
        changed += 1
        notes.append(f'"{layer.name}": {old} became {layer.type}')
    check_shapes(net, result, "to_stock")
    return PassResult(result, changed, tuple(notes))


def _relu6(layer: Layer, bottoms: list[Shape]) -> None:
    layer.proto.type = "Clip"
    layer.proto.clip_param.min, layer.proto.clip_param.max = 0.0, 6.0


def _depthwise(layer: Layer, bottoms: list[Shape]) -> None:
    layer.proto.type = "Convolution"
    if not layer.proto.convolution_param.HasField("group"):
        layer.proto.convolution_param.group = bottoms[0][1]


REPLACEMENTS: dict[str, Callable[[Layer, list[Shape]], None]] = {
    "ReLU6": _relu6,
    "ConvolutionDepthwise": _depthwise,
    "DepthwiseConvolution": _depthwise,
}
