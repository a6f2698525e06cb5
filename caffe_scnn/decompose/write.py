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
    biases: dict[int, Blob] = {}
    none = np.zeros(0 if bias_shift is None else len(bias_shift), np.float32)
    copies = []
    for layer in layers:
        new = layer.copy()
        new.blobs[0] = weights
        if bias_shift is not None:
            old = layer.blobs[1] if len(layer.blobs) > 1 else none
            shared = biases.setdefault(id(old), (old + bias_shift).astype(np.float32))
            new.blobs[1:] = [shared]
            parameters(new).bias_term = True
        copies.append(new)
    return copies


def parameters(layer: Layer) -> pb.ConvolutionParameter | pb.InnerProductParameter:
    """Return ``convolution_param`` or ``inner_product_param``."""
    proto = layer.proto
    return proto.inner_product_param if layer.type == "InnerProduct" else proto.convolution_param
