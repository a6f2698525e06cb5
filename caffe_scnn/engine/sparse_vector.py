"""Sparse matrix × vector: what fills steps of sixteen rows, and the rest row by row.

The hybrid format of Bell and Garland (SC 2009): a regular part whose rows advance side by side
(ELLPACK, in slices of 16 rows and windows of 128 columns), and rows of what is left. Rows gather
their inputs from the cache; the regular part permutes registers instead, which takes half as long
where the weights are in the cache as well. Together 5.7 to 6.2 bytes a non-zero at densities of 26
to 10 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffe_scnn import _kernels
from caffe_scnn.engine.tensor import Float32

ROWS, COLUMNS = 16, 128  # SCNN_ELL_ROWS, SCNN_ELL_COLUMNS
LEAST_FILLED = 4  # rows for which a step of all sixteen costs no more than gathering does
LEAST_STEPS = 6  # that are worth loading a window for
LARGEST_COLUMN = 1 << 16


def has_regular_part(isa: str) -> bool:
    """Whether an instruction set has the kernel that permutes registers."""
    return any(op == "ell" and name == isa for _, op, name, *_ in _kernels.kernels())


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
        counts = _kernels.window_counts(weights)
        steps = step_counts(counts, weights.shape, has_regular_part(isa))
        column, value, self._start, self._column, self._value = _kernels.split_rows(
            weights, counts, steps
        )
        self.nbytes = self._column.nbytes + self._value.nbytes
        if len(value):
            self._regular = _kernels.Ell(isa, steps, column, value)
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
    counts: NDArray[np.int32], shape: tuple[int, ...], regular: bool = True
) -> NDArray[np.uint8]:
    """Return how many steps each whole slice of rows takes in each whole window of columns.

    A step is taken as long as at least :data:`LEAST_FILLED` of its rows have an entry for it, and
    a window is if there are :data:`LEAST_STEPS`.

    Parameters
    ----------
    counts : ndarray of shape (rows, windows)
        Entries of each row in each window.
    shape : (int, int)
        Rows and columns of the matrix.
    regular : bool
        Without it nothing takes steps.

    Returns
    -------
    uint8 ndarray of shape (rows // 16, columns // 128)
    """
    slices, windows = shape[0] // ROWS, shape[1] // COLUMNS
    if not regular:
        return np.zeros((slices, windows), np.uint8)
    whole = counts[: slices * ROWS, :windows].reshape(slices, ROWS, windows)
    steps = np.sort(whole, axis=1)[:, ROWS - LEAST_FILLED]
    return np.where(steps < LEAST_STEPS, 0, steps).astype(np.uint8)
