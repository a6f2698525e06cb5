"""The images that a net's own data layer would read: lists, HDF5 files and databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.database import Database
from caffe_scnn.evaluate.images import Images, Labels
from caffe_scnn.evaluate.labels import read_lines, read_list
from caffe_scnn.model.net import Layer, Net

READ = ("Data", "ImageData", "HDF5Data")


def read_source(prototxt: Path) -> tuple[Images, Labels]:
    """Return what the first data layer of a prototxt names, with labels.

    Parameters
    ----------
    prototxt : Path
        Usually a ``train_val.prototxt``. Of several data layers that of the TEST phase counts.
        Names in it start, as for Caffe, at the current folder, or else beside the prototxt.

    Returns
    -------
    images : list of Path, ndarray or Database
        Pictures of an ImageData layer, pixels (N, …) of HDF5 files, or the database of a Data
        layer.
    labels : int64 ndarray of shape (N,) or None

    Raises
    ------
    FormatError
        No such layer, or files that are missing or of another form.
    CaffeScnnError
        The package that reads a database is not installed.
    """
    layers = [layer for layer in Net.read(prototxt) if layer.type in READ]
    if not layers:
        raise FormatError(
            f"has no layer of type {' or '.join(READ)}; give --images with --list, or --input "
            "with an npz",
            str(prototxt),
        )
    layer = max(layers, key=_of_test_phase)
    if layer.type == "HDF5Data":
        return _hdf5(layer, prototxt)
    if layer.type == "Data":
        database = Database(_found(layer.proto.data_param.source, prototxt))
        return database, database.labels
    param = layer.proto.image_data_param
    listed = read_list(_found(param.source, prototxt), _found(param.root_folder or ".", prototxt))
    return [picture.path for picture in listed], np.array([p.label for p in listed], np.int64)


def _of_test_phase(layer: Layer) -> bool:
    return any(rule.HasField("phase") and rule.phase == 1 for rule in layer.proto.include)


def _found(name: str, prototxt: Path) -> Path:
    here, beside = Path(name), prototxt.parent / name
    if not here.exists() and not beside.exists():
        raise FormatError(f'the data layer names "{name}", which is not there', str(prototxt))
    return here if here.exists() else beside


def _hdf5(layer: Layer, prototxt: Path) -> tuple[Images, Labels]:
    """Join the files of an HDF5Data layer's list: a dataset for each top, named as the top."""
    try:
        import h5py
    except ImportError as error:
        raise FormatError(
            "HDF5Data needs h5py: pip install 'caffe-scnn[hdf5]'", str(prototxt)
        ) from error
    names = read_lines(_found(layer.proto.hdf5_data_param.source, prototxt))
    parts: dict[str, list[NDArray[Any]]] = {top: [] for top in layer.tops}
    for name in filter(None, map(str.strip, names)):
        path = _found(name, prototxt)
        try:
            with h5py.File(path) as file:
                for top, found in parts.items():
                    found.append(np.asarray(file[top]))
        except (OSError, KeyError) as error:
            raise FormatError(f"cannot be read as HDF5 data: {error}", str(path)) from error
    joined = [np.concatenate(found) for found in parts.values() if found]
    if not joined:
        raise FormatError("the list of HDF5 files is empty", str(prototxt))
    labels = joined[1].reshape(-1).astype(np.int64) if len(joined) > 1 else None
    return joined[0], labels
