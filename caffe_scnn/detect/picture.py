"""Pictures as detection takes them: whole, in colour, as OpenCV reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError

Picture = NDArray[np.uint8]
"""(H, W, 3), channels BGR."""


def read_picture(path: Path) -> Picture:
    """Read a picture in colour; a grey one gets three equal channels.

    Raises
    ------
    FormatError
        OpenCV cannot read it.
    OSError
        The file cannot be read.
    """
    import cv2

    content = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if picture is None:
        raise FormatError("not a picture that OpenCV can read", str(path))
    return np.asarray(picture, np.uint8)
