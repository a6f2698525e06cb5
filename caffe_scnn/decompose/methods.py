"""The table of decomposition methods."""

from __future__ import annotations

from difflib import get_close_matches

from caffe_scnn.decompose.auto import Auto
from caffe_scnn.decompose.base import Decomposition
from caffe_scnn.decompose.channels import ChannelSelection
from caffe_scnn.decompose.fc_svd import FcSvd
from caffe_scnn.decompose.low_rank import LowRank
from caffe_scnn.decompose.low_rank_3d import LowRank3d
from caffe_scnn.decompose.magnitude import Magnitude
from caffe_scnn.decompose.obs import Obs
from caffe_scnn.decompose.scnn import Scnn
from caffe_scnn.decompose.sparse_low_rank import SparseLowRank
from caffe_scnn.decompose.spatial import Spatial
from caffe_scnn.errors import CaffeScnnError

METHODS: tuple[type[Decomposition], ...] = (
    Scnn,
    Magnitude,
    Obs,
    LowRank,
    Spatial,
    LowRank3d,
    FcSvd,
    SparseLowRank,
    ChannelSelection,
    Auto,
)


def method_type(name: str) -> type[Decomposition]:
    """Return the method of this name.

    Raises
    ------
    CaffeScnnError
        There is none; the message names the nearest.
    """
    known = {method.name: method for method in METHODS}
    if name not in known:
        raise CaffeScnnError(f'unknown method "{name}"; {nearest(name, list(known))}')
    return known[name]


def nearest(name: str, known: list[str]) -> str:
    """Return a hint: the nearest known name, or all of them."""
    close = get_close_matches(name, known, n=1)
    return f'did you mean "{close[0]}"?' if close else f"known are {', '.join(known)}"
