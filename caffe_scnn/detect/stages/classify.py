"""Scores of every class for every window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from caffe_scnn.detect.frame import Frame
from caffe_scnn.detect.softmax import probabilities
from caffe_scnn.detect.stages.base import Part
from caffe_scnn.engine.tensor import Float32


@dataclass
class Classify:
    """Linear classifiers on one kind of features.

    Parameters
    ----------
    source : str
        Name of the features.
    weights : float32 ndarray of shape (classes, values)
    bias : float32 ndarray of shape (classes,)
    softmax : bool
        The first row is the background's, and scores are probabilities.
    """

    name: ClassVar[str] = "classify"
    part: ClassVar[Part] = Part.REST
    source: str
    weights: Float32
    bias: Float32
    softmax: bool = False

    def run(self, frame: Frame) -> None:
        """Fill ``scores``."""
        scores: Float32 = frame.features[self.source] @ self.weights.T + self.bias
        frame.scores = probabilities(scores)[:, 1:] if self.softmax else scores
