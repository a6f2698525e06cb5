"""Sparse matrix × dense matrix: the kernel of the sparse 1x1 convolution, for any use."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_scnn import _kernels
from caffe_scnn._kernels import Convolution, FlushToZero, Planes
from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.choose import choose_tile
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, stream
from caffe_scnn.engine.tensor import ALIGNMENT
from caffe_scnn.engine.threads import MULTIPLY_ADD, resolve_threads, threads_for
from caffe_scnn.engine.tile import Shape
from caffe_scnn.errors import KernelError
from caffe_scnn.layers.nonzeros import count_nonzeros

Float32 = NDArray[np.float32]


class _Rows(threading.local):
    """Memory of a thread for right-hand sides that do not lie as the kernel reads them."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.float32)

    def hold(self, x: Float32) -> Float32:
        """Return x in rows of whole vectors that begin on cache lines, copied if need be.

        Loads that cross cache lines take twice as long, and each row is read many times.
        """
        k, n = x.shape
        width = whole_vectors(n)
        aligned = x.ctypes.data % (4 * ALIGNMENT) == 0
        if width == n and aligned and x.flags.c_contiguous:
            return x.ravel()
        if self.memory.size < k * width:
            self.memory = allocate(k * width)
        rows = self.memory[: k * width].reshape(k, width)
        rows[:, :n] = x
        rows[:, n:] = 0
        return rows.ravel()


@dataclass(eq=False)
class PackedMatrix:
    """A matrix made ready for :func:`spmm`.

    Attributes
    ----------
    matrix : float32 ndarray of shape (m, k)
    isa : str
    nonzeros : int
    """

    matrix: Float32
    isa: str
    nonzeros: int
    _kernels: dict[int, Convolution] = field(default_factory=dict, repr=False)
    _rows: _Rows = field(default_factory=_Rows, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.matrix.shape[0], self.matrix.shape[1]

    def kernel(self, columns: int) -> Convolution:
        """Return the packed streams for a right-hand side of this width."""
        if columns not in self._kernels:
            k = self.shape[1]
            taps = Taps(np.arange(k, dtype=np.int64)[None] * whole_vectors(columns))
            tile = choose_tile(self.isa, self.matrix, 1, Shape(columns, k, 0))
            streams = stream(self.matrix, taps, tile.rows, tile.parts)
            self._kernels[columns] = convolution(
                self.isa,
                tile.lanes,
                streams,
                taps,
                Run(1, columns, columns, columns),
                Finish(),
                vectors=tile.vectors,
                base=0,
                threads=resolve_threads(None),
            )
        return self._kernels[columns]


def whole_vectors(columns: int) -> int:
    """Width of a row that every ISA's vectors fill."""
    return -(-columns // ALIGNMENT) * ALIGNMENT


def pack(matrix: ArrayLike, *, isa: str | None = None) -> PackedMatrix:
    """Pack a matrix once, to be multiplied many times.

    Parameters
    ----------
    matrix : array_like or SciPy sparse matrix of shape (m, k)
    isa : str, optional
        Instruction set; the best one by default.

    Raises
    ------
    KernelError
        Not a matrix, or an unknown ISA.
    """
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    values = np.ascontiguousarray(dense, np.float32)
    if values.ndim != 2 or 0 in values.shape:
        raise KernelError(f"pack takes a matrix, got an array of shape {values.shape}")
    return PackedMatrix(values, _kernels.best_isa(isa), count_nonzeros(values))


def spmm(
    packed: PackedMatrix,
    dense: ArrayLike,
    *,
    out: Float32 | None = None,
    threads: int | None = None,
) -> Float32:
    """Multiply a packed matrix (m, k) by a dense one (k, n); denormal numbers count as zero.

    Parameters
    ----------
    packed : PackedMatrix
    dense : array_like of shape (k, n)
    out : float32 ndarray of shape (m, n), optional
        Where to put the result; C-contiguous.
    threads : int, optional
        All available ones by default; the result does not depend on it.

    Returns
    -------
    float32 ndarray of shape (m, n)

    Raises
    ------
    KernelError
        The shapes do not fit.
    """
    x = np.asarray(dense, np.float32)
    m, k = packed.shape
    if x.ndim != 2 or x.shape[0] != k or x.shape[1] < 1:
        raise KernelError(f"spmm of {m}x{k} with an array of shape {x.shape}")
    n = x.shape[1]
    result = np.empty((m, n), np.float32) if out is None else out
    if result.shape != (m, n) or result.dtype != np.float32 or not result.flags.c_contiguous:
        raise KernelError(f"out must be a C-contiguous float32 array of shape {(m, n)}")
    threads = threads_for(MULTIPLY_ADD * packed.nonzeros * n, resolve_threads(threads))
    call = packed.kernel(n).bind(
        packed._rows.hold(x),
        Planes(0, k, 1, n, n, 0, whole_vectors(n)),
        result.ravel(),
        Planes(0, m, 1, n, n, 0, n),
        None,
        1,
        threads,
    )
    with FlushToZero(threads):
        call()
    return result
