"""Pictures as pycaffe holds them: (H, W, C) float32 in 0 … 1, channels in RGB order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError
from caffe_scnn.pycaffe.blob import Values

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)  # of R, G, B (ITU-R BT.709)
_ORDERS = {0: "INTER_NEAREST", 1: "INTER_LINEAR", 3: "INTER_CUBIC"}


def load_image(filename: str | Path, color: bool = True) -> Values:
    """Read a picture.

    Parameters
    ----------
    filename : str or Path
    color : bool
        True: (H, W, 3) in RGB order, grey pictures too; False: (H, W, 1) of luminance.

    Returns
    -------
    float32 ndarray
        Values from 0 to 1.

    Raises
    ------
    FormatError
        The file is no picture.
    """
    import cv2

    content = np.frombuffer(Path(filename).read_bytes(), np.uint8)
    # As stored: no rotation by EXIF, all bits of 16-bit files.
    read = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if read is None:
        raise FormatError("not a picture that OpenCV can read", str(filename))
    stored = np.asarray(read)
    picture = stored.astype(np.float32)
    if stored.dtype.kind == "u":
        picture /= 256**stored.dtype.itemsize - 1
    if picture.ndim == 2:
        picture = picture[:, :, None]
    picture = picture[:, :, 2::-1] if picture.shape[2] > 2 else picture[:, :, :1]  # no alpha
    if color:
        return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
    return picture if picture.shape[2] == 1 else (picture @ _LUMINANCE)[:, :, None]


def resize_image(im: NDArray[Any], new_dims: Sequence[int], interp_order: int = 1) -> Values:
    """Resize (H, W, C).

    Parameters
    ----------
    im : ndarray of shape (H, W, C)
        Any number of channels.
    new_dims : (height, width)
    interp_order : {0, 1, 3}
        Nearest, linear, cubic. Pixels are areas: centres are mapped, borders continue.
    """
    import cv2

    if interp_order not in _ORDERS:
        raise ValueError(f"interp_order must be one of {sorted(_ORDERS)}, not {interp_order}")
    height, width = (int(n) for n in new_dims[:2])
    source = np.ascontiguousarray(im, np.float32)
    resized = cv2.resize(source, (width, height), interpolation=getattr(cv2, _ORDERS[interp_order]))
    return np.asarray(resized, np.float32).reshape(height, width, *source.shape[2:])


def oversample(images: Sequence[NDArray[Any]], crop_dims: Sequence[int]) -> Values:
    """Cut ten pieces out of each picture: four corners, the centre, and all five mirrored.

    Parameters
    ----------
    images : sequence of ndarray of shape (H, W, C)
        All of one size.
    crop_dims : (height, width)

    Returns
    -------
    ndarray of shape (10·N, height, width, C)
        Corners from left to right, then down; the centre; then the mirrored ones.
    """
    height, width = (int(n) for n in crop_dims)
    rows, columns = np.shape(images[0])[:2]
    if height > rows or width > columns:
        raise ValueError(f"crops of {height}x{width} do not fit into {rows}x{columns} pixels")
    corners = [(top, left) for top in (0, rows - height) for left in (0, columns - width)]
    places = [*corners, (int(rows / 2 - height / 2), int(columns / 2 - width / 2))]
    crops = [
        np.stack([image[top : top + height, left : left + width] for top, left in places])
        for image in images
    ]
    return np.concatenate([part for five in crops for part in (five, five[:, :, ::-1])]).astype(
        np.float32
    )
