"""A caffemodel on another prototxt than its own."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from caffe_scnn.layers.binding import MISMATCHED, MISSING, Binding
from caffe_scnn.loading import load_weights, open_net
from caffe_scnn.model.net import Net


@dataclass(frozen=True, eq=False)
class Merge:
    """A net with the weights that fitted.

    Attributes
    ----------
    net : Net
    binding : Binding
        What became of every blob of the net and of the file.
    """

    net: Net
    binding: Binding

    @property
    def complete(self) -> bool:
        """Whether the file gave every blob of the net."""
        return not self.binding.with_status(MISSING, MISMATCHED)


def merge_weights(prototxt: str | Path, caffemodel: str | Path, *, phase: str = "TEST") -> Merge:
    """Give a net the blobs of a file wherever layer names and shapes agree.

    Parameters
    ----------
    prototxt, caffemodel : str or Path
    phase : str
        Whose layers exist.

    Returns
    -------
    Merge
        Blobs that did not fit hold their constant fillers, 0 for random ones.

    Raises
    ------
    FormatError, ModelError
        A file or a net that cannot be read, or weights that are not finite.
    """
    net = open_net(prototxt, phase=phase)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the binding says it in full
        binding = load_weights(net, caffemodel, allow_missing=True)
    return Merge(net, binding)
