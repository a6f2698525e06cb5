"""The kernels behind Python: checked arguments, one parallel loop over tiles, nothing else.

Activations are :class:`Planes` inside one float32 arena; see ``kernels/scnn.h`` for the layout.
Every function computes the same bits for any number of threads: the work is cut into tiles first
and dealt out afterwards.
"""

cimport cython
from cython.parallel cimport parallel, prange, threadid
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memmove, memset

import os

import numpy as np

from caffe_scnn.errors import KernelError

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define scnn_openmp() 1
    #define scnn_processors() omp_get_num_procs()
    #else
    #define scnn_openmp() 0
    #define scnn_processors() 1
    #endif
    """
    const char *SCNN_REVISION
    void prefetch "__builtin_prefetch"(const void *address, int write, int locality) nogil
    int scnn_openmp() nogil
    int scnn_processors() nogil

cdef extern from "denormals.h" nogil:
    uint32_t SCNN_FLUSH
    uint32_t scnn_float_mode()
    void scnn_set_float_mode(uint32_t mode, int threads)

cdef extern from "scnn.h" nogil:
    int SCNN_AHEAD
    ctypedef struct scnn_matrix:
        const int64_t *start
        const void *offset
        const float *value
        const float *bias
        const float *slope
        const int32_t *channel
        int32_t rows
        int32_t offset_bytes
        int32_t unit
        int64_t origin
        int64_t step
        int32_t first
        int32_t last
        float low
        float high
    ctypedef struct scnn_store:
        const uint32_t *keep
        int32_t whole, last
        uint32_t tail
        const int32_t *piece
        const int32_t *vector
        const int32_t *place
        const uint32_t *lane
        const uint8_t *order
    ctypedef void (*scnn_sconv_fn)(const scnn_matrix *, int32_t, int32_t, const float *, int32_t,
                                   float *, const float *, int64_t, const scnn_store *,
                                   float *) noexcept nogil
    ctypedef struct scnn_patches:
        const int64_t *start
        const int32_t *beyond
        const int32_t *across
        const int64_t *block
        int32_t patches, rows, columns, width
        int64_t pitch
    ctypedef void (*scnn_fill_fn)(const scnn_patches *, const float *, int32_t,
                                  float *) noexcept nogil
    ctypedef struct scnn_panel_tile:
        const int64_t *place
        int64_t pitch, plane
        float *out
        const float *residual
    ctypedef void (*scnn_panel_fn)(const scnn_matrix *, int32_t, int32_t, const float *, int64_t,
                                   const scnn_panel_tile *, float *) noexcept nogil
    ctypedef void (*scnn_finish_fn)(const scnn_matrix *, int64_t, int64_t, const float *, int32_t,
                                    float *, const float *, int64_t,
                                    const scnn_store *) noexcept nogil
    ctypedef void (*scnn_gemv_fn)(const float *, const float *, const float *, float *, int64_t,
                                  int64_t, int64_t) noexcept nogil
    int SCNN_ELL_ROWS, SCNN_LRN_STRIP
    ctypedef struct scnn_ell:
        const int64_t *first
        const uint8_t *steps
        const uint8_t *column
        const float *value
        int64_t windows
    ctypedef void (*scnn_ell_fn)(const scnn_ell *, const float *, const float *, float *, int64_t,
                                 int64_t) noexcept nogil
    ctypedef void (*scnn_spmv_fn)(const int64_t *, const uint16_t *, const float *, const float *,
                                  const float *, float *, int64_t, int64_t) noexcept nogil
    ctypedef struct scnn_pool:
        int32_t height, width, out_height, out_width
        int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w
        int64_t in_pitch, out_pitch
    ctypedef void (*scnn_maxpool_fn)(const scnn_pool *, const float *, float *, float *) noexcept nogil
    ctypedef struct scnn_lrn:
        int32_t channels, local_size
        int64_t in_plane, out_plane
        float alpha_over_n, beta, k
    ctypedef void (*scnn_lrn_fn)(const scnn_lrn *, const float *, float *, int64_t) noexcept nogil
    ctypedef struct scnn_lrn_within:
        int32_t height, width, half
        int64_t in_pitch, out_pitch
        float share, beta
    ctypedef void (*scnn_lrn_within_fn)(const scnn_lrn_within *, const float *, float *,
                                        float *) noexcept nogil
    ctypedef void (*scnn_rows_fn)(const float *, float *, int32_t, int32_t, int64_t) noexcept nogil
    ctypedef void (*scnn_softmax_fn)(const float *, float *, int64_t) noexcept nogil
    ctypedef void (*scnn_affine_fn)(const float *, float *, int64_t, float, float, float, float,
                                    float) noexcept nogil
    ctypedef void (*scnn_binary_fn)(int32_t, const float *, const float *, float *, int64_t,
                                    float, float, float, float) noexcept nogil
    ctypedef struct scnn_dense:
        const int64_t *start
        const int32_t *offset
        const float *weight
        const float *bias
        const float *slope
        const int32_t *channel
        float low, high
    ctypedef struct scnn_dense_tile:
        const float *in_ "in"
        const float *residual
        float *out
        int64_t in_pitch, out_pitch, out_plane
        const char *ahead
        int64_t step
    ctypedef void (*scnn_dense_fn)(const scnn_dense *, int64_t,
                                   const scnn_dense_tile *) noexcept nogil
    ctypedef struct scnn_bf16:
        const uint16_t *weight
        const int64_t *start
        const int64_t *row
        const int32_t *source
        const int32_t *shift
        int32_t taps, steps
    ctypedef struct scnn_bf16_run:
        const uint32_t *lines
        int64_t pitch, part
        int32_t first, count
        float *out
        const float *residual
        int64_t out_plane
        const scnn_store *store
    ctypedef void (*scnn_bf16x3_fn)(const scnn_bf16 *, const scnn_matrix *, int64_t,
                                    const scnn_bf16_run *) noexcept nogil
    ctypedef void (*scnn_split_fn)(int32_t, const int32_t *, int64_t, int64_t, const float *,
                                   int64_t, uint32_t *, int64_t, int64_t) noexcept nogil
    int32_t scnn_amx_supported()
    ctypedef struct scnn_dwconv:
        int32_t out_height, out_width
        int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w
        int64_t in_pitch, out_pitch
        float low, high
    ctypedef void (*scnn_dwconv_fn)(const scnn_dwconv *, const float *, float, const float *,
                                    const float *, float *) noexcept nogil
    ctypedef struct scnn_phase:
        int32_t height, width, rows, columns, stride_h, stride_w
        int64_t in_pitch, out_pitch
    ctypedef void (*scnn_phase_fn)(const scnn_phase *, const float *, float *, int32_t,
                                   int32_t) noexcept nogil
    int SCNN_SPP_CHANNELS
    ctypedef struct scnn_spp:
        int32_t levels, sides
        const int32_t *bins
        const int32_t *source
        const int32_t *bins_before
        const int64_t *at
        int32_t width, tables
        int64_t table
        float lowest
    ctypedef void (*scnn_spp_fn)(const scnn_spp *, const int32_t *, const float *, float *,
                                 float *, int32_t, int32_t) noexcept nogil
    ctypedef void (*scnn_spp_rows_fn)(const float *, const float *, float, float *,
                                      int64_t) noexcept nogil
    ctypedef struct scnn_winograd:
        int32_t m, tiles
        int32_t height, width, pad_h, pad_w
        int32_t out_height, out_width
        int64_t in_pitch, out_pitch, plane
        float low, high
    ctypedef void (*scnn_winograd_in_fn)(const scnn_winograd *, const float *, int32_t, int32_t,
                                         float *, float *) noexcept nogil
    ctypedef void (*scnn_winograd_out_fn)(const scnn_winograd *, const float *, int32_t, int32_t,
                                          float, const float *, float *, const float *,
                                          float *) noexcept nogil
    ctypedef struct scnn_kernel:
        const char *name
        const char *op
        const char *isa
        int32_t rows
        int32_t vectors
        int32_t lanes
        void (*run)() noexcept nogil
    const scnn_kernel *scnn_kernels
    const int32_t scnn_kernel_count
    const char **scnn_isas
    const int32_t scnn_isa_count
    int32_t scnn_isa_supported(int32_t isa)


def isas():
    """Names of the ISA tiers this processor can run, best first."""
    return [scnn_isas[i].decode() for i in range(scnn_isa_count) if scnn_isa_supported(i)]


def best_isa(cap=None):
    """Return the ISA of vectors to use: ``cap``, or ``CAFFE_SCNN_ISA``, or the best there is.

    ``amx`` stands for the matrix unit (:func:`has_amx`) beside ``avx512``.

    Raises
    ------
    KernelError
        The name is unknown, or this processor cannot run it.
    """
    known = [scnn_isas[i].decode() for i in range(scnn_isa_count)]
    available = isas()
    wanted = cap or os.environ.get("CAFFE_SCNN_ISA") or available[0]
    if wanted == "amx" and scnn_amx_supported():
        return "avx512"
    known.insert(0, "amx")
    if wanted not in known:
        raise KernelError(f'unknown ISA "{wanted}"; CAFFE_SCNN_ISA may be one of {", ".join(known)}')
    if wanted not in available:
        raise KernelError(f'this processor cannot run ISA "{wanted}"; it has {", ".join(available)}')
    return wanted


def has_amx(cap=None):
    """Whether there is a matrix unit (AMX), and neither ``cap`` nor ``CAFFE_SCNN_ISA`` forbids it."""
    wanted = cap or os.environ.get("CAFFE_SCNN_ISA") or "amx"
    return wanted == "amx" and bool(scnn_amx_supported())


def kernels():
    """All compiled kernels as (name, op, isa, rows, vectors, lanes), best ISA first."""
    return [
        (scnn_kernels[i].name.decode(), scnn_kernels[i].op.decode(), scnn_kernels[i].isa.decode(),
         scnn_kernels[i].rows, scnn_kernels[i].vectors, scnn_kernels[i].lanes)
        for i in range(scnn_kernel_count)
    ]


def revision():
    """Say which sources the kernels were compiled from."""
    return SCNN_REVISION.decode()


def openmp():
    """Whether the module was built with OpenMP."""
    return bool(scnn_openmp())


def processors():
    """Processors that OpenMP would use."""
    return scnn_processors()


cdef const scnn_kernel *find(str op, str isa, int rows=0, int vectors=0) except NULL:
    index = numbers.get((op, isa, rows, vectors))
    if index is None:
        raise KernelError(f"no kernel {op} {rows}x{vectors} for {isa}")
    return &scnn_kernels[<int>index]


cdef dict numbers = {kernel[1:5]: index for index, kernel in enumerate(kernels())}


# One file for each kind of kernel; the order is that in which they use each other.
include "denormals.pxi"
include "planes.pxi"
include "phases.pxi"
include "operands.pxi"
include "places.pxi"
include "packed_weights.pxi"
include "convolution.pxi"
include "panels.pxi"
include "dense_convolution.pxi"
include "bf16.pxi"
include "winograd.pxi"
include "depthwise.pxi"
include "fully_connected.pxi"
include "layers.pxi"
include "window_pooling.pxi"
