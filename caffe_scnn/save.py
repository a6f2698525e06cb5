"""The way back out: a net as the files that Caffe loads."""

from __future__ import annotations

from pathlib import Path

from caffe_scnn.model.caffemodel import write_caffemodel
from caffe_scnn.model.net import Net

PROTOTXT = "deploy.prototxt"
CAFFEMODEL = "weights.caffemodel"


def save(net: Net, folder: str | Path, *, weights: bool = True) -> None:
    """Write ``deploy.prototxt`` and ``weights.caffemodel``.

    Parameters
    ----------
    net : Net
    folder : str or Path
        An existing folder; :func:`caffe_scnn.model.atomic.output_directory` makes one that
        appears whole or not at all.
    weights : bool
        False leaves the caffemodel out: for a net without blobs. Otherwise weights that stood in
        the prototxt go there.

    Raises
    ------
    OutputError
        A file cannot be written, or the weights would pass 2 GiB.
    """
    net.write(Path(folder) / PROTOTXT, weights=not weights)
    if weights:
        write_caffemodel(net, Path(folder) / CAFFEMODEL)
