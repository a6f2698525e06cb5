"""Bases and the coefficients behind them, computed as the one convolution that they are.

What :mod:`caffe_scnn.decompose.scnn` writes, Q with q outputs a channel and a 1×1 S behind it, is
the convolution ``W[n,c,:,:] = Σ_j S[n,c,j] Q[c,j,:,:]``. To make W costs no pixels, and gradients
reach Q and S through it; Q on its own is a grouped convolution, which is slow in training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.finetune.bridge.convolution import Convolution
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer

PLANE = 2  # axes of an image
GROUPED = 16  # PyTorch's time for a multiply-accumulate of Q, over that for one of S, measured


def bases_before(graph: Graph, modules: Sequence[LayerModule]) -> dict[int, int]:
    """Return, for every layer of coefficients, the layer of bases that it alone reads.

    Parameters
    ----------
    graph : Graph
    modules : sequence of LayerModule

    Returns
    -------
    dict of int to int
        Places in ``modules``: those of S, and for each that of its Q.
    """
    places = {id(module.layer): place for place, module in enumerate(modules)}
    found = {}
    for place, module in enumerate(modules):
        if not _is_bases(module):
            continue
        (value,) = graph.writes[module.layer]
        readers: list[Layer] = value.consumers
        if len(readers) == 1:
            reader = modules[places[id(readers[0])]]
            if _is_coefficients(reader) and _is_less(module, reader):
                found[places[id(readers[0])]] = place
    return found


def composed(bases: LayerModule, coefficients: LayerModule, x: Tensor) -> Tensor:
    """Return what the coefficients make of the bases.

    Parameters
    ----------
    bases, coefficients : LayerModule
        Q of shape (c·q, 1, k, k) and S of shape (n, c·q/g, 1, 1), g its groups.
    x : Tensor of shape (N, c, H, W)
        The bottom of the bases.

    Returns
    -------
    Tensor of shape (N, n, H', W')
    """
    assert isinstance(bases, Convolution)
    bases.infer((x,))
    taps, weights = bases.blob(0), coefficients.blob(0)
    param = coefficients.layer.proto.convolution_param
    channels, group = x.shape[1], param.group
    codes = weights.view(group, len(weights) // group, channels // group, -1)
    by_channel = taps.view(group, channels // group, -1, *taps.shape[2:])
    merged = torch.einsum("gncq,gcqhw->gnchw", codes, by_channel)
    bias = coefficients.blob(1) if param.bias_term else None
    window = bases.window
    kernel = merged.reshape(len(weights), -1, *taps.shape[2:])
    return F.conv2d(x, kernel, bias, window.stride, window.pad, window.dilation, group)


def _is_bases(module: LayerModule) -> bool:
    """Tell whether a layer is depthwise, in two dimensions, without bias."""
    if type(module) is not Convolution or not _is_plain(module):
        return False
    return module.shapes[0][1] == 1 and not module.layer.proto.convolution_param.bias_term


def _is_coefficients(module: LayerModule) -> bool:
    """Tell whether a layer multiplies pixels by a matrix."""
    if type(module) is not Convolution or not _is_plain(module):
        return False
    window, one = module.window, (1,) * PLANE
    return (window.kernel, window.stride, window.pad) == (one, one, (0,) * PLANE)


def _is_less(bases: LayerModule, coefficients: LayerModule) -> bool:
    """Tell whether one convolution takes no more time than the two."""
    (outputs, depth), taps = coefficients.shapes[0][:2], math.prod(bases.shapes[0][2:])
    each = len(bases.blobs[0]) // bases.layer.proto.convolution_param.group
    apart = GROUPED * math.prod(bases.shapes[0]) + outputs * depth
    return bool(outputs * (depth // each) * taps <= apart)


def _is_plain(module: Convolution) -> bool:
    layer = module.layer
    return (
        layer.type == "Convolution"
        and module.axes == PLANE
        and layer.proto.convolution_param.axis == 1
        and len(layer.bottoms) == 1
    )
