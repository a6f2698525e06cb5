"""Writes MATLAB files of version 7.3 the way MATLAB does: HDF5 behind 512 bytes, axes reversed."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np

_NUMBERS = itertools.count()


def write_mat73(path: Path, variables: dict[str, object]) -> Path:
    """Write variables: arrays, str, list (cell), dict (struct), tuple of dict (struct array)."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            _write(file, file, name, value)
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\0\2IM"
    with path.open("r+b") as raw:
        raw.write(head)
    return path


def _write(file, place, name, value):
    if isinstance(value, dict):
        item = place.create_group(name)
        for key, field in value.items():
            _write(file, item, key, field)
        kind = "struct"
    elif isinstance(value, tuple):  # each field a row of references, without a class
        item = place.create_group(name)
        for key in value[0]:
            item.create_dataset(key, data=_references(file, [one[key] for one in value]))
        kind = "struct"
    elif isinstance(value, list):
        item = place.create_dataset(name, data=_references(file, value))
        kind = "cell"
    elif isinstance(value, str):
        item = place.create_dataset(name, data=np.array([[ord(c)] for c in value], np.uint16))
        kind = "char"
    else:
        array = np.asarray(value)
        if array.size:
            item = place.create_dataset(name, data=array.T)
        else:
            item = place.create_dataset(name, data=np.array(array.shape, np.uint64))
            item.attrs["MATLAB_empty"] = np.uint8(1)
        kind = {"f4": "single"}.get(array.dtype.str[1:], "double")
    item.attrs["MATLAB_class"] = np.bytes_(kind)


def _references(file, values):
    hidden = file.require_group("#refs#")
    made = np.empty((len(values), 1), h5py.ref_dtype)
    for index, value in enumerate(values):
        name = f"r{next(_NUMBERS)}"
        _write(file, hidden, name, value)
        made[index, 0] = hidden[name].ref
    return made
