"""Lists of windows in files, by the file's suffix, and windows taken from one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffe_scnn.detect.boxes import Boxes, clip
from caffe_scnn.detect.picture import Picture
from caffe_scnn.detect.proposals.csv_file import read_csv_proposals, write_csv_proposals
from caffe_scnn.detect.proposals.mat_file import read_mat_proposals
from caffe_scnn.detect.proposals.npz_file import read_npz_proposals, write_npz_proposals
from caffe_scnn.detect.proposals.tidy import MINIMUM_SIDE, tidy
from caffe_scnn.detect.proposals.window_file import read_window_file
from caffe_scnn.errors import FormatError, OutputError

_READERS: dict[str, Callable[[Path], dict[str, Boxes]]] = {
    ".mat": read_mat_proposals,
    ".txt": read_window_file,
    ".csv": read_csv_proposals,
    ".npz": read_npz_proposals,
}
_WRITERS: dict[str, Callable[[Path, Mapping[str, Boxes]], None]] = {
    ".npz": write_npz_proposals,
    ".csv": write_csv_proposals,
}


def read_proposals(path: Path) -> dict[str, Boxes]:
    """Read a list of windows: MATLAB's ``.mat``, a window file ``.txt``, ``.csv`` or ``.npz``.

    Returns
    -------
    dict
        Image id → boxes of shape (n, 4), float32, ``x1 y1 x2 y2`` from 1, as they stand there.

    Raises
    ------
    FormatError
        Another suffix, or not what the suffix says.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise FormatError(f"windows are read from {', '.join(_READERS)} files", str(path))
    return reader(path)


def write_proposals(path: Path, proposals: Mapping[str, Boxes]) -> None:
    """Write a list of windows as ``.npz`` or ``.csv``.

    Raises
    ------
    OutputError
        Another suffix, or the place cannot be written.
    """
    check_proposals_path(path)
    _WRITERS[path.suffix.lower()](path, proposals)


def check_proposals_path(path: Path) -> None:
    """Refuse a name that no windows can be written to, before any work is done for it.

    Raises
    ------
    OutputError
        Another suffix than ``.npz`` and ``.csv``.
    """
    if path.suffix.lower() not in _WRITERS:
        raise OutputError(f"{path}: windows are written as {' or '.join(_WRITERS)}")


@dataclass(frozen=True)
class FromFile:
    """Windows that were computed elsewhere.

    Parameters
    ----------
    proposals : mapping
        As :func:`read_proposals` gives them.
    path : Path
        Where they come from, for messages.
    minimum_side : float
        Smaller windows are left out.
    """

    proposals: Mapping[str, Boxes]
    path: Path
    minimum_side: float = MINIMUM_SIDE

    @property
    def fingerprint(self) -> str:
        """What the windows depend on: the file's content and the settings."""
        content = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return f"FromFile({content}, minimum_side={self.minimum_side})"

    def boxes(self, image: str, picture: Picture) -> Boxes:
        """Return the windows of a picture, cut at its border.

        Parameters
        ----------
        image : str
            The id under which the file has them.
        picture : ndarray of shape (H, W, 3), uint8
            Only its size matters.

        Returns
        -------
        ndarray of shape (n, 4), float32

        Raises
        ------
        FormatError
            The file has no windows of that image.
        """
        if image not in self.proposals:
            raise FormatError(
                f'no windows of image "{image}" (of {len(self.proposals)} others)', str(self.path)
            )
        height, width = picture.shape[:2]
        inside = clip(np.asarray(self.proposals[image], np.float32), width, height)
        return tidy(inside, self.minimum_side)
