"""Weights in HDF5, as Caffe saves them with ``snapshot_format: HDF5``: ``data/<layer>/<index>``.

A layer that uses another's parameter has no data set for it. Needs the extra ``hdf5`` (h5py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caffe_scnn.errors import FormatError, OutputError
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.blob import StoredBlob
from caffe_scnn.model.net import Net

if TYPE_CHECKING:
    from caffe_scnn.model.caffemodel import StoredLayer

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUFFIXES = (".h5", ".hdf5")


def is_hdf5(path: str | Path) -> bool:
    """Tell an HDF5 file by its first bytes, as Caffe does; False if it cannot be read."""
    if not Path(path).is_file():  # a pipe is not to be read from
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def read_hdf5(path: str | Path) -> list[StoredLayer]:
    """Read the layers of an HDF5 file, in its own order (by name).

    Raises
    ------
    FormatError
        h5py is not installed, or the file is damaged or not laid out as Caffe does it.
    """
    h5py = _h5py(str(path))
    try:
        with open_hdf5(path) as file:
            if "data" not in file:
                raise FormatError('is HDF5, but has no group "data" as Caffe writes', str(path))
            return [_layer(h5py, name, group, str(path)) for name, group in file["data"].items()]
    except (OSError, RuntimeError, KeyError) as error:
        raise FormatError(f"is damaged HDF5: {error}", str(path)) from error


def open_hdf5(path: str | Path) -> Any:
    """Open an HDF5 file to read from; the caller closes it.

    Returns
    -------
    h5py.File

    Raises
    ------
    FormatError
        h5py is not installed, or the file is damaged.
    """
    h5py = _h5py(str(path))
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise FormatError(f"is damaged HDF5: {error}", str(path)) from error


def _layer(h5py: Any, name: str, group: Any, path: str) -> StoredLayer:
    from caffe_scnn.model.caffemodel import StoredLayer

    layer = StoredLayer(name, "")
    if not isinstance(group, h5py.Group):
        raise FormatError(f'"data/{name}" is no group of numbered blobs', path)
    for index in range(len(group)):
        blob = group.get(str(index))
        if not isinstance(blob, h5py.Dataset) or blob.dtype.kind != "f":
            raise FormatError(
                f'"data/{name}" lacks the floats of blob {index}; blobs that a layer shares with '
                "another are kept by one of them, which cannot be told from HDF5 alone: "
                "save the weights as .caffemodel",
                path,
            )
        array = np.asarray(blob, np.float32)
        layer.blobs.append(StoredBlob(array.shape, False, array))
    return layer


def write_hdf5(net: Net, path: str | Path) -> None:
    """Write all blobs as Caffe does.

    Raises
    ------
    OutputError
        h5py is not installed, or the file cannot be written; an existing one keeps its content.
    """
    try:
        h5py = _h5py(str(path))
    except FormatError as error:
        raise OutputError(str(error)) from error
    with atomic_write(path) as file, h5py.File(file, "w") as tree:
        data = tree.create_group("data")
        for layer in net.layers:
            group = data.require_group(layer.name)
            for index, blob in enumerate(layer.blobs):
                group.create_dataset(str(index), data=blob)


def _h5py(path: str) -> Any:
    try:
        import h5py  # it has no stubs
    except ImportError as error:
        raise FormatError(
            "is HDF5, which needs h5py: pip install 'caffe_scnn[hdf5]'", path
        ) from error
    return h5py
