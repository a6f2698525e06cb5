"""The table of layer types: one line makes a type exist."""

from __future__ import annotations

import difflib

from caffe_scnn.errors import ModelError, UnsupportedLayer
from caffe_scnn.layers.absval import AbsVal
from caffe_scnn.layers.accuracy import Accuracy
from caffe_scnn.layers.argmax import ArgMax
from caffe_scnn.layers.axpy import Axpy
from caffe_scnn.layers.base import LayerType
from caffe_scnn.layers.batch_norm import BatchNorm
from caffe_scnn.layers.batch_reindex import BatchReindex
from caffe_scnn.layers.bn import BN
from caffe_scnn.layers.bnll import BNLL
from caffe_scnn.layers.clip import Clip
from caffe_scnn.layers.concat import Concat
from caffe_scnn.layers.contrastive_loss import ContrastiveLoss
from caffe_scnn.layers.convolution import Convolution, ConvolutionDepthwise, DepthwiseConvolution
from caffe_scnn.layers.crop import Crop
from caffe_scnn.layers.data import (
    AnnotatedData,
    Data,
    HDF5Data,
    ImageData,
    MemoryData,
    WindowData,
)
from caffe_scnn.layers.deconvolution import Deconvolution
from caffe_scnn.layers.detection_output import DetectionOutput
from caffe_scnn.layers.dummy_data import DummyData
from caffe_scnn.layers.eltwise import Eltwise
from caffe_scnn.layers.elu import ELU
from caffe_scnn.layers.embed import Embed
from caffe_scnn.layers.euclidean_loss import EuclideanLoss
from caffe_scnn.layers.exp import Exp
from caffe_scnn.layers.filter import Filter
from caffe_scnn.layers.hdf5_output import HDF5Output
from caffe_scnn.layers.hinge_loss import HingeLoss
from caffe_scnn.layers.identity import Dropout, Split
from caffe_scnn.layers.im2col import Im2col
from caffe_scnn.layers.infogain_loss import InfogainLoss
from caffe_scnn.layers.inner_product import InnerProduct
from caffe_scnn.layers.input import Input
from caffe_scnn.layers.interp import Interp
from caffe_scnn.layers.log import Log
from caffe_scnn.layers.lrn import LRN
from caffe_scnn.layers.lstm import LSTM
from caffe_scnn.layers.lstm_unit import LSTMUnit
from caffe_scnn.layers.multinomial_logistic_loss import MultinomialLogisticLoss
from caffe_scnn.layers.mvn import MVN
from caffe_scnn.layers.normalize import Normalize
from caffe_scnn.layers.parameter import Parameter
from caffe_scnn.layers.permute import Permute
from caffe_scnn.layers.pooling import Pooling
from caffe_scnn.layers.power import Power
from caffe_scnn.layers.prelu import PReLU
from caffe_scnn.layers.prior_box import PriorBox
from caffe_scnn.layers.python import Python
from caffe_scnn.layers.reduction import Reduction
from caffe_scnn.layers.relu import ReLU, ReLU6
from caffe_scnn.layers.reshape import Flatten, Reshape
from caffe_scnn.layers.rnn import RNN
from caffe_scnn.layers.roi_pooling import PSROIPooling, ROIPooling
from caffe_scnn.layers.scale import Bias, Scale
from caffe_scnn.layers.shuffle_channel import ShuffleChannel
from caffe_scnn.layers.sigmoid import Sigmoid, TanH
from caffe_scnn.layers.sigmoid_cross_entropy_loss import SigmoidCrossEntropyLoss
from caffe_scnn.layers.silence import Silence
from caffe_scnn.layers.slice import Slice
from caffe_scnn.layers.softmax import Softmax
from caffe_scnn.layers.softmax_with_loss import SoftmaxWithLoss
from caffe_scnn.layers.spp import SPP
from caffe_scnn.layers.swish import Swish
from caffe_scnn.layers.threshold import Threshold
from caffe_scnn.layers.tile import Tile
from caffe_scnn.layers.upsample import Upsample
from caffe_scnn.model.forks import TYPE, fork_of
from caffe_scnn.model.net import Layer

LAYER_TYPES: tuple[LayerType, ...] = (
    AbsVal(),
    Accuracy(),
    AnnotatedData(),
    ArgMax(),
    Axpy(),
    BatchNorm(),
    BatchReindex(),
    Bias(),
    BN(),
    BNLL(),
    Clip(),
    Concat(),
    ContrastiveLoss(),
    Convolution(),
    ConvolutionDepthwise(),
    Crop(),
    Data(),
    Deconvolution(),
    DepthwiseConvolution(),
    DetectionOutput(),
    Dropout(),
    DummyData(),
    Eltwise(),
    ELU(),
    Embed(),
    EuclideanLoss(),
    Exp(),
    Filter(),
    Flatten(),
    HDF5Data(),
    HDF5Output(),
    HingeLoss(),
    Im2col(),
    ImageData(),
    InfogainLoss(),
    InnerProduct(),
    Input(),
    Interp(),
    Log(),
    LRN(),
    LSTM(),
    LSTMUnit(),
    MemoryData(),
    MultinomialLogisticLoss(),
    MVN(),
    Normalize(),
    Parameter(),
    Permute(),
    Pooling(),
    Power(),
    PReLU(),
    PriorBox(),
    PSROIPooling(),
    Python(),
    Reduction(),
    ReLU(),
    ReLU6(),
    Reshape(),
    RNN(),
    ROIPooling(),
    Scale(),
    ShuffleChannel(),
    Sigmoid(),
    SigmoidCrossEntropyLoss(),
    Silence(),
    Slice(),
    Softmax(),
    SoftmaxWithLoss(),
    Split(),
    SPP(),
    Swish(),
    TanH(),
    Threshold(),
    Tile(),
    Upsample(),
    WindowData(),
)


def table(types: tuple[LayerType, ...]) -> dict[str, LayerType]:
    """Index layer types by name; a name given twice is a mistake of ours."""
    named = {kind.type: kind for kind in types}
    assert len(named) == len(types), "two layer types of one name"
    return named


_BY_NAME = table(LAYER_TYPES)


def register_layer(kind: LayerType) -> None:
    """Make a layer type of your own known to this process: nets with it can be run and rewritten.

    Parameters
    ----------
    kind : LayerType
        An instance of your subclass of :class:`caffe_scnn.layers.base.LayerType`: ``type`` names
        it as prototxts do, ``infer`` gives the shapes of its tops, ``reference`` their values.

    Raises
    ------
    ModelError
        There is a type of that name already.
    """
    if kind.type in _BY_NAME:
        raise ModelError(
            f'there is a layer type "{kind.type}" already: {type(_BY_NAME[kind.type]).__qualname__}'
        )
    _BY_NAME[kind.type] = kind


def layer_type(layer: Layer) -> LayerType:
    """Return what is known about a layer's type.

    Raises
    ------
    UnsupportedLayer
        Names file, line and column, the layer, its type, and the fork that has it or the nearest
        known type.
    """
    kind = _BY_NAME.get(layer.type)
    if kind is None:
        near = difflib.get_close_matches(layer.type, _BY_NAME, 1)
        fork = fork_of(TYPE, layer.type)
        hint = f'the nearest known type is "{near[0]}"' if near else "it is kept, but cannot be run"
        if fork:
            hint = f"it is a type of {fork}; it is kept, but cannot be run"
        raise UnsupportedLayer(
            f'{_place(layer)}layer "{layer.name}": unknown layer type "{layer.type}"; {hint}'
        )
    return kind


def _place(layer: Layer) -> str:
    """Return ``file:line:column: `` of a layer's type, as far as they are known."""
    if layer.source is None:
        return ""
    document = layer.source.document
    field = next(layer.source.named("type"), None)
    places = field.values if field else [layer.source]
    parts = (document.path, *document.position(places[0].start))
    return ":".join(str(part) for part in parts if part is not None) + ": "
