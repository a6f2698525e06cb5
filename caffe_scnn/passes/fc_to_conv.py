"""Makes InnerProduct layers convolutions, so that the net takes larger inputs.

Given a bottom (N, C, H, W) and weights (n, C·H·W), the convolution has n kernels of C×H×W and no
padding: the same sums, and a top (N, n, 1, 1) instead of (N, n). On a larger input the top is a
map of what the layer says at every place.

Left alone, with a note: weights shared under a name; an axis other than 1; a bottom without
height and width (after Flatten or Reshape).
"""

from __future__ import annotations

import numpy as np

from caffe_scnn.errors import ModelError, PassError
from caffe_scnn.layers.base import Shape, Weights, count
from caffe_scnn.layers.shapes import Shapes, infer_shapes
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.base import PassResult


def fc_to_conv(net: Net) -> PassResult:
    """Turn every InnerProduct of images into a Convolution (see the module).

    Raises
    ------
    PassError
        A layer does not compute what it did, or a later layer does not take the new shape.
    """
    result = net.copy()
    notes: list[str] = []
    changed = 0
    for layer in result.layers:
        if layer.type != "InnerProduct":
            continue
        bottom = _shapes(result).bottoms[layer][0]
        reason = _refusal(layer, bottom)
        if reason:
            notes.append(f'left "{layer.name}": {reason}')
            continue
        _convert(layer, bottom)
        changed += 1
        notes.append(f'"{layer.name}": became a convolution of {bottom[2]}x{bottom[3]}')
    old, new = infer_shapes(net).blobs, _shapes(result).blobs
    for blob, shape in new.items():
        if count(shape) != count(old[blob]):
            raise PassError(f'fc_to_conv: blob "{blob}" had shape {old[blob]}, now {shape}')
    return PassResult(result, changed, tuple(notes))


def _shapes(net: Net) -> Shapes:
    try:
        return infer_shapes(net)
    except ModelError as error:
        raise PassError(f"fc_to_conv: a layer does not take the new shape: {error}") from error


def _refusal(layer: Layer, bottom: Shape) -> str | None:
    param = layer.proto.inner_product_param
    if any(spec.name for spec in layer.proto.param):
        return "its weights are shared under a name"
    if param.axis not in (1, 1 - len(bottom)):
        return f"its axis is {param.axis}"
    if len(bottom) != 4:
        return f"its bottom of shape {bottom} has no height and width"
    return None


def _convert(layer: Layer, bottom: Shape) -> None:
    old = layer.proto.inner_product_param
    rows = layer.blobs[0].T if old.transpose else layer.blobs[0]
    new = layer.proto.convolution_param
    new.num_output = old.num_output
    if old.HasField("bias_term"):
        new.bias_term = old.bias_term
    for field in ("weight_filler", "bias_filler"):
        if old.HasField(field):
            getattr(new, field).CopyFrom(getattr(old, field))
    height, width = bottom[2:]
    if height == width:
        new.kernel_size.append(height)
    else:
        new.kernel_h, new.kernel_w = height, width
    layer.proto.ClearField("inner_product_param")
    layer.proto.type = "Convolution"
    weights = np.ascontiguousarray(rows).reshape(len(rows), *bottom[1:])
    layer.blobs[0] = weights
    _check(layer, rows, bottom)


def _check(layer: Layer, rows: Weights, bottom: Shape) -> None:
    """Compare one random image in both forms, within the rounding of the sums."""
    x = np.random.default_rng(0).standard_normal(bottom[1:]).astype(np.float32)
    got = np.tensordot(layer.blobs[0], x, 3)
    want = rows @ x.ravel()
    bound = (x.size + 2) * 2.0**-23 * (np.abs(rows) @ np.abs(x.ravel()))
    if not (np.abs(got - want) <= bound).all():
        raise PassError(f'fc_to_conv: "{layer.name}" does not compute what it did before')
