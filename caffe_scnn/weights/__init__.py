"""Weights as data: to arrays and back, what differs between two files, onto another net."""

from caffe_scnn.weights.difference import BlobChange, WeightDifference, diff_weights
from caffe_scnn.weights.extract import extract_weights
from caffe_scnn.weights.inject import inject_weights
from caffe_scnn.weights.merge import Merge, merge_weights

__all__ = [
    "BlobChange",
    "Merge",
    "WeightDifference",
    "diff_weights",
    "extract_weights",
    "inject_weights",
    "merge_weights",
]
