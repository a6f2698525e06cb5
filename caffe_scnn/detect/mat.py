"""MATLAB files of every version, as plain values.

Versions 4 to 7 are read by SciPy. Version 7.3 is HDF5 with its axes reversed and its cells and
structs made of references; it needs the extra ``hdf5`` (h5py).
"""

from __future__ import annotations

import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from caffe_scnn.errors import FormatError
from caffe_scnn.model.hdf5 import is_hdf5, open_hdf5

Value = Any
"""A matrix is an ndarray of two or more axes, a text a str, a cell a list, a struct a dict, and an
array of structs a list of dicts."""

# What SciPy raises on damaged files is not documented.
_DAMAGE = (ValueError, TypeError, OSError, IndexError, KeyError, EOFError, NotImplementedError)


class MatFile:
    """The variables of a MATLAB file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    FormatError
        Not a MATLAB file, damaged, or version 7.3 without h5py.
    OSError
        The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tree: Any = None
        self._variables: dict[str, Any] = {}
        with path.open("rb"):
            pass  # says what is wrong with the path itself
        if is_matlab_hdf5(path):
            self._tree = open_hdf5(path)
        else:
            self._variables = self._load()

    def __enter__(self) -> MatFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tree is not None:
            self._tree.close()

    @property
    def names(self) -> list[str]:
        """The variables' names."""
        if self._tree is not None:
            return [name for name in self._tree if not name.startswith("#")]
        return [name for name in self._variables if not name.startswith("__")]

    def read(self, name: str) -> Value:
        """Return a variable.

        Raises
        ------
        FormatError
            No such variable, or it is damaged.
        """
        if name not in self.names:
            found = ", ".join(self.names) or "none"
            raise FormatError(f'no variable "{name}"; variables: {found}', str(self.path))
        try:
            if self._tree is None:
                return _from_scipy(self._variables[name])
            return _from_hdf5(self._tree, self._tree[name])
        except (*_DAMAGE, RuntimeError) as error:
            raise FormatError(f'variable "{name}" is damaged: {error}', str(self.path)) from error

    def _load(self) -> dict[str, Any]:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        try:
            return dict(loadmat(str(self.path), appendmat=False))
        except (MatReadError, zlib.error, *_DAMAGE) as error:
            raise FormatError(f"not a readable MATLAB file: {error}", str(self.path)) from error


def is_matlab_hdf5(path: Path) -> bool:
    """Tell version 7.3: HDF5 after 512 bytes of MATLAB's own, or from the start."""
    with path.open("rb") as file:
        head = file.read(512 + 8)
    return head[512:] == b"\x89HDF\r\n\x1a\n" or is_hdf5(path)


def _from_scipy(value: Any) -> Value:
    array = np.asarray(value)
    if array.dtype.names:
        structs = [
            {name: _from_scipy(item[name]) for name in array.dtype.names}
            for item in array.ravel(order="F")
        ]
        return structs[0] if len(structs) == 1 else structs
    if array.dtype.kind == "O":
        return [_from_scipy(item) for item in array.ravel(order="F")]
    if array.dtype.kind == "U":
        return str(array[0]) if array.size == 1 else "" if not array.size else array.tolist()
    return array


def _from_hdf5(tree: Any, item: Any) -> Value:
    kind = _class_of(item)
    if hasattr(item, "keys"):  # a group is a struct
        return _struct(tree, item)
    if item.attrs.get("MATLAB_empty", 0):
        return "" if kind == "char" else [] if kind == "cell" else np.zeros((0, 0))
    values = np.asarray(item)
    if values.dtype.kind == "O":
        return [_from_hdf5(tree, tree[reference]) for reference in values.ravel()]
    if kind == "char":
        return "".join(map(chr, values.ravel()))
    return values.T


def _class_of(item: Any) -> str:
    kind = item.attrs.get("MATLAB_class", b"")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _struct(tree: Any, group: Any) -> Value:
    """Return a struct; where every field is a set of references, an array of structs."""
    import h5py

    def is_array(field: Any) -> bool:
        return (
            isinstance(field, h5py.Dataset)
            and h5py.check_ref_dtype(field.dtype) is not None
            and not _class_of(field)  # a field that is a cell says so
        )

    if not (len(group) and all(map(is_array, group.values()))):
        return {name: _from_hdf5(tree, field) for name, field in group.items()}
    columns = {
        name: [_from_hdf5(tree, tree[reference]) for reference in np.asarray(field).ravel()]
        for name, field in group.items()
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
