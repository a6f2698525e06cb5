"""Sparse matrix × vector: what fills steps of sixteen rows, and the rest row by row.

The hybrid format of Bell and Garland (SC 2009): a regular part whose rows advance side by side
(ELLPACK, in slices of 16 rows and windows of columns), and rows of what is left. Rows find their
inputs anywhere in the cache; the regular part has those of a window in registers, where a
permutation finds them (AVX-512, 128 columns), or in the first-level cache (256 columns). Together
5.3 to 6.2 bytes a non-zero at densities of 26 to 10 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffe_scnn import _kernels
from caffe_scnn.engine.tensor import Float32

ROWS = 16  # SCNN_ELL_ROWS
# Rows for which a step of all sixteen costs no more than their entries one by one, by the columns
# of a window: where a permutation finds the inputs, and where loads do.
LEAST_FILLED = {128: 4, 256: 8}
MOST_STEPS = 255
LEAST_STEPS = 6  # that are worth loading a window for
LARGEST_COLUMN = 1 << 16


def window_columns(isa: str) -> int:
    """Return how many columns a window has that the kernel of an instruction set is for."""
    kernels = _kernels.kernels()
    return next(columns for _, op, name, _, columns, _ in kernels if (op, name) == ("ell", isa))


class SparseVector:
    """``y = W x + b`` for one x.

    Parameters
    ----------
    isa : str
    weights : float32 ndarray of shape (outputs, inputs)
        With at most 65,536 inputs.
    bias : float32 ndarray of shape (outputs,), optional
    """

    def __init__(self, isa: str, weights: Float32, bias: Float32 | None) -> None:
        self.isa, self.bias = isa, bias
        weights = np.ascontiguousarray(weights)
        self.kernel = f"f32_spmv__{isa}"
        self._regular: _kernels.Ell | None = None
        columns = window_columns(isa)
        counts = _kernels.window_counts(weights, columns)
        steps = step_counts(counts, weights.shape, columns)
        column, value, self._start, self._column, self._value = _kernels.split_rows(
            weights, counts, steps, columns
        )
        self.nbytes = self._column.nbytes + self._value.nbytes
        if len(value):
            self._regular = _kernels.Ell(isa, steps, column, value, columns)
            self.kernel = f"f32_ell__{isa} {self.kernel}"
            self.nbytes += steps.nbytes + column.nbytes + value.nbytes

    def run(self, x: Float32, y: Float32, threads: int) -> None:
        """Multiply.

        Parameters
        ----------
        x : float32 ndarray of shape (inputs,)
        y : float32 ndarray of shape (outputs,)
            The result.
        threads : int
        """
        bias = self.bias
        if self._regular is not None:
            whole = len(y) // ROWS * ROWS  # rows behind the last slice are not touched
            y[whole:] = 0 if bias is None else bias[whole:]
            self._regular.run(bias, x, y, threads)
            bias = y
        _kernels.spmv(self.isa, self._start, self._column, self._value, bias, x, y, threads)


def step_counts(
    counts: NDArray[np.int32], shape: tuple[int, ...], columns: int
) -> NDArray[np.uint8]:
    """Return how many steps each whole slice of rows takes in each whole window of columns.

    A step is taken as long as at least :data:`LEAST_FILLED` of its rows have an entry for it, and
    a window is if there are :data:`LEAST_STEPS`; there are never more than :data:`MOST_STEPS`.

    Parameters
    ----------
    counts : ndarray of shape (rows, windows)
        Entries of each row in each window.
    shape : (int, int)
        Rows and columns of the matrix.
    columns : int
        Of a window.

    Returns
    -------
    uint8 ndarray of shape (rows // 16, number of whole windows)
    """
    slices, windows = shape[0] // ROWS, shape[1] // columns
    whole = counts[: slices * ROWS, :windows].reshape(slices, ROWS, windows)
    steps = np.sort(whole, axis=1)[:, ROWS - LEAST_FILLED[columns]]
    return np.where(steps < LEAST_STEPS, 0, np.minimum(steps, MOST_STEPS)).astype(np.uint8)
