"""LMDB and LevelDB with Caffe's Datum messages, as ``convert_imageset`` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from caffe_scnn.errors import CaffeScnnError, FormatError
from caffe_scnn.proto import caffe_pb2 as pb

LMDB_FILE, LEVELDB_FILE = "data.mdb", "CURRENT"
# An LMDB may be open once in a process; who reads the same one shares it.
_ENVIRONMENTS: WeakValueDictionary[Path, Any] = WeakValueDictionary()


def is_database(path: Path) -> bool:
    """Tell whether a folder holds an LMDB or a LevelDB."""
    return (path / LMDB_FILE).is_file() or (path / LEVELDB_FILE).is_file()


class Database:
    """Images and labels in the order of the keys, which is the order Caffe reads them in.

    Parameters
    ----------
    path : Path
        The folder.

    Attributes
    ----------
    labels : int64 ndarray of shape (images,)

    Raises
    ------
    FormatError
        It is no database, cannot be opened, or is empty.
    CaffeScnnError
        The package that reads it is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        if not self._keys:
            raise FormatError("the database is empty", str(path))
        self.labels: NDArray[np.int64] = np.array(
            [self._datum(index).label for index in range(len(self))], np.int64
        )

    def __len__(self) -> int:
        return len(self._keys)

    def read(self, index: int, channels: str) -> NDArray[Any]:
        """Return the pixels of one Datum: raw bytes, floats or an encoded picture.

        Parameters
        ----------
        index : int
        channels : {"bgr", "rgb", "gray"}
            What the net takes. Datum messages are BGR, or have one channel.

        Returns
        -------
        ndarray of shape (H, W, C)

        Raises
        ------
        FormatError
            The value is no Datum, or no picture.
        """
        datum = self._datum(index)
        if datum.encoded:
            pixels = _decoded(datum.data, channels == "gray")
        else:
            values: Any = (
                np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data)
            )
            shape = datum.channels, datum.height, datum.width
            pixels = (
                values.reshape(shape).transpose(1, 2, 0) if values.size == _size(shape) else None
            )
        if pixels is None:
            raise FormatError(
                f"the value of key {self._keys[index]!r} is no picture", str(self._path)
            )
        return pixels[:, :, ::-1] if channels == "rgb" else pixels

    def identity(self) -> str:
        """Return what tells this database from others: its files' names, sizes and times."""
        files = [(path, path.stat()) for path in sorted(self._path.iterdir()) if path.is_file()]
        return repr([(str(path), s.st_size, s.st_mtime_ns) for path, s in files])

    def _open(self) -> None:
        if not is_database(self._path):
            raise FormatError("neither an LMDB nor a LevelDB folder", str(self._path))
        lmdb_here = (self._path / LMDB_FILE).is_file()
        try:
            self._keys = self._open_lmdb() if lmdb_here else self._open_leveldb()
        except ImportError as error:
            name, extra = ("LMDB", "lmdb") if lmdb_here else ("LevelDB", "leveldb")
            raise CaffeScnnError(
                f"{self._path}: reading {name} needs another package; "
                f"pip install 'caffe-scnn[{extra}]'"
            ) from error

    def _open_lmdb(self) -> Sequence[bytes]:
        import lmdb

        place = self._path.resolve()
        try:
            self._lmdb = _ENVIRONMENTS.get(place) or lmdb.open(
                str(place), readonly=True, lock=False, max_readers=1024
            )
        except lmdb.Error as error:
            raise FormatError(f"not a readable LMDB: {error}", str(self._path)) from error
        _ENVIRONMENTS[place] = self._lmdb
        self._get = self._get_lmdb
        with self._lmdb.begin() as transaction:
            return [bytes(key) for key in transaction.cursor().iternext(values=False)]

    def _get_lmdb(self, key: bytes) -> bytes:
        with self._lmdb.begin() as transaction:
            return bytes(transaction.get(key) or b"")

    def _open_leveldb(self) -> Sequence[bytes]:
        import plyvel

        try:
            self._leveldb = plyvel.DB(str(self._path), create_if_missing=False)
        except plyvel.Error as error:
            raise FormatError(f"not a readable LevelDB: {error}", str(self._path)) from error
        self._get = self._leveldb.get
        return list(self._leveldb.iterator(include_value=False))

    def _datum(self, index: int) -> pb.Datum:
        key = self._keys[index]
        try:
            return pb.Datum.FromString(self._get(key))
        except DecodeError as error:
            raise FormatError(
                f"the value of key {key!r} is no Datum: {error}", str(self._path)
            ) from error


def _size(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]


def _decoded(content: bytes, grey: bool) -> NDArray[np.uint8] | None:
    import cv2

    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    if picture is None:
        return None
    pixels = np.asarray(picture, np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
