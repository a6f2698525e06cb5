"""Where windows come from: one interface, one way to name it, and a cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from caffe_scnn.detect.boxes import Boxes
from caffe_scnn.detect.content_cache import ContentCache
from caffe_scnn.detect.picture import Picture
from caffe_scnn.detect.proposals.files import FromFile, read_proposals
from caffe_scnn.detect.proposals.selective_search import SelectiveSearch
from caffe_scnn.detect.proposals.sliding_windows import SlidingWindows
from caffe_scnn.detect.proposals.tidy import MINIMUM_SIDE

CACHE_LIMIT = 1 << 30
"""Bytes of windows to keep: some 50,000 pictures."""


class Proposer(Protocol):
    """Something that proposes windows in a picture."""

    @property
    def fingerprint(self) -> str:
        """What the windows depend on besides the picture."""

    def boxes(self, image: str, picture: Picture) -> Boxes:
        """Return the windows of a picture.

        Parameters
        ----------
        image : str
            The picture's id.
        picture : ndarray of shape (H, W, 3), uint8

        Returns
        -------
        ndarray of shape (n, 4), float32
            ``x1 y1 x2 y2``: first and last pixel, both inside, counted from 1; no two the same.
        """


@dataclass(frozen=True)
class Kept:
    """The windows of another proposer, computed once for each picture.

    Parameters
    ----------
    proposer : Proposer
    cache : ContentCache
    """

    proposer: Proposer
    cache: ContentCache

    @property
    def fingerprint(self) -> str:
        """That of the proposer."""
        return self.proposer.fingerprint

    def boxes(self, image: str, picture: Picture) -> Boxes:
        """Return the windows of a picture, from the cache if they are there."""
        found = self.cache.get(
            self.fingerprint, picture, lambda: self.proposer.boxes(image, picture)
        )
        return np.asarray(found, np.float32).reshape(-1, 4)


def make_proposer(
    name: str, minimum_side: float = MINIMUM_SIDE, cache: Path | None = None
) -> Proposer:
    """Make a proposer from what a user writes.

    Parameters
    ----------
    name : str
        ``fast`` or ``quality`` (Selective Search), ``sliding``, or a file of windows.
    minimum_side : float
        Smaller windows are left out.
    cache : Path, optional
        A folder to keep what Selective Search finds.

    Raises
    ------
    FormatError
        A file that is no list of windows.
    OSError
        A file that cannot be read.
    """
    if name == "sliding":
        return SlidingWindows(minimum_side=minimum_side)
    if name not in ("fast", "quality"):
        path = Path(name)
        return FromFile(read_proposals(path), path, minimum_side)
    search = SelectiveSearch("fast" if name == "fast" else "quality", minimum_side)
    return search if cache is None else Kept(search, ContentCache(cache, CACHE_LIMIT))
