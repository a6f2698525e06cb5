"""The table of layer types: one line makes a type exist."""

from __future__ import annotations

import difflib

from caffe_scnn.errors import UnsupportedLayer
from caffe_scnn.layers.base import LayerType
from caffe_scnn.layers.batch_norm import BatchNorm
from caffe_scnn.layers.clip import Clip
from caffe_scnn.layers.concat import Concat
from caffe_scnn.layers.convolution import Convolution, DepthwiseConvolution
from caffe_scnn.layers.eltwise import Eltwise
from caffe_scnn.layers.identity import Dropout, Split
from caffe_scnn.layers.inner_product import InnerProduct
from caffe_scnn.layers.input import Input
from caffe_scnn.layers.lrn import LRN
from caffe_scnn.layers.pooling import Pooling
from caffe_scnn.layers.prelu import PReLU
from caffe_scnn.layers.relu import ReLU, ReLU6
from caffe_scnn.layers.reshape import Flatten, Reshape
from caffe_scnn.layers.scale import Bias, Scale
from caffe_scnn.layers.sigmoid import Sigmoid, TanH
from caffe_scnn.layers.softmax import Softmax
from caffe_scnn.model.net import Layer

LAYER_TYPES: tuple[LayerType, ...] = (
    BatchNorm(),
    Bias(),
    Clip(),
    Concat(),
    Convolution(),
    DepthwiseConvolution(),
    Dropout(),
    Eltwise(),
    Flatten(),
    InnerProduct(),
    Input(),
    LRN(),
    PReLU(),
    Pooling(),
    ReLU(),
    ReLU6(),
    Reshape(),
    Scale(),
    Sigmoid(),
    Softmax(),
    Split(),
    TanH(),
)


def table(types: tuple[LayerType, ...]) -> dict[str, LayerType]:
    """Index layer types by name; a name given twice is a mistake of ours."""
    named = {kind.type: kind for kind in types}
    assert len(named) == len(types), "two layer types of one name"
    return named


_BY_NAME = table(LAYER_TYPES)


def layer_type(layer: Layer) -> LayerType:
    """Return what is known about a layer's type.

    Raises
    ------
    UnsupportedLayer
        Names the layer, its line, its type, and the nearest known type.
    """
    kind = _BY_NAME.get(layer.type)
    if kind is None:
        where = f" (line {layer.line})" if layer.line else ""
        near = difflib.get_close_matches(layer.type, _BY_NAME, 1)
        hint = f'the nearest known type is "{near[0]}"' if near else "it is kept, but cannot be run"
        raise UnsupportedLayer(
            f'layer "{layer.name}"{where}: unknown layer type "{layer.type}"; {hint}'
        )
    return kind
