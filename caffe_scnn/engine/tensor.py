"""Where the values of a net live in the arena, and how their planes are laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from caffe_scnn._kernels import Planes

Shape = tuple[int, ...]
Float32 = NDArray[np.float32]

# Planes that convolutions read start on a cache line (16 floats).
ALIGNMENT = 16


@dataclass(frozen=True)
class Border:
    """The halo that a value's consumers ask for.

    ``rows`` zero rows above and below, ``columns`` zeros before each row and behind the last, and
    ``gap`` more between rows; ``aligned`` planes begin on cache lines. A value that no convolution
    reads is contiguous: no halo, not aligned.
    """

    rows: int = 0
    columns: int = 0
    aligned: bool = False
    gap: int = 0

    @property
    def halo(self) -> bool:
        """Whether there are zeros around the pixels; without, anything lies in the gaps."""
        return self.rows > 0 or self.columns > 0

    def __or__(self, other: Border) -> Border:
        return Border(
            max(self.rows, other.rows),
            max(self.columns, other.columns),
            self.aligned or other.aligned,
            max(self.gap, other.gap),
        )


@dataclass(eq=False)
class Tensor:
    """A value in the arena.

    ``at`` is its first float; ``item`` the distance between two items of the batch, larger than
    the tensor's own planes where it is a part of a concatenation.
    """

    shape: Shape
    border: Border = Border()
    at: int = 0
    item: int = 0
    _planes: Planes | None = field(default=None, init=False, repr=False)
    _view: tuple[Float32, int, int, Float32] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.item = self.item or self.channels * self.plane

    @property
    def items(self) -> int:
        """Extent of the batch axis."""
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def channels(self) -> int:
        """Number of planes an item."""
        return self.shape[1] if len(self.shape) > 1 else 1

    @property
    def height(self) -> int:
        """Rows of a plane; blobs other than (N, C, H, W) have one row."""
        return self.shape[2] if len(self.shape) == 4 else 1

    @property
    def width(self) -> int:
        """Pixels of a row."""
        if len(self.shape) == 4:
            return self.shape[3]
        return math.prod(self.shape[2:] if len(self.shape) > 1 else self.shape)

    @property
    def pitch(self) -> int:
        """Distance between two rows."""
        return self.width + self.border.columns + self.border.gap

    @property
    def lead(self) -> int:
        """Position of a plane's first pixel."""
        return self.border.rows * self.pitch + self.border.columns

    @property
    def plane(self) -> int:
        """Distance between two planes."""
        size = self.lead + (self.height + self.border.rows) * self.pitch
        if not self.border.aligned:
            return size
        # an odd number of lines: the same pixels of many channels lie in all sets of a cache
        return -(-size // ALIGNMENT) * ALIGNMENT | ALIGNMENT

    @property
    def size(self) -> int:
        """Floats the tensor takes when it stands alone."""
        return self.items * self.channels * self.plane

    @property
    def contiguous(self) -> bool:
        """Whether the values lie side by side in C order."""
        own = self.channels * self.height * self.width
        return self.plane == self.height * self.width and (self.item == own or self.items == 1)

    def planes(self) -> Planes:
        """Return the geometry for the kernels, made once for each place in memory."""
        known = self._planes
        if known is None or known.at != self.at or known.item != self.item:
            known = self._planes = Planes(
                self.at,
                self.channels,
                self.height,
                self.width,
                self.pitch,
                self.lead,
                self.plane,
                self.item,
            )
        return known

    def run(self) -> Planes:
        """Return the geometry of a contiguous tensor as one plane of one row."""
        size = math.prod(self.shape)
        return Planes(self.at, 1, 1, size, size, 0, size)

    def array(self, arena: Float32) -> Float32:
        """Return a view of the values in the arena, of shape ``shape``, made once a place."""
        known = self._view
        if known is None or known[0] is not arena or known[1:3] != (self.at, self.item):
            known = self._view = (arena, self.at, self.item, self._array(arena))
        return known[3]

    def _array(self, arena: Float32) -> Float32:
        if self.contiguous:
            return arena[self.at : self.at + math.prod(self.shape)].reshape(self.shape)
        view = as_strided(
            arena[self.at + self.lead :],
            (self.items, self.channels, self.height, self.width),
            [4 * step for step in (self.item, self.plane, self.pitch, 1)],
        )
        return view if len(self.shape) == 4 else view.reshape(self.shape)


def outside(tensor: Tensor, arena: Float32, memory: Float32 | None) -> tuple[Float32, Planes]:
    """Return the values of a tensor in ``memory``, side by side, or in the arena without it."""
    if memory is None:
        return arena, tensor.planes()
    return memory, Tensor(tensor.shape).planes()


def rows_of(tensor: Tensor, item: int, first: int = 0, rows: int | None = None) -> Planes:
    """Return planes of one item, from row ``first`` on: ``rows`` rows, or all that follow.

    Where only padding follows they have one row.
    """
    return Planes(
        tensor.at + item * tensor.item,
        tensor.channels,
        max(1, tensor.height - first) if rows is None else rows,
        tensor.width,
        tensor.pitch,
        tensor.lead + first * tensor.pitch,
        tensor.plane,
    )


def channels_of(tensor: Tensor, item: int, first: int, channels: int) -> Planes:
    """Return so many planes of one item, from channel ``first`` on."""
    return Planes(
        tensor.at + item * tensor.item + first * tensor.plane,
        channels,
        tensor.height,
        tensor.width,
        tensor.pitch,
        tensor.lead,
        tensor.plane,
    )
