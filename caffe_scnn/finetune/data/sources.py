"""Where training images come from: files, arrays, or a database of Caffe's Datum messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.database import Database
from caffe_scnn.evaluate.images import read_images
from caffe_scnn.preprocess import Transformer

Pixels = NDArray[Any]


class Source(Protocol):
    """Images that can be read in any order, from several threads."""

    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        """Count them."""
        ...

    def read(self, index: int) -> Pixels:
        """Return the pixels of one, (H, W, C) in the order of the net's channels."""
        ...


class Files:
    """Pictures in files.

    Parameters
    ----------
    paths : sequence of Path
    transformer : Transformer
        Its order of channels counts.
    labels : ndarray of shape (images,), optional
    """

    def __init__(
        self,
        paths: Sequence[Path],
        transformer: Transformer,
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        self._paths = paths
        self._transformer = transformer
        self.labels = labels

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> Pixels:
        """Decode a file."""
        return self._transformer.read(self._paths[index])


class Arrays:
    """Pixels in memory, (N, C, H, W)."""

    def __init__(self, pixels: Pixels, labels: NDArray[np.int64] | None = None) -> None:
        self._pixels = pixels[:, None] if pixels.ndim == 3 else pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, index: int) -> Pixels:
        """Put channels last."""
        return np.asarray(self._pixels[index].transpose(1, 2, 0))


class Records:
    """Pictures in a database of Caffe's Datum messages."""

    def __init__(self, database: Database, transformer: Transformer) -> None:
        self._database = database
        self._channels = transformer.channels
        self.labels: NDArray[np.int64] | None = database.labels

    def __len__(self) -> int:
        return len(self._database)

    def read(self, index: int) -> Pixels:
        """Decode a value."""
        return self._database.read(index, self._channels)


class Part:
    """Some images of another source."""

    def __init__(self, source: Source, chosen: NDArray[np.int64]) -> None:
        self._source = source
        self._chosen = chosen
        self.labels = None if source.labels is None else source.labels[chosen]

    def __len__(self) -> int:
        return len(self._chosen)

    def read(self, index: int) -> Pixels:
        """Read the image that has this place in the part."""
        return self._source.read(int(self._chosen[index]))


def open_source(path: Path, transformer: Transformer, folder: Path | None = None) -> Source:
    """Open whatever ``path`` is: see :func:`~caffe_scnn.evaluate.images.read_images`.

    Parameters
    ----------
    path : Path
    transformer : Transformer
        Of the net's input.
    folder : Path, optional
        Where the names of a list start.

    Raises
    ------
    FormatError, OSError
        There are no images, or they cannot be read.
    """
    images, labels = read_images(path, folder)
    if isinstance(images, Database):
        return Records(images, transformer)
    if isinstance(images, list):
        return Files(images, transformer, labels)
    if images.dtype.kind not in "biuf" or images.ndim not in (3, 4) or not len(images):
        raise FormatError(
            f"images are numbers of shape (N, C, H, W), not {images.dtype} of {images.shape}",
            str(path),
        )
    return Arrays(images, labels)
