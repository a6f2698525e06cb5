"""pycaffe's interface without Caffe: scripts that classify, look into nets or rewrite them run.

``from caffe_scnn import pycaffe as caffe``, or unchanged scripts under ``caffe-scnn python``.
Nets run forward only; calls that train raise NotImplementedError with what to do instead.
"""

from caffe_scnn.layers import LAYER_TYPES
from caffe_scnn.pycaffe import draw, io, net_spec, proto
from caffe_scnn.pycaffe.blob import Blob
from caffe_scnn.pycaffe.classifier import Classifier
from caffe_scnn.pycaffe.detector import Detector
from caffe_scnn.pycaffe.device import has_nccl, set_device, set_mode_cpu, set_mode_gpu
from caffe_scnn.pycaffe.install import install
from caffe_scnn.pycaffe.layer import Layer
from caffe_scnn.pycaffe.net import TEST, TRAIN, Net
from caffe_scnn.pycaffe.net_spec import NetSpec, layers, params, to_proto
from caffe_scnn.pycaffe.random import set_random_seed
from caffe_scnn.pycaffe.training import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)

__version__ = "1.0.0"  # of the interface

__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "draw",
    "get_solver",
    "has_nccl",
    "install",
    "io",
    "layer_type_list",
    "layers",
    "net_spec",
    "params",
    "proto",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
    "to_proto",
]


def layer_type_list() -> list[str]:
    """Return the names of the layer types that run."""
    return [kind.type for kind in LAYER_TYPES]
