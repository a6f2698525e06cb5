"""What a pass is: a net in, a net out, and a note on everything it did or left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from caffe_scnn.errors import PassError
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net


@dataclass(frozen=True, eq=False)
class PassResult:
    """What a pass gives back.

    Attributes
    ----------
    net : Net
        The new net; the argument is never changed, though both may hold the same arrays.
    changed : int
        Number of changes.
    notes : tuple of str
        One for each change, and one for each place that was left alone and why.
    """

    net: Net
    changed: int
    notes: tuple[str, ...]


class Pass(Protocol):
    """A function from a net (phase selected, weights bound) to a :class:`PassResult`."""

    def __call__(self, net: Net, /) -> PassResult:
        """Rewrite."""


def check_shapes(before: Net, after: Net, name: str) -> None:
    """Compare the shapes of all blobs that both nets have.

    Raises
    ------
    PassError
        A shape differs: the pass is wrong.
    """
    old, new = infer_shapes(before).blobs, infer_shapes(after).blobs
    for blob in old.keys() & new.keys():
        if old[blob] != new[blob]:
            raise PassError(f'{name}: blob "{blob}" had shape {old[blob]}, now {new[blob]}')
