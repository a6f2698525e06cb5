"""MultinomialLogisticLoss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import Array
from caffe_scnn.layers.loss import LOG_FLOOR, Loss, labels_of
from caffe_scnn.model.net import Layer


class MultinomialLogisticLoss(Loss):
    """``−mean log p(label)`` of probabilities (``multinomial_logistic_loss_layer.cpp``)."""

    type: ClassVar[str] = "MultinomialLogisticLoss"

    def loss(self, layer: Layer, *bottoms: Array) -> float:
        """Keep the logarithm finite."""
        p = bottoms[0].reshape(len(bottoms[0]), -1)
        chosen = p[np.arange(len(p)), labels_of(bottoms[1])]
        return float(-np.log(np.maximum(chosen, LOG_FLOOR)).sum() / len(p))
