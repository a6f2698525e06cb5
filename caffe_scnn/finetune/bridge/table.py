"""The table of layer modules: one line makes the PyTorch form of a layer type exist."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.finetune.bridge.constants import DummyData, Parameter
from caffe_scnn.finetune.bridge.convolution import (
    Convolution,
    Deconvolution,
    Embed,
    Im2col,
    InnerProduct,
)
from caffe_scnn.finetune.bridge.losses import (
    ContrastiveLoss,
    EuclideanLoss,
    HingeLoss,
    InfogainLoss,
    MultinomialLogisticLoss,
    SigmoidCrossEntropyLoss,
    SoftmaxWithLoss,
)
from caffe_scnn.finetune.bridge.neurons import (
    ELU,
    Affine,
    Axpy,
    Clip,
    Dropout,
    Exp,
    Log,
    Normalize,
    Power,
    PReLU,
    ReLU,
    Smooth,
    Softmax,
    Swish,
)
from caffe_scnn.finetune.bridge.normalization import BN, LRN, MVN, BatchNorm
from caffe_scnn.finetune.bridge.outside import Outside
from caffe_scnn.finetune.bridge.pooling import SPP, Pooling
from caffe_scnn.finetune.bridge.recurrent import LSTM, RNN, LSTMUnit
from caffe_scnn.finetune.bridge.shape import (
    BatchReindex,
    Concat,
    Crop,
    Eltwise,
    Filter,
    Interp,
    Permute,
    Reduction,
    ShuffleChannel,
    Slice,
    Split,
    Tile,
    Upsample,
    View,
)
from caffe_scnn.model.net import Layer

LAYER_MODULES: tuple[type[LayerModule], ...] = (
    Affine,
    Axpy,
    BatchNorm,
    BatchReindex,
    BN,
    Clip,
    Concat,
    ContrastiveLoss,
    Convolution,
    Crop,
    Deconvolution,
    Dropout,
    DummyData,
    Eltwise,
    ELU,
    Embed,
    EuclideanLoss,
    Exp,
    Filter,
    HingeLoss,
    Im2col,
    InfogainLoss,
    InnerProduct,
    Interp,
    Log,
    LRN,
    LSTM,
    LSTMUnit,
    MultinomialLogisticLoss,
    MVN,
    Normalize,
    Parameter,
    Permute,
    Pooling,
    Power,
    PReLU,
    Reduction,
    ReLU,
    RNN,
    ShuffleChannel,
    SigmoidCrossEntropyLoss,
    Slice,
    Smooth,
    Softmax,
    SoftmaxWithLoss,
    SPP,
    Split,
    Swish,
    Tile,
    Upsample,
    View,
)


def table(modules: Sequence[type[LayerModule]]) -> dict[str, type[LayerModule]]:
    """Index layer modules by Caffe's type; a type given twice is a mistake of ours."""
    pairs = [(name, module) for module in modules for name in module.types]
    assert len(dict(pairs)) == len(pairs), "two modules for one layer type"
    return dict(pairs)


_BY_TYPE = table(LAYER_MODULES)


def module_type(layer: Layer) -> type[LayerModule]:
    """Return the module that computes a layer; the reference where no other is known."""
    return _BY_TYPE.get(layer.type, Outside)


def layer_module(layer: Layer, blobs: Sequence[nn.Parameter]) -> LayerModule:
    """Return a layer as a module that holds these blobs."""
    return module_type(layer)(layer, blobs)
