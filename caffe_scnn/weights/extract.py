"""The blobs of a caffemodel as named arrays."""

from __future__ import annotations

from pathlib import Path

from caffe_scnn.model.caffemodel import read_caffemodel
from caffe_scnn.model.net import Blob


def extract_weights(caffemodel: str | Path) -> dict[str, Blob]:
    """Read all blobs of a caffemodel.

    Parameters
    ----------
    caffemodel : str or Path
        Of any generation of the format; no prototxt is needed.

    Returns
    -------
    dict of str to float32 ndarray
        ``layer/0``, ``layer/1`` … in file order and in the stored shapes. Of layers of one name
        the last one counts, as when Caffe loads the file.

    Raises
    ------
    FormatError
        The file is no caffemodel.
    """
    stored = read_caffemodel(caffemodel)
    return {
        f"{layer.name}/{i}": blob.array
        for layer in stored.layers
        for i, blob in enumerate(layer.blobs)
    }
