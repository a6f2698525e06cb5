"""Read any Caffe model, make it sparse, write it back, and run it fast on a CPU.

>>> import caffe_scnn
>>> net = caffe_scnn.load("deploy.prototxt", "weights.caffemodel")  # doctest: +SKIP
>>> caffe_scnn.Executor(net).run({"data": images})  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from caffe_scnn.spinning import limit_spinning

if TYPE_CHECKING:
    from caffe_scnn.decompose.compress import compress
    from caffe_scnn.decompose.recipe import Recipe
    from caffe_scnn.engine import Executor, PackedMatrix, pack, spmm
    from caffe_scnn.errors import CaffeScnnError
    from caffe_scnn.layers import register_layer
    from caffe_scnn.layers.summary import summarize
    from caffe_scnn.loading import load
    from caffe_scnn.model.caffemodel import read_caffemodel, write_caffemodel
    from caffe_scnn.model.net import Layer, Net

__version__ = "0.1.0"

__all__ = [
    "CaffeScnnError",
    "Executor",
    "Layer",
    "Net",
    "PackedMatrix",
    "Recipe",
    "compress",
    "load",
    "pack",
    "read_caffemodel",
    "register_layer",
    "spmm",
    "summarize",
    "write_caffemodel",
]

limit_spinning()

# Public names are imported when they are first used: a script that only reads a prototxt does not
# pay for the engine, nor one that runs a net for scikit-learn.
_HOMES = {
    "CaffeScnnError": "caffe_scnn.errors",
    "Executor": "caffe_scnn.engine",
    "Layer": "caffe_scnn.model.net",
    "Net": "caffe_scnn.model.net",
    "PackedMatrix": "caffe_scnn.engine",
    "Recipe": "caffe_scnn.decompose",
    "compress": "caffe_scnn.decompose",
    "load": "caffe_scnn.loading",
    "pack": "caffe_scnn.engine",
    "read_caffemodel": "caffe_scnn.model.caffemodel",
    "register_layer": "caffe_scnn.layers",
    "spmm": "caffe_scnn.engine",
    "summarize": "caffe_scnn.layers.summary",
    "write_caffemodel": "caffe_scnn.model.caffemodel",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
