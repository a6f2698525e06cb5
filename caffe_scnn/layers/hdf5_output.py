"""HDF5Output."""

from __future__ import annotations

from typing import ClassVar

from caffe_scnn.layers.silence import Silence


class HDF5Output(Silence):
    """Writes data and labels to a file (``hdf5_output_layer.cpp``); here it writes nothing."""

    type: ClassVar[str] = "HDF5Output"
    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)
