"""``import caffe`` without Caffe: puts this package in its place for one process."""

from __future__ import annotations

import sys
from importlib import import_module

# caffe.<name> → our module.
MODULES = {
    "": "caffe_scnn.pycaffe",
    ".classifier": "caffe_scnn.pycaffe.classifier",
    ".detector": "caffe_scnn.pycaffe.detector",
    ".draw": "caffe_scnn.pycaffe.draw",
    ".io": "caffe_scnn.pycaffe.io",
    ".net_spec": "caffe_scnn.pycaffe.net_spec",
    ".proto": "caffe_scnn.pycaffe.proto",
    ".proto.caffe_pb2": "caffe_scnn.proto.caffe_pb2",
    ".pycaffe": "caffe_scnn.pycaffe.net",
}


def install() -> None:
    """Let ``import caffe`` and ``from caffe.proto import caffe_pb2`` mean this package.

    Raises
    ------
    ImportError
        Another caffe has been imported already.
    """
    ours = import_module(MODULES[""])
    if sys.modules.get("caffe", ours) is not ours:
        place = getattr(sys.modules["caffe"], "__file__", "unknown")
        raise ImportError(f"caffe is imported already, from {place}; install before that")
    for name, module in MODULES.items():
        sys.modules[f"caffe{name}"] = import_module(module)
