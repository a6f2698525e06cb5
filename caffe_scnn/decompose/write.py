"""Layers of the same form with other weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.model.net import Blob, Layer
from caffe_scnn.proto import caffe_pb2 as pb


def rewritten(
    layers: Sequence[Layer], weights: Blob, bias_shift: Array | None = None
) -> list[Layer]:
    """Return copies of layers that share weights, all with the same new array.

    Parameters
    ----------
    layers : sequence of Layer
        A convolution or InnerProduct and those that share its weights.
    weights : ndarray
    bias_shift : ndarray of shape (n,), optional
        Added to every bias; layers without a bias get one. Biases that were shared stay so.
    """
    copies = []
    for layer, bias in zip(layers, shifted_biases(layers, bias_shift), strict=True):
        new = layer.copy()
        new.blobs = [weights, *bias]
        if bias and not parameters(new).bias_term:
            parameters(new).bias_term = True
        copies.append(new)
    return copies


def shifted_biases(layers: Sequence[Layer], shift: Array | None) -> list[list[Blob]]:
    """Return the blobs behind the weights of every layer, biases shifted.

    None: as they are, and none where there is none.
    """
    if shift is None:
        return [layer.blobs[1:] for layer in layers]
    made: dict[int, Blob] = {}
    none = np.zeros(len(shift), np.float32)
    old = [layer.blobs[1] if len(layer.blobs) > 1 else none for layer in layers]
    return [[made.setdefault(id(bias), (bias + shift).astype(np.float32))] for bias in old]


def parameters(layer: Layer) -> pb.ConvolutionParameter | pb.InnerProductParameter:
    """Return ``convolution_param`` or ``inner_product_param``."""
    proto = layer.proto
    return proto.inner_product_param if layer.type == "InnerProduct" else proto.convolution_param
