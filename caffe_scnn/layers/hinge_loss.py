"""HingeLoss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.loss import Loss, labels_of
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb


class HingeLoss(Loss):
    """``Σ max(0, 1 − t·x)``, once or squared, over N (``hinge_loss_layer.cpp``)."""

    type: ClassVar[str] = "HingeLoss"

    def loss(self, layer: Layer, *bottoms: Array) -> float:
        """Take t = 1 for the label's class, −1 for the others."""
        x = bottoms[0].reshape(len(bottoms[0]), -1).copy()
        x[np.arange(len(x)), labels_of(bottoms[1])] *= -1
        margin = np.maximum(0, 1 + x)
        squared = layer.proto.hinge_loss_param.norm == pb.HingeLossParameter.L2
        return float((margin**2 if squared else margin).sum() / len(x))
