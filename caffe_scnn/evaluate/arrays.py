"""Arrays in and out: the inputs of a net from npz, npy or a seed, its blobs into an npz."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Shape
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.graph import is_fed
from caffe_scnn.model.net import Net

Values = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
ONLY = ""  # the key of the one array of an npy file
NUMPY, ZIP = b"\x93NUMPY", b"PK"  # how npy and npz files begin


def read_arrays(path: Path) -> Arrays:
    """Read a ``.npz`` (name → array) or a ``.npy`` (one array, under the name ``""``).

    Raises
    ------
    FormatError
        Not such a file, damaged, or with Python objects inside.
    OSError
        The file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            if not file.peek(len(NUMPY)).startswith((NUMPY, ZIP)):
                raise FormatError(
                    "not a readable .npz or .npy file of numbers, but something else; is it the "
                    "file that is meant here?",
                    str(path),
                )
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {ONLY: loaded}
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FormatError(
            f"not a readable .npz or .npy file of numbers: {error}", str(path)
        ) from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an npz, whole or not at all.

    Raises
    ------
    OutputError
        The place cannot be written.
    """
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        # np.savez would take a blob named "file" for its own argument.
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def input_shapes(net: Net) -> dict[str, Shape | None]:
    """Return the inputs of a net with the shapes that are known before it is fed, or else None."""
    shapes: dict[str, Shape | None] = {}
    for layer in net:
        if is_fed(layer):
            try:
                known: list[Shape] = layer_type(layer).feed(layer, net.input_shapes)
            except ModelError:
                shapes |= {top: net.input_shapes.get(top) for top in layer.tops}
            else:
                shapes |= dict(zip(layer.tops, known, strict=True))
    return shapes


def pick_inputs(
    arrays: Mapping[str, NDArray[Any]],
    wanted: Mapping[str, Shape | None],
    source: str,
    step: str = "",
) -> dict[str, Values]:
    """Choose the inputs of a net among arrays.

    Parameters
    ----------
    arrays : mapping
        Blob name → array, or ``in/<blob>`` → array when any name begins so, or ``u8/<blob>`` with
        ``mean/<blob>`` and ``scale/<blob>``: (pixel − mean) · scale. One array under ``""`` is the
        only input. Other names are ignored.
    wanted : mapping
        Input name → shape, as :func:`input_shapes` gives them; sizes may differ, the number of
        axes may not.
    source : str
        The file, for messages.
    step : str
        ``".2"`` reads ``in.2/…``.

    Raises
    ------
    ModelError
        An input is missing, is not made of numbers, or has another number of axes.
    """
    prefix = f"in{step}/" if any(name.startswith(f"in{step}/") for name in arrays) else ""
    chosen = {}
    for name, shape in wanted.items():
        array = _find(arrays, prefix, name, only=len(wanted) == 1)
        if array is None:
            raise ModelError(
                f'{source}: no array for the input "{name}" of shape {shape}; the file holds '
                + (", ".join(filter(None, arrays)) or "one array without a name")
            )
        chosen[name] = _as_input(array, name, shape, source)
    return chosen


def random_inputs(
    wanted: Mapping[str, Shape | None], seed: int, batch: int | None = None
) -> dict[str, Values]:
    """Make normally distributed inputs: the same seed and shapes give the same values.

    Parameters
    ----------
    wanted : mapping
        As :func:`input_shapes` gives them.
    batch : int, optional
        Replaces the first axis of every input.

    Raises
    ------
    ModelError
        The prototxt gives an input no shape, or an impossible one.
    """
    generator = np.random.default_rng(seed)
    inputs = {}
    for name, shape in wanted.items():
        if shape is None or min(shape, default=1) < 1:
            raise ModelError(f'input "{name}" has the shape {shape}: no values can be made for it')
        dims = (batch, *shape[1:]) if batch and shape else shape
        inputs[name] = generator.standard_normal(dims, dtype=np.float32)
    return inputs


def _find(
    arrays: Mapping[str, NDArray[Any]], prefix: str, name: str, *, only: bool
) -> NDArray[Any] | None:
    if only and ONLY in arrays:
        return arrays[ONLY]
    if prefix + name in arrays:
        return arrays[prefix + name]
    if f"u8/{name}" not in arrays:
        return None
    pixels = arrays[f"u8/{name}"].astype(np.float32)
    mean = arrays.get(f"mean/{name}", np.zeros(1)).astype(np.float32)
    scale = arrays.get(f"scale/{name}", np.ones(())).astype(np.float32)
    return (pixels - mean.reshape(-1, 1, 1)) * scale


def _as_input(array: NDArray[Any], name: str, shape: Shape | None, source: str) -> Values:
    if array.dtype.kind not in "biuf":
        raise ModelError(f'{source}: input "{name}" holds {array.dtype}, not numbers')
    if shape is not None and array.ndim != len(shape):
        missing = " (the batch axis is missing)" if array.ndim == len(shape) - 1 else ""
        raise ModelError(
            f'{source}: input "{name}" has the shape {array.shape}{missing}; the net takes {shape}'
        )
    if array.size == 0:
        raise ModelError(f'{source}: input "{name}" of shape {array.shape} holds no values')
    return np.ascontiguousarray(array, dtype=np.float32)
