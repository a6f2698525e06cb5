"""A layer as scripts see it."""

from __future__ import annotations

from dataclasses import dataclass, field

from caffe_scnn.pycaffe.blob import Blob


@dataclass(eq=False)
class Layer:
    """One layer of ``Net.layers``.

    Attributes
    ----------
    name, type : str
    blobs : list of Blob
        What it has learnt: the same objects as ``Net.params`` gives.
    """

    name: str
    type: str
    blobs: list[Blob] = field(default_factory=list)
