"""Intel MKL through ctypes, as a peer in benchmarks; the package ``mkl`` is optional."""

from __future__ import annotations

import ctypes
import glob
import sys
from ctypes import POINTER, Structure, byref, c_float, c_int, c_void_p

import numpy as np

ROW_MAJOR, NO_TRANSPOSE = 101, 111
SPARSE_NO_TRANSPOSE, SPARSE_ROW_MAJOR = 10, 101


def load_mkl() -> ctypes.CDLL | None:
    """Return libmkl_rt if the package is installed, set to one thread."""
    found = sorted(glob.glob(f"{sys.prefix}/lib/libmkl_rt.so*"))
    if not found:
        return None
    mkl = ctypes.CDLL(found[0], mode=ctypes.RTLD_GLOBAL)
    mkl.MKL_Set_Num_Threads(1)
    return mkl


def pointer(array: np.ndarray, kind: type = c_float) -> object:
    """Return a C pointer to an array's data."""
    return array.ctypes.data_as(POINTER(kind))


class MklDense:
    """``result = w x`` by cblas_sgemm."""

    def __init__(self, mkl: ctypes.CDLL, w: np.ndarray, x: np.ndarray) -> None:
        self.w, self.x = np.ascontiguousarray(w), np.ascontiguousarray(x)
        (m, k), n = w.shape, x.shape[1]
        self.result = np.empty((m, n), np.float32)
        one, zero = c_float(1), c_float(0)
        arguments = (
            ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, m, n, k, one, pointer(self.w), k,
            pointer(self.x), n, zero, pointer(self.result), n,
        )  # fmt: skip
        self.run = lambda: mkl.cblas_sgemm(*arguments)


class _Description(Structure):
    _fields_ = (("type", c_int), ("mode", c_int), ("diag", c_int))


class MklSparse:
    """``result = w x`` by mkl_sparse_s_mm, analysed and optimised beforehand."""

    def __init__(self, mkl: ctypes.CDLL, w: object, x: np.ndarray) -> None:
        self.x = np.ascontiguousarray(x)
        m, k = w.shape  # type: ignore[attr-defined]
        n = x.shape[1]
        self.result = np.empty((m, n), np.float32)
        self.start = w.indptr.astype(np.int32)  # type: ignore[attr-defined]
        self.column = w.indices.astype(np.int32)  # type: ignore[attr-defined]
        self.value = w.data.astype(np.float32)  # type: ignore[attr-defined]
        handle, about = c_void_p(), _Description(20, 0, 0)
        begin = self.start.ctypes.data
        mkl.mkl_sparse_s_create_csr(
            byref(handle), 0, m, k, c_void_p(begin), c_void_p(begin + 4),
            pointer(self.column, c_int), pointer(self.value),
        )  # fmt: skip
        mkl.mkl_sparse_set_mm_hint(handle, SPARSE_NO_TRANSPOSE, about, SPARSE_ROW_MAJOR, n, 1000)
        mkl.mkl_sparse_optimize(handle)
        arguments = (
            SPARSE_NO_TRANSPOSE, c_float(1), handle, about, SPARSE_ROW_MAJOR, pointer(self.x), n, n,
            c_float(0), pointer(self.result), n,
        )  # fmt: skip
        self.run = lambda: mkl.mkl_sparse_s_mm(*arguments)
