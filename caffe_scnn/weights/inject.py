"""Named arrays as the blobs of a net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import ModelError
from caffe_scnn.layers.binding import bind
from caffe_scnn.loading import load, open_net
from caffe_scnn.model.net import Layer, Net


def inject_weights(
    prototxt: str | Path,
    arrays: Mapping[str, NDArray[Any]],
    caffemodel: str | Path | None = None,
    *,
    phase: str = "TEST",
) -> Net:
    """Return a net with blobs taken from arrays.

    Parameters
    ----------
    prototxt : str or Path
    arrays : mapping of str to ndarray
        ``layer/0``, ``layer/1`` … as :func:`~caffe_scnn.weights.extract_weights` names them.
    caffemodel : str or Path, optional
        Where the other blobs come from; without it the arrays must give all of them.
    phase : str
        Whose layers exist.

    Raises
    ------
    ModelError
        A name is no blob of the net, an array has not its shape or is not made of finite numbers,
        or a blob is given by nothing.
    """
    if caffemodel is None:
        net = open_net(prototxt, phase=phase)
        bind(net, None)
    else:
        net = load(prototxt, caffemodel, phase=phase)
    first: dict[str, Layer] = {}
    for layer in net:
        first.setdefault(layer.name, layer)
    given: set[int] = set()
    for name, array in arrays.items():
        layer, index = _find(first, name)
        blob = layer.blobs[index]
        _check(name, array, blob.shape)
        given.add(_address(blob))  # a shared blob is given to all its layers
        np.copyto(blob, array)
    if caffemodel is None:
        _refuse_missing(net, given)
    return net


def _find(layers: Mapping[str, Layer], name: str) -> tuple[Layer, int]:
    owner, _, number = name.rpartition("/")
    layer = layers.get(owner)
    if layer is None or not number.isdecimal() or int(number) >= len(layer.blobs):
        known = [f"{n}/{i}" for n, one in layers.items() for i in range(len(one.blobs))]
        listed = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if known[10:] else "")
        raise ModelError(f'the net has no blob "{name}"; it has {listed or "none"}')
    return layer, int(number)


def _check(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.dtype.kind not in "biuf":
        raise ModelError(f'"{name}" holds {array.dtype}, not numbers')
    if array.shape != shape:
        raise ModelError(f'"{name}" has the shape {array.shape}, the net\'s blob {shape}')
    if not np.isfinite(array).all():
        raise ModelError(f'"{name}" holds NaN or infinite values')


def _refuse_missing(net: Net, given: set[int]) -> None:
    missing = [
        f"{layer.name}/{i}"
        for layer in net
        for i, blob in enumerate(layer.blobs)
        if _address(blob) not in given
    ]
    if missing:
        raise ModelError(
            f"no array for {', '.join(missing)}; give a caffemodel too, from which they are taken"
        )


def _address(blob: NDArray[np.float32]) -> int:
    return int(blob.ctypes.data)
