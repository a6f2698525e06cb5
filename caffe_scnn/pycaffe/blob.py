"""A blob as scripts see it: an array that is there when it is looked at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.layers.base import Shape, count
from caffe_scnn.pycaffe.training import refuse_training

Values = NDArray[np.float32]


class Blob:
    """The values of one blob, or one learnt parameter.

    Parameters
    ----------
    shape : sequence of int
    memory : float32 ndarray, optional
        Memory to show instead of memory of its own: a learnt parameter's.

    Notes
    -----
    ``data`` is one and the same array from call to call as long as the shape stays, as in Caffe:
    who keeps it sees what later runs write into it.
    """

    def __init__(self, shape: Shape, memory: Values | None = None) -> None:
        self._shape = tuple(int(n) for n in shape)
        self._array: Values | None = None
        self._unheld = 0
        self.on_access: list[Callable[[Blob], None]] = []
        if memory is not None:
            self.show(memory)

    def show(self, memory: Values) -> None:
        """Make ``data`` an array on this memory."""
        # Views of an array know the array that owns the memory. Through a memoryview this array
        # owns it in the eyes of NumPy: whoever keeps a view keeps exactly this object alive.
        self._array = np.asarray(memory.data)
        self._shape = self._array.shape
        self._unheld = sys.getrefcount(self._array)

    @property
    def data(self) -> Values:
        """The values, to read and to write."""
        for notify in self.on_access:
            notify(self)
        return self.storage()

    @property
    def diff(self) -> Values:
        """Gradients, which there are none of: nets run forward only."""
        raise refuse_training("Blob.diff")

    @property
    def held(self) -> bool:
        """Whether somebody keeps ``data`` or a view of it and may look or write there any time."""
        return self._array is not None and sys.getrefcount(self._array) > self._unheld

    def storage(self) -> Values:
        """Return the array without telling anybody; it is made when it is first asked for."""
        if self._array is None:
            self.show(np.zeros(self._shape, np.float32))
        assert self._array is not None
        return self._array

    def put(self, values: NDArray[Any]) -> None:
        """Take over the values of a run, and their shape."""
        if values.shape != self._shape:
            self.reshape(*values.shape)
        np.copyto(self.storage(), values)

    @property
    def shape(self) -> Shape:
        """Extent of every axis."""
        return self._shape

    def reshape(self, *shape: int) -> None:
        """Change the shape; values are kept only where their number stays.

        Other blobs follow with ``Net.reshape`` or the next ``Net.forward``.
        """
        wanted = tuple(int(n) for n in shape)
        if wanted == self._shape:
            return
        same = count(wanted) == count(self._shape)
        old, self._array, self._shape = self._array, None, wanted
        if old is not None and same:
            self.show(old.reshape(wanted))

    @property
    def count(self) -> int:
        """Number of values."""
        return count(self._shape)

    @property
    def num(self) -> int:
        """The first of four axes."""
        return self._four(0)

    @property
    def channels(self) -> int:
        """The second of four axes."""
        return self._four(1)

    @property
    def height(self) -> int:
        """The third of four axes."""
        return self._four(2)

    @property
    def width(self) -> int:
        """The last of four axes."""
        return self._four(3)

    def _four(self, axis: int) -> int:
        """Return an extent of the old four-axis form, in which missing axes are 1."""
        if len(self._shape) > 4:
            raise ValueError(f"a blob of shape {self._shape} has no num, channels, height, width")
        return self._shape[axis] if axis < len(self._shape) else 1
