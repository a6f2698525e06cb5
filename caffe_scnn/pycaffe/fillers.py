"""Start values of blobs that no caffemodel gives, as ``filler.hpp`` describes them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb

# Layer type → the field with its weight_filler. All other blobs have constant fillers by default.
_FIELDS = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "DepthwiseConvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "Embed": "embed_param",
}


def fill_layer(layer: Layer, blob: int, random: np.random.Generator) -> None:
    """Fill one blob of a layer where its prototxt asks for other than constant values.

    Raises
    ------
    ModelError
        An unknown filler, or one that does not fit the blob.
    """
    field = _FIELDS.get(layer.type)
    if field is None or blob > 1:
        return
    param = getattr(layer.proto, field)
    filler = param.bias_filler if blob else param.weight_filler
    if filler.type == "constant":
        return  # done when the blob was made
    try:
        layer.blobs[blob][...] = _values(filler, layer.blobs[blob].shape, random)
    except ValueError as error:
        raise ModelError(f'layer "{layer.name}" ({layer.type}): {error}') from None


def _values(
    filler: pb.FillerParameter, shape: tuple[int, ...], random: np.random.Generator
) -> NDArray[np.floating]:
    if filler.type == "uniform":
        return random.uniform(filler.min, filler.max, shape)
    if filler.type == "gaussian":
        values: NDArray[np.floating] = random.normal(filler.mean, filler.std, shape)
        if filler.sparse >= 0:  # so many non-zero inputs for each output, on average
            values *= random.random(shape) < filler.sparse / shape[0]
        return values
    if filler.type == "positive_unitball":
        values = random.random((shape[0], math.prod(shape[1:])))
        values /= values.sum(axis=1, keepdims=True)
        return values.reshape(shape)
    if filler.type in ("xavier", "msra"):
        return _scaled(filler, shape, random)
    if filler.type == "bilinear":
        return _bilinear(shape)
    raise ValueError(f'there is no filler "{filler.type}"')


def _scaled(
    filler: pb.FillerParameter, shape: tuple[int, ...], random: np.random.Generator
) -> NDArray[np.floating]:
    """Spread by the number of inputs (or outputs): Glorot's uniform, He's normal values."""
    inputs = math.prod(shape) / shape[0]
    outputs = math.prod(shape) / shape[1] if len(shape) > 1 else math.prod(shape)
    norm = pb.FillerParameter
    n = {norm.FAN_OUT: outputs, norm.AVERAGE: (inputs + outputs) / 2}.get(
        filler.variance_norm, inputs
    )
    if filler.type == "xavier":
        bound = math.sqrt(3 / n)
        return random.uniform(-bound, bound, shape)
    return random.normal(0, math.sqrt(2 / n), shape)


def _bilinear(shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Every kernel interpolates: a tent over its k×k taps."""
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ValueError(f"the bilinear filler needs square kernels, not shape {shape}")
    size = shape[3]
    factor = math.ceil(size / 2)
    centre = (2 * factor - 1 - factor % 2) / (2 * factor)
    tent = 1 - np.abs(np.arange(size) / factor - centre)
    return np.broadcast_to(tent[:, None] * tent, shape)
