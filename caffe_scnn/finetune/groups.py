"""Groups of weights that can go together, as axes of one view of a layer's weights.

Wen, Wu, Wang, Chen, Li, "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016, part
the weights of a convolution (n, c, h, w) into filters, channels, shapes and 2-D filters. All are
reductions of one five-axis view (group, output, input, row, column) of the weights; an
InnerProduct on a (C, H, W) bottom is the convolution whose kernel is as large as the bottom.
"""

from __future__ import annotations

from torch import Tensor

from caffe_scnn.errors import ModelError
from caffe_scnn.finetune.proximal import Axes
from caffe_scnn.layers.base import Shape
from caffe_scnn.model.net import Layer

# What a group of each family extends over, in the view (group, output, input, row, column).
# In this order groups lie inside those of later families where they lie inside any, so that
# finetune.proximal.overlapping_prox is quickest.
FAMILIES: dict[str, Axes] = {
    "kernel": (3, 4),  # one 2-D filter: W[n, c, :, :]
    "shape": (1,),  # one tap: W[:, c, h, w], a column of the lowered matrix
    "channel": (1, 3, 4),  # everything that reads one input channel: W[:, c, :, :]
    "filter": (2, 3, 4),  # one output: W[n, :, :, :], a row of the lowered matrix
}


def group_view(weights: Tensor, layer: Layer, bottom: Shape) -> Tensor:
    """Return a view (group, output, input, row, column) of a layer's weights.

    Parameters
    ----------
    weights : Tensor
        Of a convolution, (n, c/g, k_h, k_w), or of an InnerProduct, (n, K) or (K, n) transposed.
    layer : Layer
    bottom : tuple of int
        Shape of the layer's bottom: an InnerProduct's K parts into its channels.

    Raises
    ------
    ModelError
        The layer is neither.
    """
    if layer.type == "InnerProduct":
        param = layer.proto.inner_product_param
        rows = weights.t() if param.transpose else weights
        return rows.view(1, len(rows), bottom[param.axis % len(bottom)], -1, 1)
    if layer.type == "Convolution" and weights.dim() == 4:
        return weights.view(layer.proto.convolution_param.group, -1, *weights.shape[1:])
    raise ModelError(
        f'layer "{layer.name}" ({layer.type}): groups of weights exist for 2-D Convolution and '
        "InnerProduct; leave the layer out"
    )


def family_size(view: Tensor, family: str) -> int:
    """Count the weights of one group of a family."""
    size = 1
    for axis in FAMILIES[family]:
        size *= view.shape[axis]
    return size


def zero_groups(view: Tensor, family: str) -> Tensor:
    """Tell which groups of a family are zero, as a flat boolean tensor in the view's order."""
    return (view != 0).sum(FAMILIES[family]).flatten() == 0
