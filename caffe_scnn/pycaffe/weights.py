"""How ``Net`` takes weights: leniently about layers that are missing, strictly about shapes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from caffe_scnn.errors import ModelError
from caffe_scnn.layers.binding import LOADED, MISMATCHED, MISSING, Binding, bind
from caffe_scnn.model.caffemodel import StoredNet, read_caffemodel
from caffe_scnn.model.net import Net
from caffe_scnn.pycaffe.fillers import fill_layer
from caffe_scnn.pycaffe.random import generator


def load_weights(net: Net, path: str | Path | None) -> None:
    """Give a net its blobs: from a file by layer name, the rest from the layers' fillers.

    Caffe starts with whatever fillers say where the file has no layer of a name; net surgery
    relies on it. Here a warning names these layers.

    Raises
    ------
    ModelError
        A blob of the file has another shape than the net's.
    """
    binding = _bind(net, read_caffemodel(path) if path is not None else None)
    missing = {(row.layer, row.blob) for row in binding.with_status(MISSING)}
    if path is not None and missing:
        names = ", ".join(dict.fromkeys(row.layer for row in binding.with_status(MISSING)))
        warnings.warn(f"{path}: has no weights for {names}; fillers are used there", stacklevel=4)
    filled: set[int] = set()
    for layer in net:
        for i, blob in enumerate(layer.blobs):
            if ((path is None and not layer.weights) or (layer.name, i) in missing) and id(
                blob
            ) not in filled:
                filled.add(id(blob))  # shared blobs are filled once, by their first layer
                fill_layer(layer, i, generator())


def copy_weights(net: Net, path: str | Path) -> None:
    """Copy the blobs of a file into those of a net, by layer name; others stay as they are.

    Raises
    ------
    ModelError
        A blob of the file has another shape than the net's.
    """
    target = net.copy()
    binding = _bind(target, read_caffemodel(path))
    loaded = {(row.layer, row.blob) for row in binding.with_status(LOADED)}
    for layer, source in zip(net, target, strict=True):
        for i, blob in enumerate(layer.blobs):
            if (layer.name, i) in loaded:
                np.copyto(blob, source.blobs[i])


def _bind(net: Net, stored: StoredNet | None) -> Binding:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        binding = bind(net, stored, allow_missing=True, allow_nonfinite=True)
    wrong = binding.with_status(MISMATCHED)
    if wrong and stored is not None:
        raise ModelError(
            f"{stored.path}: {wrong[0]}; give the layer another name to leave its weights out"
        )
    return binding
