"""Folds BatchNorm, BN, Scale and Bias into the convolution or fully connected layer before them.

Given ``y = W x + b`` and ``z = s · y + t`` for each output channel (s, t of a BatchNorm:
1/√(σ² + eps) and −μ/√(σ² + eps)), the result is ``z = (s W) x + (s b + t)``. BN is the layer of
yjxiong's fork and of SegNet.

Folded: a layer that is the only reader of a Convolution, DepthwiseConvolution or InnerProduct and
has one scale and shift a channel, whether it works in place or not, one after the other.
Left alone, with a note: shared weights; a BatchNorm or BN with the batch's own statistics; a Scale
with two bottoms or over other axes; any of them that follows anything else.
"""

from __future__ import annotations

import numpy as np

from caffe_scnn.errors import PassError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import AffineSpec, Array, Shape
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import PassResult, check_shapes

LINEAR = ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "InnerProduct")
AFFINE = ("BatchNorm", "BN", "Scale", "Bias")


def fold_batch_norm(net: Net) -> PassResult:
    """Fold every BatchNorm, BN, Scale and Bias that follows a linear layer (see the module).

    Raises
    ------
    PassError
        A folded layer does not compute what the two layers did.
    """
    result = net.copy()
    shapes = infer_shapes(result)
    notes: list[str] = []
    folded = 0
    for layer in list(result.layers):
        if layer.type not in AFFINE:
            continue
        reason = _fold(result, layer, shapes.bottoms[layer])
        if reason:
            notes.append(f'left "{layer.name}" ({layer.type}): {reason}')
        else:
            folded += 1
            notes.append(f'folded "{layer.name}" ({layer.type}) into the layer before it')
    check_shapes(net, result, "fold_batch_norm")
    return PassResult(result, folded, tuple(notes))


def _fold(net: Net, layer: Layer, bottoms: list[Shape]) -> str | None:
    """Fold one layer, or return why not."""
    value = Graph(net).reads[layer][0]
    linear = value.producer
    if linear.type not in LINEAR:
        return f'it follows "{linear.name}" ({linear.type}), which has no weights to take it'
    if len(value.consumers) > 1:
        return f'"{linear.name}" has other readers too'
    if len(linear.tops) > 1 or _axis(linear) != 1:
        return f'"{linear.name}" has its channels on another axis, or several tops'
    if any(spec.name for spec in (*linear.proto.param, *layer.proto.param)):
        return "weights are shared under a name"
    affine = layer_type(layer).lower(layer, bottoms)
    if not isinstance(affine, AffineSpec):
        return "it has not one fixed scale and shift for each channel"
    _rescale(linear, affine.scale.astype(np.float64), affine.shift.astype(np.float64))
    linear.proto.top[0] = layer.proto.top[0]
    net.remove(layer)
    return None


def _axis(linear: Layer) -> int:
    if linear.type == "InnerProduct":
        return int(linear.proto.inner_product_param.axis)
    return int(linear.proto.convolution_param.axis)


def _rescale(linear: Layer, scale: Array, shift: Array) -> None:
    """Give a linear layer weights ``s W`` and bias ``s b + t``."""
    inner = linear.type == "InnerProduct"
    param = linear.proto.inner_product_param if inner else linear.proto.convolution_param
    transposed = inner and linear.proto.inner_product_param.transpose
    old = linear.blobs[0].astype(np.float64)
    rows = old.T if transposed else old
    bias = linear.blobs[1].astype(np.float64) if param.bias_term else np.zeros(len(scale))
    weights = rows * scale.reshape(-1, *[1] * (rows.ndim - 1))
    linear.blobs = [
        np.ascontiguousarray(weights.T if transposed else weights, np.float32),
        (bias * scale + shift).astype(np.float32),
    ]
    param.ClearField("bias_term")  # the default is true
    _check(linear, rows.reshape(len(scale), -1), bias, scale, shift, transposed)


def _check(
    linear: Layer, rows: Array, bias: Array, scale: Array, shift: Array, transposed: bool
) -> None:
    """Compare both forms on a random input, within the rounding of the new weights."""
    x = np.random.default_rng(0).standard_normal(rows.shape[1])
    new = linear.blobs[0].astype(np.float64)
    got = (new.T if transposed else new).reshape(rows.shape) @ x + linear.blobs[1]
    want = (rows @ x + bias) * scale + shift
    size = np.abs(scale) * (np.abs(rows) @ np.abs(x) + np.abs(bias)) + np.abs(shift)
    if not (np.abs(got - want) <= 2.0**-23 * size).all():
        raise PassError(f'fold_batch_norm: "{linear.name}" does not compute what it did before')
