"""Arrays kept on disk under the fingerprint of what they were made from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.picture import Picture
from caffe_scnn.model.atomic import atomic_write


class ContentCache:
    """A folder of arrays, one for each picture and way of making it, bounded in size.

    Keys are made of contents, never of names: a changed picture or setting is another key. Files
    appear whole, so a run may be interrupted, and several may share the folder.

    Parameters
    ----------
    folder : Path
        Made when needed. What is in it may be deleted at any time.
    limit : int
        Bytes; of more, what was not used for longest is deleted.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._size: int | None = None  # None: not counted yet

    def get(self, maker: str, picture: Picture, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what is kept of a picture; make it if there is nothing, or only a spoilt file.

        Parameters
        ----------
        maker : str
            Fingerprint of what makes it, with all settings.
        picture : uint8 ndarray
        make : callable
            Makes the array.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        key = hashlib.sha256(f"{maker}\0{picture.shape}\0".encode())
        key.update(np.ascontiguousarray(picture).data)
        path = self.folder / f"{key.hexdigest()}.npy"
        with suppress(OSError, ValueError, EOFError):
            found: NDArray[Any] = np.load(path, allow_pickle=False)
            os.utime(path)  # used just now
            return found
        made = make()
        self._write(path, made)
        return made

    def _write(self, path: Path, array: NDArray[Any]) -> None:
        with suppress(OSError):  # the message comes from atomic_write
            self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.save(file, array)
            size = file.tell()
        if self._size is None or self._size + size > self.limit:
            self._size = self._shrink()
        else:
            self._size += size

    def _shrink(self) -> int:
        """Delete what was not used for longest while there is too much; return what is left."""
        files = []
        for file in self.folder.glob("*.npy"):
            with suppress(OSError):  # another process deleted it
                state = file.stat()
                files.append((state.st_mtime_ns, state.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files)[:-1]:  # the newest stays, however large
            if total <= self.limit:
                break
            file.unlink(missing_ok=True)
            total -= size
        return total
