"""Replaces layer types of forks by stock ones that compute exactly the same.

| fork type | becomes |
|---|---|
| ReLU6 | Clip with min 0 and max 6 |
| DepthwiseConvolution, ConvolutionDepthwise | Convolution with a group for each channel |
| BN with stored statistics (yjxiong, SegNet INFERENCE) | Scale with a bias |
"""

from __future__ import annotations

from collections.abc import Callable

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import AffineSpec, Shape
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
        reason = REPLACEMENTS[old](layer, shapes.bottoms[layer])
        if reason:
            notes.append(f'left "{layer.name}" ({old}): {reason}')
            continue
        changed += 1
        notes.append(f'"{layer.name}": {old} became {layer.type}')
    check_shapes(net, result, "to_stock")
    return PassResult(result, changed, tuple(notes))


# Each makes a layer stock in place, or says why it cannot.


def _relu6(layer: Layer, bottoms: list[Shape]) -> str | None:
    layer.proto.type = "Clip"
    layer.proto.clip_param.min, layer.proto.clip_param.max = 0.0, 6.0
    return None


def _depthwise(layer: Layer, bottoms: list[Shape]) -> str | None:
    layer.proto.type = "Convolution"
    if not layer.proto.convolution_param.HasField("group"):
        layer.proto.convolution_param.group = bottoms[0][1]
    return None


def _bn(layer: Layer, bottoms: list[Shape]) -> str | None:
    affine = layer_type(layer).lower(layer, bottoms)
    if not isinstance(affine, AffineSpec):
        return "it takes the statistics of the batch"
    layer.proto.type = "Scale"
    layer.proto.ClearField("bn_param")
    layer.proto.ClearField("param")  # as many as BN had blobs
    layer.proto.scale_param.bias_term = True
    layer.blobs = [affine.scale, affine.shift]
    return None


REPLACEMENTS: dict[str, Callable[[Layer, list[Shape]], str | None]] = {
    "BN": _bn,
    "ReLU6": _relu6,
    "ConvolutionDepthwise": _depthwise,
    "DepthwiseConvolution": _depthwise,
}
