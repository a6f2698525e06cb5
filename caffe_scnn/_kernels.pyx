"""The kernels behind Python: checked arguments, one parallel loop over tiles, nothing else.

Activations are :class:`Planes` inside one float32 arena; see ``kernels/scnn.h`` for the layout.
Every function computes the same bits for any number of threads: the work is cut into tiles first
and dealt out afterwards.
"""

cimport cython
from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

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
    int scnn_openmp() nogil
    int scnn_processors() nogil

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
        int32_t first
        int32_t last
        float low
        float high
    ctypedef struct scnn_store:
        const int32_t *piece
        const int32_t *shift
        const uint32_t *mask
        const uint32_t *keep
        const int32_t *at
        const uint8_t *order
        int32_t mode, whole
    ctypedef void (*scnn_sconv_fn)(const scnn_matrix *, int32_t, int32_t, const float *, int32_t,
                                   float *, const float *, int64_t, const scnn_store *,
                                   float *) noexcept nogil
    ctypedef void (*scnn_finish_fn)(const scnn_matrix *, int64_t, int64_t, const float *, int32_t,
                                    float *, const float *, int64_t,
                                    const scnn_store *) noexcept nogil
    ctypedef void (*scnn_gemv_fn)(const float *, const float *, const float *, float *, int64_t,
                                  int64_t, int64_t) noexcept nogil
    int SCNN_ELL_ROWS, SCNN_ELL_COLUMNS
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
    ctypedef void (*scnn_dense_fn)(const scnn_dense *, int64_t, const float *, float *,
                                   const float *, int64_t) noexcept nogil
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
        int32_t width
        float lowest
    ctypedef void (*scnn_spp_fn)(const scnn_spp *, const int32_t *, const float *, float *,
                                 float *, int32_t, int32_t) noexcept nogil
    ctypedef struct scnn_winograd:
        int32_t m, tiles
        int32_t height, width, pad_h, pad_w
        int32_t out_height, out_width
        int64_t in_pitch, out_pitch, plane
        float low, high
    ctypedef void (*scnn_winograd_in_fn)(const scnn_winograd *, const float *, int32_t, int32_t,
                                         float *, float *) noexcept nogil
    ctypedef void (*scnn_winograd_out_fn)(const scnn_winograd *, const float *, int32_t, int32_t,
                                          float, const float *, float *, const float *) noexcept nogil
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

# Rows of a fully connected layer that one task computes; a multiple of the kernel's four.
DEF GEMV_ROWS = 64
# Slices of a sliced matrix that one task computes.
DEF ELL_SLICES = 4
# Into how many parts the input channels of a convolution may be cut.
DEF MAX_PARTS = 256


# --- which kernels there are ---------------------------------------------------------------------

def isas():
    """Names of the ISA tiers this processor can run, best first."""
    return [scnn_isas[i].decode() for i in range(scnn_isa_count) if scnn_isa_supported(i)]


def best_isa(cap=None):
    """Return the ISA to use: ``cap``, or ``CAFFE_SCNN_ISA``, or the best there is.

    Raises
    ------
    KernelError
        The name is unknown, or this processor cannot run it.
    """
    known = [scnn_isas[i].decode() for i in range(scnn_isa_count)]
    available = isas()
    wanted = cap or os.environ.get("CAFFE_SCNN_ISA") or available[0]
    if wanted not in known:
        raise KernelError(f'unknown ISA "{wanted}"; CAFFE_SCNN_ISA may be one of {", ".join(known)}')
    if wanted not in available:
        raise KernelError(f'this processor cannot run ISA "{wanted}"; it has {", ".join(available)}')
    return wanted


def kernels():
    """All compiled kernels as (name, op, isa, rows, vectors, lanes), best ISA first."""
    return [
        (scnn_kernels[i].name.decode(), scnn_kernels[i].op.decode(), scnn_kernels[i].isa.decode(),
         scnn_kernels[i].rows, scnn_kernels[i].vectors, scnn_kernels[i].lanes)
        for i in range(scnn_kernel_count)
    ]


def openmp():
    """Whether the module was built with OpenMP."""
    return bool(scnn_openmp())


def processors():
    """Processors that OpenMP would use."""
    return scnn_processors()


cdef const scnn_kernel *find(str op, str isa, int rows=0, int vectors=0) except NULL:
    cdef const scnn_kernel *kernel
    cdef int i
    op_name, isa_name = op.encode(), isa.encode()
    for i in range(scnn_kernel_count):
        kernel = &scnn_kernels[i]
        if (kernel.op == <bytes>op_name and kernel.isa == <bytes>isa_name
                and kernel.rows == rows and kernel.vectors == vectors):
            return kernel
    raise KernelError(f"no kernel {op} {rows}x{vectors} for {isa}")


# --- activations ---------------------------------------------------------------------------------

@cython.final
cdef class Planes:
    """A block of channel planes in the arena.

    Pixel (y, x) of channel c of item n lies at ``at + n·channels·plane + c·plane + lead +
    y·pitch + x``; everything else in a plane is halo, which its producer sets to zero.
    """

    cdef readonly int64_t at
    cdef readonly int channels, height, width
    cdef readonly int64_t pitch, lead, plane, item

    def __init__(self, at, channels, height, width, pitch, lead, plane, item=None):
        self.at, self.channels, self.height, self.width = at, channels, height, width
        self.pitch, self.lead, self.plane = pitch, lead, plane
        self.item = channels * plane if item is None else item
        if (min(at, lead) < 0 or min(channels, height, width) < 1 or pitch < width
                or plane < lead + (height - 1) * pitch + width or self.item < channels * plane):
            raise KernelError("planes that overlap or are empty")

    cdef bint dense(self) noexcept nogil:
        """No halo between pixels: a plane is one run."""
        return self.pitch == self.width

    cdef int64_t run(self) noexcept nogil:
        """Length of the run from the first pixel to the last, gaps included."""
        return (self.height - 1) * self.pitch + self.width

    def end(self, items):
        """First position behind the block."""
        return self.at + (items - 1) * self.item + self.channels * self.plane


cdef void zero_halo(float *plane, Planes p) noexcept nogil:
    """Set everything but the pixels of one plane to zero; rounding slack at its end is left."""
    cdef int64_t gap = p.pitch - p.width, y, end
    cdef float *row = plane + p.lead + p.width
    if p.lead:
        memset(plane, 0, p.lead * sizeof(float))
    if gap == 1:  # a compiler makes calls of memset of what is longer
        for y in range(p.height - 1):
            row[y * p.pitch] = 0
    elif gap:
        for y in range(p.height - 1):
            memset(row + y * p.pitch, 0, gap * sizeof(float))
    end = p.lead + p.run()
    if p.lead and end < p.plane:
        memset(plane + end, 0, (p.plane - end) * sizeof(float))


cdef int lanes_in(uint32_t mask) noexcept nogil:
    """Count the lanes of a mask."""
    cdef int count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


cdef bint ascending(const int64_t[::1] start) noexcept nogil:
    """No number is smaller than the one before."""
    cdef int64_t i
    for i in range(1, start.shape[0]):
        if start[i] < start[i - 1]:
            return False
    return True


cdef int check(const float[::1] arena, Planes p, int items) except -1:
    if items < 1 or p.end(items) > arena.shape[0]:
        raise KernelError(f"planes end at {p.end(items)}, the arena at {arena.shape[0]}")
    return 0


# --- phases of a strided convolution -------------------------------------------------------------

@cython.final
cdef class Phases:
    """How a plane is split into the planes of a strided convolution.

    Parameters
    ----------
    isa : str
    offsets : int32 ndarray of shape (P, 2)
        Row and column of each phase within the stride.
    stride, pad : (int, int)
    rows, columns : int
        Size of a phase plane, which has no halo.
    plane : int
        Distance between two phase planes.
    """

    cdef scnn_phase_fn kernel
    cdef scnn_phase geometry
    cdef const int32_t[:, ::1] offsets
    cdef int pad_h, pad_w
    cdef int64_t plane

    def __init__(self, str isa, const int32_t[:, ::1] offsets not None, stride, pad, int rows,
                 int columns, int64_t plane):
        self.kernel = <scnn_phase_fn>find("phase", isa).run
        self.offsets, self.plane = offsets, plane
        self.geometry.rows, self.geometry.columns = rows, columns
        self.geometry.stride_h, self.geometry.stride_w = stride
        self.geometry.out_pitch = columns
        self.pad_h, self.pad_w = pad
        if (min(rows, columns, *stride) < 1 or min(pad) < 0 or plane < <int64_t>rows * columns
                or offsets.shape[0] < 1 or offsets.shape[1] != 2 or np.min(offsets) < 0):
            raise KernelError("phase planes that overlap or are empty")

    cdef int64_t size(self) noexcept nogil:
        """Floats of all phase planes of a channel."""
        return self.offsets.shape[0] * self.plane

    cdef void split(self, const float *x, Planes src, float *out) noexcept nogil:
        """Fill the phase planes of one channel."""
        cdef scnn_phase geometry = self.geometry
        cdef int64_t p
        geometry.height, geometry.width, geometry.in_pitch = src.height, src.width, src.pitch
        for p in range(self.offsets.shape[0]):
            self.kernel(&geometry, x, out + p * self.plane, self.offsets[p, 0] - self.pad_h,
                        self.offsets[p, 1] - self.pad_w)

    def run(self, float[::1] arena not None, Planes src not None, Planes dst not None, int items,
            int threads):
        """Split ``src``: phase p of channel c becomes channel c·P + p of ``dst``.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef int64_t task, tasks = <int64_t>items * src.channels
        cdef float *data = &arena[0]
        check(arena, src, items)
        check(arena, dst, items)
        if (dst.channels != src.channels * self.offsets.shape[0] or dst.lead
                or dst.pitch != self.geometry.columns or dst.height != self.geometry.rows
                or dst.plane != self.plane):
            raise KernelError("phase planes have no halo, and one plane a channel and phase")
        for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
            self.split_one(data, src, dst, task // src.channels, task % src.channels)

    cdef void split_one(self, float *data, Planes src, Planes dst, int64_t item,
                        int64_t channel) noexcept nogil:
        self.split(data + src.at + item * src.item + channel * src.plane + src.lead, src,
                   data + dst.at + item * dst.item + channel * self.size())


# --- convolution ---------------------------------------------------------------------------------

ctypedef void (*program_fn)(const float *, const float *, const float *, float *) noexcept nogil


@cython.final
cdef class Program:
    """The sums of a convolution as code made for its weights' pattern (``engine/codegen.py``).

    Parameters
    ----------
    owner : object
        Keeps the code in memory.
    address : int
        Of a table with a function for each block. The functions trust their arguments.
    rows : int
        Output channels a block; a block computes one vector of pixels.
    start : int64 ndarray of shape (blocks,)
        Where the weights of each block begin.
    value : float32 ndarray
    """

    cdef program_fn *table
    cdef int rows
    cdef const int64_t[::1] start
    cdef const float[::1] value
    cdef object owner

    def __init__(self, owner, size_t address, int rows, const int64_t[::1] start not None,
                 const float[::1] value not None):
        self.owner, self.table, self.rows = owner, <program_fn *>address, rows
        self.start, self.value = start, value
        if rows < 1 or start.shape[0] < 1 or value.shape[0] < 1 or np.max(start) > value.shape[0]:
            raise KernelError("a program needs blocks of rows, and weights")


@cython.final
cdef class Convolution:
    """Packed weights, and how their flat run is tiled and stored (see ``engine/packing.py``).

    Parameters
    ----------
    isa : str
    rows : int
        Output channels a block.
    vectors : int
        Vectors a tile; the last tile of a run may have fewer.
    unit : int
        Offsets count steps of ``1 << unit`` floats.
    parts : list of (start, origin, offset, value)
        The streams, cut by input channels: int64 (blocks + 1,), int, uint16 or uint32 (entries +
        8,), float32 (entries · rows,). Entry e reads at ``origin + (offset[e] << unit)``.
    bias, slope : float32 ndarray of shape (blocks · rows,); slope may be None
    channel : int32 ndarray of shape (blocks · rows,)
    chunk : int32 ndarray
        Boundaries of the groups of blocks that one task computes.
    store : (piece, shift, mask, keep, at, order, mode, whole)
        Where each vector of the run goes (``scnn_store``): int32, int32, uint32, uint32, int32 and
        uint8 arrays, and two numbers.
    base, reach : int
        Offset of the first weight's input from the first pixel; the largest offset of any weight.
    low, high : float
        Clamp of the result.
    blocks_first : bool
        True: all tiles of a chunk before the next chunk (its weights stay in cache); False: all
        chunks of a tile before the next tile (its inputs stay in cache).
    program : Program, optional
        Computes the sums; the streams are empty then, their rows and the vectors 1, and a chunk
        begins with a block of the program.
    """

    cdef scnn_sconv_fn[17] table
    cdef scnn_finish_fn finish
    cdef scnn_matrix[MAX_PARTS] matrix
    cdef scnn_store store
    cdef int parts, vectors, run_vectors, lanes, rows
    cdef int64_t base, reach, write_low, write_high, partial_size
    cdef int top_channel
    cdef bint blocks_first
    cdef const int32_t[::1] chunk
    cdef float[:, ::1] partial
    cdef Program program
    cdef list keep

    def __init__(self, str isa, int rows, int vectors, int unit, list parts not None,
                 const float[::1] bias not None, slope, const int32_t[::1] channel not None,
                 const int32_t[::1] chunk not None, tuple store not None,
                 int64_t base, int64_t reach, float low, float high, bint blocks_first,
                 Program program=None):
        cdef int v, index
        cdef int64_t blocks
        cdef scnn_matrix common
        cdef const float[::1] slopes
        if min(rows, vectors) < 1 or len(store[0]) < 2 or chunk.shape[0] < 2:
            raise KernelError("a packed convolution needs rows, vectors and a task")
        blocks = channel.shape[0] // rows
        self.parts, self.rows, self.vectors = len(parts), rows, vectors
        self.run_vectors = len(store[0]) - 1
        self.chunk, self.blocks_first = chunk, blocks_first
        self.base, self.reach = base, reach
        self.keep = [bias, slope, channel, store]
        for v in {vectors, self.run_vectors % vectors or vectors}:
            kernel = find("sconv", isa, rows, v)
            self.table[v] = <scnn_sconv_fn>kernel.run
            self.lanes = kernel.lanes
        if (not 1 <= self.parts <= MAX_PARTS or not 0 <= unit < 16 or blocks < 1 or bias.shape[0] != blocks * rows
                or channel.shape[0] != blocks * rows or chunk[0] != 0
                or chunk[chunk.shape[0] - 1] != blocks or np.diff(chunk).min() < 0):
            raise KernelError("the parts of a packed convolution do not fit together")
        common.bias, common.channel, common.slope = &bias[0], &channel[0], NULL
        if slope is not None:
            slopes = slope
            if slopes.shape[0] != blocks * rows:
                raise KernelError("one slope an output channel is needed")
            common.slope = &slopes[0]
        common.rows, common.unit, common.low, common.high = rows, unit, low, high
        for index, streams in enumerate(parts):
            self.matrix[index] = common
            self.matrix[index].first = index == 0
            self.matrix[index].last = index == self.parts - 1
            start, origin, offset, value = streams
            if len(value) and not 0 <= origin <= origin + (int(np.max(offset)) << unit) <= reach:
                raise KernelError("a convolution reads behind its last weight's input")
            self.matrix[index].origin = origin
            self.point_at(&self.matrix[index], blocks, start, offset, value)
        self.top_channel = max(channel)
        self.place(store)
        largest = np.diff(chunk).max()
        self.partial = np.empty((0, 1), np.float32)
        self.partial_size = largest * rows * vectors * self.lanes if self.parts > 1 else 0
        self.program = program
        if program is not None:
            self.finish = <scnn_finish_fn>find("finish", isa, 0, 0).run
            self.partial_size = program.rows * self.lanes
            if (rows != 1 or vectors != 1 or self.parts > 1
                    or program.start.shape[0] * program.rows != blocks
                    or (np.asarray(chunk) % program.rows).any()):
                raise KernelError("a program does not fit its convolution")

    cdef int point_at(self, scnn_matrix *matrix, int64_t blocks, const int64_t[::1] start,
                      offset, const float[::1] value) except -1:
        """Let a matrix point at its streams, after a check of their lengths."""
        cdef const uint16_t[::1] narrow
        cdef const uint32_t[::1] wide
        if (start.shape[0] != blocks + 1 or start[0] != 0
                or start[blocks] + SCNN_AHEAD != offset.shape[0]
                or value.shape[0] != start[blocks] * self.rows or not ascending(start)):
            raise KernelError("the streams of a packed convolution do not fit together")
        matrix.start, matrix.offset_bytes, matrix.value = &start[0], offset.itemsize, NULL
        self.keep.append((start, offset, value))
        if offset.itemsize == 2:
            narrow = offset
            matrix.offset = &narrow[0]
        else:
            wide = offset
            matrix.offset = &wide[0]
        if value.shape[0]:
            matrix.value = &value[0]
        return 0

    cdef int place(self, tuple store) except -1:
        """Point at the store; find the lowest and highest position that it touches."""
        cdef const int32_t[::1] piece, shift, at
        cdef const uint32_t[::1] mask, keep
        cdef const uint8_t[::1] order
        cdef int mode, whole
        piece, shift, mask, keep, at, order, mode, whole = store
        cdef int v, p, lane, lanes = self.lanes, count = self.run_vectors
        cdef int64_t position
        if (count < 1 or piece[0] != 0 or piece[count] != shift.shape[0]
                or shift.shape[0] != mask.shape[0] or keep.shape[0] != count
                or at.shape[0] != count or order.shape[0] != count * lanes
                or (order.shape[0] and max(order) >= lanes)):
            raise KernelError("the places of a convolution's result do not fit together")
        self.write_low, self.write_high = 0, 0
        for v in range(count):
            for p in range(piece[v], piece[v + 1]):
                position = <int64_t>v * lanes + shift[p]
                for lane in range(lanes):
                    if mask[p] >> lane & 1:
                        self.write_low = min(self.write_low, position + lane)
                        self.write_high = max(self.write_high, position + lane + 1)
        if (not 0 <= mode <= 2 or <int64_t>whole * lanes > self.write_high
                or min(at) < self.write_low or max(at) > self.write_high
                or at[count - 1] + lanes_in(keep[count - 1]) > self.write_high):
            raise KernelError("a convolution would write behind its result")
        self.store.piece, self.store.shift, self.store.mask = &piece[0], &shift[0], &mask[0]
        self.store.keep, self.store.at, self.store.order = &keep[0], &at[0], &order[0]
        self.store.mode, self.store.whole = mode, whole
        return 0

    def run(self, const float[::1] memory not None, Planes src not None,
            float[::1] target not None, Planes dst not None, Planes residual, int items,
            int threads, bint halo=True):
        """Compute ``dst`` in ``target`` from ``src`` in ``memory``.

        ``residual`` (or None), planes in ``target`` with the geometry of dst, is added before the
        clamp. ``memory`` and ``target`` may be one array. Without ``halo`` the halo of dst is left
        as it is: dst may be some rows of larger planes.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef int chunks = self.chunk.shape[0] - 1
        cdef int tiles = (self.run_vectors + self.vectors - 1) // self.vectors
        cdef int64_t task, tasks = <int64_t>items * chunks * tiles
        cdef const float *added = NULL
        cdef int64_t added_item = 0
        cdef int64_t begin = src.at + src.lead + self.base
        cdef int64_t end = (begin + (items - 1) * src.item + self.reach
                            + <int64_t>self.run_vectors * self.lanes)
        check(memory, src, items)
        check(target, dst, items)
        if (begin < 0 or end > memory.shape[0] or self.top_channel >= dst.channels
                or dst.lead + self.write_low < 0 or dst.lead + self.write_high > dst.plane):
            raise KernelError("a convolution reaches outside its planes")
        if residual is not None:
            check(target, residual, items)
            if (residual.plane, residual.lead, residual.pitch) != (dst.plane, dst.lead, dst.pitch):
                raise KernelError("the added planes differ in geometry from the result's")
            added, added_item = &target[0] + residual.at + residual.lead, residual.item
        cdef const float *x = &memory[0] + begin
        cdef float *y = &target[0] + dst.at
        cdef float[:, ::1] partial = self.memory_for_sums(threads)
        if threads == 1 or tasks == 1:
            with nogil:
                for task in range(tasks):
                    self.tile(task, chunks, tiles, x, src.item, y, dst, added, added_item,
                              &partial[0, 0], halo)
        else:
            for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
                self.tile(task, chunks, tiles, x, src.item, y, dst, added, added_item,
                          &partial[threadid(), 0], halo)

    cdef float[:, ::1] memory_for_sums(self, int threads):
        """One row for each thread, kept from run to run."""
        if self.partial.shape[0] < threads:
            self.partial = np.empty((threads, max(1, self.partial_size)), np.float32)
        return self.partial

    cdef void tile(self, int64_t task, int chunks, int tiles, const float *x, int64_t x_item,
                   float *y, Planes dst, const float *residual,
                   int64_t residual_item, float *partial, bint halo) noexcept nogil:
        cdef int64_t item = task // (<int64_t>chunks * tiles)
        cdef int rest = task % (<int64_t>chunks * tiles)
        cdef int chunk = rest // tiles if self.blocks_first else rest % chunks
        cdef int tile = rest % tiles if self.blocks_first else rest // chunks
        cdef int first = tile * self.vectors
        cdef int vectors = min(self.vectors, self.run_vectors - first)
        cdef int begin = self.chunk[chunk], end = self.chunk[chunk + 1], row, part
        cdef float *out = y + item * dst.item
        if halo and tile == 0 and (dst.lead or dst.pitch != dst.width):
            for row in range(begin * self.rows, end * self.rows):
                if self.matrix[0].channel[row] >= 0:
                    zero_halo(out + self.matrix[0].channel[row] * dst.plane, dst)
        if residual != NULL:
            residual = residual + item * residual_item
        if self.program is not None:
            self.run_program(begin, end, x + item * x_item + <int64_t>first * self.lanes, first,
                             out + dst.lead, residual, dst.plane, partial)
            return
        for part in range(self.parts):
            self.table[vectors](&self.matrix[part], begin, end, x + item * x_item, first,
                                out + dst.lead, residual, dst.plane, &self.store, partial)


    cdef void run_program(self, int begin, int end, const float *x, int first, float *out,
                          const float *residual, int64_t out_plane, float *sums) noexcept nogil:
        """Let the program sum up rows [begin, end), block by block; finish and store them."""
        cdef int row, block, rows = self.program.rows
        for block in range(begin // rows, end // rows):
            row = block * rows
            self.program.table[block](x, &self.program.value[0] + self.program.start[block],
                                      self.matrix[0].bias + row, sums)
            self.finish(&self.matrix[0], row, row + rows, sums, first, out, residual, out_plane,
                        &self.store)


# --- dense convolution ---------------------------------------------------------------------------

@cython.final
cdef class DenseConvolution:
    """A stride-1 convolution whose vectors run along output channels.

    Parameters
    ----------
    isa : str
    pixels, vectors : int
        The largest tile; rows are cut into tiles of about equal width.
    start : int64 ndarray of shape (blocks + 1,)
    offset : int32 ndarray of shape (entries,)
        Input of each entry, from the first weight's; not negative.
    weight : float32 ndarray of shape (entries · vectors · lanes,)
    bias : float32 ndarray of shape (blocks · vectors · lanes,)
    slope : float32 ndarray of shape (channels,), or None
    channel : int32 ndarray of shape (blocks · vectors · lanes,)
        Output channels of each block; -1 fills up.
    base : int
        Offset of the first weight's input from the first pixel.
    low, high : float
        Clamp of the result.
    """

    cdef scnn_dense_fn[17] table
    cdef scnn_dense dense
    cdef int pixels, width
    cdef int64_t blocks, base, reach, channels
    cdef list keep

    def __init__(self, str isa, int pixels, int vectors, const int64_t[::1] start not None,
                 const int32_t[::1] offset not None, const float[::1] weight not None,
                 const float[::1] bias not None, const float[::1] slope,
                 const int32_t[::1] channel not None, int64_t base, float low, float high):
        cdef const scnn_kernel *kernel = find("dense", isa, pixels, vectors)
        cdef int width = vectors * kernel.lanes, size
        self.pixels, self.width, self.base = pixels, width, base
        self.blocks = channel.shape[0] // width
        for size in range(1, pixels + 1):
            self.table[size] = <scnn_dense_fn>find("dense", isa, size, vectors).run
        if (self.blocks < 1 or start.shape[0] != self.blocks + 1 or channel.shape[0] != self.blocks * width
                or start[0] != 0 or not ascending(start) or start[self.blocks] != offset.shape[0]
                or weight.shape[0] != offset.shape[0] * width
                or bias.shape[0] != self.blocks * width or np.min(channel) < -1
                or (offset.shape[0] and np.min(offset) < 0)):
            raise KernelError("the parts of a dense convolution do not fit together")
        self.channels = np.max(channel) + 1
        self.reach = np.max(offset) if offset.shape[0] else 0
        if slope is not None and slope.shape[0] < self.channels:
            raise KernelError("one slope an output channel is needed")
        self.keep = [start, offset, weight, bias, slope, channel]
        self.dense.start, self.dense.bias = &start[0], &bias[0]
        self.dense.channel = &channel[0]
        self.dense.offset, self.dense.weight, self.dense.slope = NULL, NULL, NULL
        if offset.shape[0]:
            self.dense.offset, self.dense.weight = &offset[0], &weight[0]
        if slope is not None:
            self.dense.slope = &slope[0]
        self.dense.low, self.dense.high = low, high

    def run(self, const float[::1] memory not None, Planes src not None,
            float[::1] target not None, Planes dst not None, Planes residual, int items,
            int threads, bint halo=True):
        """Compute ``dst`` in ``target`` from ``src`` in ``memory``; as ``Convolution.run``.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef int64_t task, tasks = items * self.blocks * dst.height
        cdef int64_t begin = src.at + src.lead + self.base
        cdef int64_t end = (begin + (items - 1) * src.item + (dst.height - 1) * src.pitch
                            + dst.width + self.reach)
        cdef const float *added = NULL
        cdef int64_t added_item = 0
        check(memory, src, items)
        check(target, dst, items)
        if begin < 0 or end > memory.shape[0] or self.channels > dst.channels:
            raise KernelError("a dense convolution reaches outside its planes")
        if residual is not None:
            check(target, residual, items)
            if (residual.plane, residual.lead, residual.pitch) != (dst.plane, dst.lead, dst.pitch):
                raise KernelError("the added planes differ in geometry from the result's")
            added, added_item = &target[0] + residual.at + residual.lead, residual.item
        cdef const float *x = &memory[0] + begin
        cdef float *y = &target[0] + dst.at
        if threads == 1:
            with nogil:
                for task in range(tasks):
                    self.row(task, items, x, src, y, dst, added, added_item, halo)
        else:
            for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
                self.row(task, items, x, src, y, dst, added, added_item, halo)

    cdef void row(self, int64_t task, int64_t items, const float *x, Planes src, float *y,
                  Planes dst, const float *residual, int64_t residual_item,
                  bint halo) noexcept nogil:
        """Compute one output row of a block of channels: blocks change slowest."""
        cdef int64_t line = task % dst.height, item = task // dst.height % items
        cdef int64_t block = task // (dst.height * items)
        cdef int tiles = (dst.width + self.pixels - 1) // self.pixels, tile, begin, end, i
        cdef float *out = y + item * dst.item
        if halo and line == 0:
            for i in range(block * self.width, (block + 1) * self.width):
                if self.dense.channel[i] >= 0:
                    zero_halo(out + self.dense.channel[i] * dst.plane, dst)
        x = x + item * src.item + line * src.pitch
        out = out + dst.lead + line * dst.pitch
        if residual != NULL:
            residual = residual + item * residual_item + line * dst.pitch
        for tile in range(tiles):
            begin, end = dst.width * tile // tiles, dst.width * (tile + 1) // tiles
            self.table[end - begin](&self.dense, block, x + begin, out + begin,
                                    residual + begin if residual != NULL else NULL, dst.plane)


# --- Winograd's form of a 3x3 convolution ---------------------------------------------------------

@cython.final
cdef class Winograd:
    """Pixels to coefficients, and coefficients to pixels (``scnn_winograd`` in ``kernels/scnn.h``).

    The rows of tiles of all items of a batch follow each other; both functions work on a band of
    them. Coefficient t of channel c of the band is plane ``t · n + c``, where n is the number of
    planes divided by (m + 2)²: at least the number of channels.

    Parameters
    ----------
    isa : str
    m : int
        2 or 4: a tile has m x m outputs.
    tiles_y, tiles_x : int
        Tiles of a map.
    pad : (int, int)
        Of the convolution; the input's own halo is not read.
    bias, slope : float32 ndarray of shape (outputs,); either may be None
    low, high : float
        Clamp of the result.
    """

    cdef scnn_winograd_in_fn scatter_kernel
    cdef scnn_winograd_out_fn gather_kernel
    cdef scnn_winograd geometry
    cdef int tiles_y, lanes, taps
    cdef const float[::1] bias, slope
    cdef float[:, ::1] scratch

    def __init__(self, str isa, int m, int tiles_y, int tiles_x, pad, const float[::1] bias,
                 const float[::1] slope, float low, float high):
        cdef const scnn_kernel *kernel = find("winograd_in", isa)
        self.scatter_kernel, self.lanes = <scnn_winograd_in_fn>kernel.run, kernel.lanes
        self.gather_kernel = <scnn_winograd_out_fn>find("winograd_out", isa).run
        self.geometry.m, self.geometry.tiles, self.tiles_y = m, tiles_x, tiles_y
        self.geometry.pad_h, self.geometry.pad_w = pad
        self.geometry.low, self.geometry.high = low, high
        self.taps, self.bias, self.slope = (m + 2) * (m + 2), bias, slope
        self.scratch = np.empty((0, 1), np.float32)
        if m not in (2, 4) or min(tiles_y, tiles_x) < 1 or not all(0 <= p < 3 for p in pad):
            raise KernelError("Winograd tiles have 2x2 or 4x4 outputs of a 3x3 kernel")

    cdef int check_band(self, Planes coefficients, int64_t channels, int first, int last,
                        int items) except -1:
        if (not 0 <= first < last <= items * self.tiles_y
                or coefficients.channels % self.taps or coefficients.lead
                or coefficients.channels < channels * self.taps
                or coefficients.plane < <int64_t>(last - first) * self.geometry.tiles):
            raise KernelError("a band of Winograd tiles does not fit its coefficients")
        return 0

    def scatter(self, float[::1] arena not None, Planes src not None, Planes dst not None,
                int first, int last, int items, int threads):
        """Turn the pixels of ``src`` under rows [first, last) of tiles into coefficients.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef int64_t channel
        cdef scnn_winograd spec = self.geometry
        cdef int run = (spec.tiles + self.lanes) // self.lanes * self.lanes
        cdef int64_t size = ((spec.m * (last - first) + 3) * spec.m * run + spec.m * self.lanes)
        check(arena, src, items)
        check(arena, dst, 1)
        self.check_band(dst, src.channels, first, last, items)
        if self.scratch.shape[0] < threads or self.scratch.shape[1] < size:
            self.scratch = np.zeros((threads, size), np.float32)
        spec.height, spec.width, spec.in_pitch = src.height, src.width, src.pitch
        spec.plane = dst.channels // self.taps * dst.plane
        cdef const float *x = &arena[0] + src.at + src.lead
        cdef float *y = &arena[0] + dst.at
        if threads == 1:
            with nogil:
                for channel in range(src.channels):
                    self.scatter_channel(&spec, x + channel * src.plane, src.item,
                                         y + channel * dst.plane, first, last, 0)
        else:
            for channel in prange(src.channels, nogil=True, num_threads=threads, schedule="static"):
                self.scatter_channel(&spec, x + channel * src.plane, src.item,
                                     y + channel * dst.plane, first, last, threadid())

    cdef void scatter_channel(self, const scnn_winograd *spec, const float *x, int64_t x_item,
                              float *y, int first, int last, int thread) noexcept nogil:
        cdef int row = first, end
        while row < last:
            end = min(last, (row // self.tiles_y + 1) * self.tiles_y)
            self.scatter_kernel(spec, x + row // self.tiles_y * x_item, row % self.tiles_y,
                                end - row, y + <int64_t>(row - first) * spec.tiles,
                                &self.scratch[thread, 0])
            row = end

    def gather(self, float[::1] arena not None, Planes src not None, Planes dst not None,
               Planes residual, int first, int last, int items, int threads):
        """Turn coefficients into the pixels of ``dst`` under rows [first, last) of tiles.

        ``residual`` (or None) has the geometry of dst and is added before the clamp.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef int64_t channel
        cdef scnn_winograd spec = self.geometry
        cdef const float *added = NULL
        cdef int64_t added_item = 0
        check(arena, src, 1)
        check(arena, dst, items)
        self.check_band(src, dst.channels, first, last, items)
        if (spec.m * self.tiles_y < dst.height or spec.m * spec.tiles < dst.width
                or (self.bias is not None and self.bias.shape[0] != dst.channels)
                or (self.slope is not None and self.slope.shape[0] != dst.channels)):
            raise KernelError("Winograd tiles do not cover their result")
        if residual is not None:
            check(arena, residual, items)
            if (residual.plane, residual.lead, residual.pitch) != (dst.plane, dst.lead, dst.pitch):
                raise KernelError("the added planes differ in geometry from the result's")
            added, added_item = &arena[0] + residual.at + residual.lead, residual.item
        spec.out_height, spec.out_width, spec.out_pitch = dst.height, dst.width, dst.pitch
        spec.plane = src.channels // self.taps * src.plane
        cdef const float *x = &arena[0] + src.at
        cdef float *y = &arena[0] + dst.at
        if threads == 1:
            with nogil:
                for channel in range(dst.channels):
                    self.gather_channel(&spec, channel, x + channel * src.plane, y, dst, added,
                                        added_item, first, last)
        else:
            for channel in prange(dst.channels, nogil=True, num_threads=threads, schedule="static"):
                self.gather_channel(&spec, channel, x + channel * src.plane, y, dst, added,
                                    added_item, first, last)

    cdef void gather_channel(self, const scnn_winograd *spec, int64_t channel, const float *x,
                             float *y, Planes dst, const float *added, int64_t added_item,
                             int first, int last) noexcept nogil:
        cdef int row = first, end
        cdef int64_t item, plane = channel * dst.plane
        while row < last:
            item = row // self.tiles_y
            end = min(last, <int>(item + 1) * self.tiles_y)
            if row % self.tiles_y == 0:
                zero_halo(y + item * dst.item + plane, dst)
            self.gather_kernel(spec, x + <int64_t>(row - first) * spec.tiles, row % self.tiles_y,
                               end - row, self.bias[channel] if self.bias is not None else 0,
                               &self.slope[channel] if self.slope is not None else NULL,
                               y + item * dst.item + plane + dst.lead,
                               added + item * added_item + plane if added != NULL else NULL)
            row = end


# --- depthwise convolution -----------------------------------------------------------------------

@cython.final
cdef class Depthwise:
    """A depthwise convolution, plane by plane.

    Parameters
    ----------
    isa : str
    weights : float32 ndarray of shape (outputs, height, width)
        Output o reads channel o // (outputs / channels).
    bias, slope : float32 ndarray of shape (outputs,); either may be None
    stride, dilation, pad : (int, int)
        The input's planes hold the padding as their halo; negative: pixels that no tap reads.
    low, high : float
        Clamp of the result.
    """

    cdef scnn_dwconv_fn kernel
    cdef scnn_dwconv geometry
    cdef const float[:, :, ::1] weights
    cdef const float[::1] bias, slope
    cdef int pad_h, pad_w, lanes

    def __init__(self, str isa, const float[:, :, ::1] weights not None, const float[::1] bias,
                 const float[::1] slope, stride, dilation, pad, float low, float high):
        cdef const scnn_kernel *kernel = find("dwconv", isa)
        self.kernel, self.lanes = <scnn_dwconv_fn>kernel.run, kernel.lanes
        self.weights, self.bias, self.slope = weights, bias, slope
        self.geometry.kernel_h, self.geometry.kernel_w = weights.shape[1], weights.shape[2]
        self.geometry.stride_h, self.geometry.stride_w = stride
        self.geometry.dilation_h, self.geometry.dilation_w = dilation
        self.geometry.low, self.geometry.high = low, high
        self.pad_h, self.pad_w = pad
        if (min(weights.shape[0], weights.shape[1], weights.shape[2]) < 1
                or min(*stride, *dilation) < 1
                or (bias is not None and bias.shape[0] != weights.shape[0])
                or (slope is not None and slope.shape[0] != weights.shape[0])):
            raise KernelError("the parts of a depthwise convolution do not fit together")

    def run(self, float[::1] arena not None, Planes src not None, Planes dst not None, int items,
            int threads):
        """Compute ``dst`` from ``src``.

        Raises
        ------
        KernelError
            An operand lies outside its memory, or is not as large as the result needs.
        """
        cdef scnn_dwconv spec = self.geometry
        cdef int64_t task, tasks = <int64_t>items * dst.channels
        cdef int64_t across = (dst.width + self.lanes - 1) // self.lanes * self.lanes
        cdef int64_t below = (<int64_t>(dst.height - 1) * spec.stride_h
                              + (spec.kernel_h - 1) * spec.dilation_h)
        cdef int64_t begin = src.lead - self.pad_h * src.pitch - self.pad_w
        cdef int64_t last = (src.end(items) - src.plane + begin + below * src.pitch
                             + across * spec.stride_w + (spec.kernel_w - 1) * spec.dilation_w
                             + self.lanes)
        check(arena, src, items)
        check(arena, dst, items)
        if (begin < 0 or last > arena.shape[0] or dst.channels != self.weights.shape[0]
                or dst.channels % src.channels):
            raise KernelError("a depthwise convolution reaches outside its planes")
        spec.out_height, spec.out_width = dst.height, dst.width
        spec.in_pitch, spec.out_pitch = src.pitch, dst.pitch
        cdef const float *x = &arena[0] + src.at + begin
        cdef float *y = &arena[0] + dst.at
        if threads == 1:
            with nogil:
                for task in range(tasks):
                    self.plane(&spec, task // dst.channels, task % dst.channels, x, src, y, dst)
        else:
            for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
                self.plane(&spec, task // dst.channels, task % dst.channels, x, src, y, dst)

    cdef void plane(self, const scnn_dwconv *spec, int64_t item, int64_t output, const float *x,
                    Planes src, float *y, Planes dst) noexcept nogil:
        cdef float *out = y + item * dst.item + output * dst.plane
        cdef int64_t channel = output // (dst.channels // src.channels)
        zero_halo(out, dst)
        self.kernel(spec, &self.weights[output, 0, 0],
                    self.bias[output] if self.bias is not None else 0,
                    &self.slope[output] if self.slope is not None else NULL,
                    x + item * src.item + channel * src.plane, out + dst.lead)


# --- fully connected layers at batch 1 -----------------------------------------------------------

def gemv(str isa, const float[:, ::1] w not None, const float[::1] bias, const float[::1] x not None,
         float[::1] y not None, int threads):
    """``y = w x + bias``; w (n, k), x (k,), y (n,); bias may be None."""
    cdef scnn_gemv_fn run = <scnn_gemv_fn>find("gemv", isa).run
    cdef int64_t n = w.shape[0], tasks = (n + GEMV_ROWS - 1) // GEMV_ROWS, task
    cdef const float *b = NULL
    if x.shape[0] != w.shape[1] or y.shape[0] != n or (bias is not None and bias.shape[0] != n):
        raise KernelError(f"gemv of {w.shape[0]}x{w.shape[1]} with {x.shape[0]} to {y.shape[0]}")
    if bias is not None:
        b = &bias[0]
    if threads == 1:
        run(&w[0, 0], b, &x[0], &y[0], w.shape[1], 0, n)
        return
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        run(&w[0, 0], b, &x[0], &y[0], w.shape[1], task * GEMV_ROWS, min(n, (task + 1) * GEMV_ROWS))


def spmv(str isa, const int64_t[::1] start not None, const uint16_t[::1] column not None,
         const float[::1] value not None, const float[::1] bias, const float[::1] x not None,
         float[::1] y not None, int threads):
    """``y = w x + bias`` with w in sparse rows of (column, value)."""
    cdef scnn_spmv_fn run = <scnn_spmv_fn>find("spmv", isa).run
    cdef int64_t n = y.shape[0], tasks = (n + GEMV_ROWS - 1) // GEMV_ROWS, task
    cdef const float *b = NULL
    cdef const uint16_t *columns = NULL
    cdef const float *values = NULL
    if (start.shape[0] != n + 1 or start[n] != value.shape[0] or value.shape[0] != column.shape[0]
            or start[0] != 0 or not ascending(start) or x.shape[0] > 65536
            or (bias is not None and bias.shape[0] != n)):
        raise KernelError("the streams of a sparse fully connected layer do not fit together")
    if bias is not None:
        b = &bias[0]
    if value.shape[0]:
        columns, values = &column[0], &value[0]
    if threads == 1:
        run(&start[0], columns, values, b, &x[0], &y[0], 0, n)
        return
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="dynamic"):
        run(&start[0], columns, values, b, &x[0], &y[0], task * GEMV_ROWS,
            min(n, (task + 1) * GEMV_ROWS))


def window_counts(const float[:, ::1] w not None):
    """Count the entries of every row in every window of 128 columns; the last may be narrower."""
    cdef int64_t windows = (w.shape[1] + SCNN_ELL_COLUMNS - 1) // SCNN_ELL_COLUMNS
    cdef int64_t i, j, window, end
    cdef int32_t found
    cdef int32_t[:, ::1] counts = np.empty((w.shape[0], windows), np.int32)
    with nogil:
        for i in range(w.shape[0]):
            for window in range(windows):
                found = 0
                end = min(w.shape[1], (window + 1) * SCNN_ELL_COLUMNS)
                for j in range(window * SCNN_ELL_COLUMNS, end):
                    found += w[i, j] != 0
                counts[i, window] = found
    return np.asarray(counts)


def split_rows(const float[:, ::1] w not None, const int32_t[:, ::1] counts not None,
               const uint8_t[:, ::1] steps not None):
    """Pack a matrix: what fits into steps, and rows of what does not.

    ``counts`` are those of :func:`window_counts`; ``steps`` (slices, windows) is for whole slices
    and windows. Returns columns and values of :class:`Ell`, and start, columns and values of
    :func:`spmv`.
    """
    cdef int64_t rows = w.shape[0], i, j, window, end, slot, rest = 0
    cdef int32_t limit, seen
    if (counts.shape[0] != rows or counts.shape[1] * SCNN_ELL_COLUMNS < w.shape[1]
            or steps.shape[0] > rows // SCNN_ELL_ROWS
            or steps.shape[1] > w.shape[1] // SCNN_ELL_COLUMNS or w.shape[1] > 65536):
        raise KernelError("the parts of a sliced matrix do not fit together")
    size = np.asarray(steps, np.int64)
    cdef int64_t[:, ::1] first = (np.cumsum(size) - size.ravel()).reshape(size.shape)
    cdef uint8_t[:, ::1] column = np.zeros((size.sum(), SCNN_ELL_ROWS), np.uint8)
    cdef float[:, ::1] value = np.zeros((size.sum(), SCNN_ELL_ROWS), np.float32)
    entries = np.sum(counts, dtype=np.int64)
    cdef int64_t[::1] start = np.empty(rows + 1, np.int64)
    cdef uint16_t[::1] rest_column = np.empty(entries, np.uint16)
    cdef float[::1] rest_value = np.empty(entries, np.float32)
    with nogil:
        for i in range(rows):
            start[i] = rest
            for window in range(counts.shape[1]):
                if not counts[i, window]:
                    continue
                limit, seen, slot = 0, 0, 0
                if i < steps.shape[0] * SCNN_ELL_ROWS and window < steps.shape[1]:
                    limit = steps[i // SCNN_ELL_ROWS, window]
                    slot = first[i // SCNN_ELL_ROWS, window]
                end = min(w.shape[1], (window + 1) * SCNN_ELL_COLUMNS)
                for j in range(window * SCNN_ELL_COLUMNS, end):
                    if w[i, j] == 0:
                        continue
                    if seen < limit:
                        column[slot + seen, i % SCNN_ELL_ROWS] = j - window * SCNN_ELL_COLUMNS
                        value[slot + seen, i % SCNN_ELL_ROWS] = w[i, j]
                        seen += 1
                    elif rest < rest_column.shape[0]:
                        rest_column[rest] = j
                        rest_value[rest] = w[i, j]
                        rest += 1
        start[rows] = rest
    return (np.asarray(column), np.asarray(value), np.asarray(start),
            np.array(rest_column[:rest]), np.array(rest_value[:rest]))


cdef class Ell:
    """The part of a sparse matrix whose rows fill steps: sixteen rows side by side.

    Parameters
    ----------
    isa : str
    steps : uint8 ndarray of shape (slices, windows)
        Entries that a row of the slice has at most in the window of 128 columns.
    column : uint8 ndarray of shape (all steps, 16)
        In the window.
    value : float32 ndarray of shape (all steps, 16)

    Raises
    ------
    KernelError
        The parts do not fit together.
    """

    cdef scnn_ell_fn kernel
    cdef scnn_ell ell
    cdef int64_t slices
    cdef list keep

    def __init__(self, str isa, const uint8_t[:, ::1] steps not None,
                 const uint8_t[:, ::1] column not None, const float[:, ::1] value not None):
        cdef int64_t[::1] first
        self.kernel = <scnn_ell_fn>find("ell", isa).run
        count = np.asarray(steps, np.int64).sum(axis=1)
        first = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        self.slices, self.ell.windows = steps.shape[0], steps.shape[1]
        if (min(steps.shape[0], steps.shape[1], value.shape[0]) < 1
                or value.shape[0] != first[self.slices] or column.shape[0] != value.shape[0]
                or value.shape[1] != SCNN_ELL_ROWS or column.shape[1] != SCNN_ELL_ROWS):
            raise KernelError("the parts of a sliced matrix do not fit together")
        self.ell.first, self.ell.steps = &first[0], &steps[0, 0]
        self.ell.column, self.ell.value = &column[0, 0], &value[0, 0]
        self.keep = [first, steps, column, value]

    def run(self, const float[::1] bias, const float[::1] x not None, float[::1] y not None,
            int threads):
        """``y = w x + bias`` for the rows of all slices; bias may be None."""
        cdef int64_t task, tasks = (self.slices + ELL_SLICES - 1) // ELL_SLICES
        cdef int64_t rows = self.slices * SCNN_ELL_ROWS
        cdef const float *b = NULL
        if (x.shape[0] < self.ell.windows * SCNN_ELL_COLUMNS or y.shape[0] < rows
                or (bias is not None and bias.shape[0] < rows)):
            raise KernelError("the operands of a sliced matrix are too short for it")
        if bias is not None:
            b = &bias[0]
        for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
            self.kernel(&self.ell, b, &x[0], &y[0], task * ELL_SLICES,
                        min(self.slices, (task + 1) * ELL_SLICES))



# --- the other layers ----------------------------------------------------------------------------

def pool(str isa, str method, float[::1] arena not None, Planes src not None, Planes dst not None,
         kernel, stride, pad, int items, float[:, ::1] scratch not None, int threads):
    """Max or average pooling.

    ``method`` is "max" or "ave"; ``scratch`` has a row of 2·(width + kernel width + 16) floats for
    each thread.
    """
    cdef scnn_maxpool_fn run = <scnn_maxpool_fn>find(f"{method}pool", isa).run
    cdef scnn_pool geometry
    cdef int64_t task, tasks = <int64_t>items * src.channels
    cdef float *data = &arena[0]
    check(arena, src, items)
    check(arena, dst, items)
    geometry.height, geometry.width = src.height, src.width
    geometry.out_height, geometry.out_width = dst.height, dst.width
    geometry.kernel_h, geometry.kernel_w = kernel
    geometry.stride_h, geometry.stride_w = stride
    geometry.pad_h, geometry.pad_w = pad
    geometry.in_pitch, geometry.out_pitch = src.pitch, dst.pitch
    if (src.channels != dst.channels or scratch.shape[0] < threads
            or scratch.shape[1] < 2 * (src.width + geometry.kernel_w + 16)
            or (dst.height - 1) * geometry.stride_h - geometry.pad_h >= src.height
            or (dst.width - 1) * geometry.stride_w - geometry.pad_w >= src.width
            or geometry.pad_h >= geometry.kernel_h or geometry.pad_w >= geometry.kernel_w):
        raise KernelError("a pooling window without pixels, or too small a scratch")
    if threads == 1:
        with nogil:
            for task in range(tasks):
                pool_plane(run, &geometry, data, src, dst, task, &scratch[0, 0])
        return
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        pool_plane(run, &geometry, data, src, dst, task, &scratch[threadid(), 0])


cdef void pool_plane(scnn_maxpool_fn run, const scnn_pool *geometry, float *data, Planes src,
                     Planes dst, int64_t task, float *scratch) noexcept nogil:
    cdef int64_t item = task // src.channels, channel = task % src.channels
    cdef float *out = data + dst.at + item * dst.item + channel * dst.plane
    zero_halo(out, dst)
    run(geometry, data + src.at + item * src.item + channel * src.plane + src.lead, out + dst.lead,
        scratch)


def lrn(str isa, float[::1] arena not None, Planes src not None, Planes dst not None,
        int local_size, float alpha, float beta, float k, int items, int threads):
    """Local response normalisation across channels."""
    cdef scnn_lrn_fn run = <scnn_lrn_fn>find("lrn", isa).run
    cdef scnn_lrn spec
    cdef bint whole = src.pitch == dst.pitch == src.width
    cdef int64_t runs = 1 if whole else src.height
    cdef int64_t size = src.run() if whole else src.width
    cdef int64_t strips = (size + 255) // 256
    cdef int64_t task, tasks = items * runs * strips
    cdef float *data = &arena[0]
    same_pixels(arena, src, dst, items)
    spec.channels, spec.local_size = src.channels, local_size
    spec.in_plane, spec.out_plane = src.plane, dst.plane
    spec.alpha_over_n, spec.beta, spec.k = alpha / local_size, beta, k
    halos(data, dst, items, threads)
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        lrn_strip(run, &spec, data, src, dst, task, runs, strips, size)


cdef void lrn_strip(scnn_lrn_fn run, const scnn_lrn *spec, float *data, Planes src, Planes dst,
                    int64_t task, int64_t runs, int64_t strips, int64_t size) noexcept nogil:
    cdef int64_t strip = task % strips, y = task // strips % runs, item = task // (strips * runs)
    run(spec, data + src.at + item * src.item + src.lead + y * src.pitch + strip * 256,
        data + dst.at + item * dst.item + dst.lead + y * dst.pitch + strip * 256,
        min(256, size - strip * 256))


def lrn_within(str isa, float[::1] arena not None, Planes src not None, Planes dst not None,
               int half, float share, float beta, int items, float[:, ::1] scratch not None,
               int threads):
    """Local response normalisation within windows of 2·half + 1 pixels each way.

    ``scratch`` has a row of width + 2·half + 16 floats for each thread.
    """
    cdef scnn_lrn_within_fn run = <scnn_lrn_within_fn>find("lrn_within", isa).run
    cdef scnn_lrn_within spec
    cdef int64_t task, tasks = <int64_t>items * src.channels
    cdef float *data = &arena[0]
    same_pixels(arena, src, dst, items)
    if (half < 0 or scratch.shape[0] < threads
            or scratch.shape[1] < src.width + 2 * <int64_t>half + 16):
        raise KernelError(f"a window that reaches {half} pixels, or too small a scratch")
    spec.height, spec.width, spec.half = src.height, src.width, half
    spec.in_pitch, spec.out_pitch = src.pitch, dst.pitch
    spec.share, spec.beta = share, beta
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        lrn_plane(run, &spec, data, src, dst, task, &scratch[threadid(), 0])


cdef void lrn_plane(scnn_lrn_within_fn run, const scnn_lrn_within *spec, float *data, Planes src,
                    Planes dst, int64_t task, float *scratch) noexcept nogil:
    cdef int64_t item = task // src.channels, channel = task % src.channels
    cdef float *plane = data + dst.at + item * dst.item + channel * dst.plane
    zero_halo(plane, dst)
    run(spec, data + src.at + item * src.item + channel * src.plane + src.lead, plane + dst.lead,
        scratch)


def softmax(str isa, float[::1] arena not None, Planes src not None, Planes dst not None,
            int64_t size, int threads):
    """``exp(x − max) / Σ`` of each ``size`` values of a contiguous run; ``src`` and ``dst`` are one row."""
    cdef scnn_softmax_fn run = <scnn_softmax_fn>find("softmax", isa).run
    cdef int64_t task, tasks
    cdef float *data = &arena[0]
    check(arena, src, 1)
    check(arena, dst, 1)
    if size < 1 or src.width % size or src.width != dst.width:
        raise KernelError(f"runs of {size} in {src.width} values, {dst.width} results")
    tasks = src.width // size
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        run(data + src.at + task * size, data + dst.at + task * size, size)


def affine(str isa, float[::1] arena not None, Planes src not None, Planes dst not None,
           const float[::1] scale not None, const float[::1] shift not None,
           const float[::1] slope not None, float low, float high, int items, int threads):
    """``clamp(leaky(x · scale + shift))`` with one scale, shift and slope a channel."""
    cdef scnn_affine_fn run = <scnn_affine_fn>find("affine", isa).run
    cdef int64_t task, tasks = <int64_t>items * src.channels
    cdef float *data = &arena[0]
    same_pixels(arena, src, dst, items)
    if not scale.shape[0] == shift.shape[0] == slope.shape[0] == src.channels:
        raise KernelError(f"{scale.shape[0]} scales for {src.channels} channels")
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        affine_plane(run, data, src, dst, task, &scale[0], &shift[0], &slope[0], low, high)


cdef void affine_plane(scnn_affine_fn run, float *data, Planes src, Planes dst, int64_t task,
                       const float *scale, const float *shift, const float *slope, float low,
                       float high) noexcept nogil:
    cdef int64_t item = task // src.channels, c = task % src.channels, y
    cdef const float *x = data + src.at + item * src.item + c * src.plane + src.lead
    cdef float *plane = data + dst.at + item * dst.item + c * dst.plane
    cdef float *out = plane + dst.lead
    if src.dense() and dst.dense():
        run(x, out, src.run(), scale[c], shift[c], slope[c], low, high)
    else:
        for y in range(src.height):
            run(x + y * src.pitch, out + y * dst.pitch, src.width, scale[c], shift[c], slope[c],
                low, high)
    zero_halo(plane, dst)


def binary(str isa, int op, float[::1] arena not None, Planes a not None, Planes b not None,
           Planes dst not None, float ca, float cb, float low, float high, int items, int threads):
    """``a·ca + b·cb`` (op 0), ``a·b`` (1) or ``max(a, b)`` (2), then the clamp."""
    cdef scnn_binary_fn run = <scnn_binary_fn>find("binary", isa).run
    cdef int64_t task, tasks = <int64_t>items * dst.channels
    cdef float *data = &arena[0]
    same_pixels(arena, a, dst, items)
    same_pixels(arena, b, dst, items)
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        binary_plane(run, op, data, a, b, dst, task, ca, cb, low, high)


cdef void binary_plane(scnn_binary_fn run, int op, float *data, Planes a, Planes b, Planes dst,
                       int64_t task, float ca, float cb, float low, float high) noexcept nogil:
    cdef int64_t item = task // dst.channels, c = task % dst.channels, y
    cdef const float *xa = data + a.at + item * a.item + c * a.plane + a.lead
    cdef const float *xb = data + b.at + item * b.item + c * b.plane + b.lead
    cdef float *plane = data + dst.at + item * dst.item + c * dst.plane
    for y in range(dst.height):
        run(op, xa + y * a.pitch, xb + y * b.pitch, plane + dst.lead + y * dst.pitch, dst.width, ca,
            cb, low, high)
    zero_halo(plane, dst)


cdef int same_pixels(float[::1] arena, Planes src, Planes dst, int items) except -1:
    check(arena, src, items)
    check(arena, dst, items)
    if (src.channels, src.height, src.width) != (dst.channels, dst.height, dst.width):
        raise KernelError("planes of different size")
    return 0


cdef void halos(float *data, Planes dst, int items, int threads) noexcept:
    cdef int64_t task
    if dst.lead == 0 and dst.pitch == dst.width:
        return
    for task in prange(<int64_t>items * dst.channels, nogil=True, num_threads=threads,
                       schedule="static"):
        zero_halo(data + dst.at + task // dst.channels * dst.item
                  + task % dst.channels * dst.plane, dst)


# --- pyramid pooling of windows ------------------------------------------------------------------

# Windows that one task pools, on all channels: few enough that their results stay in cache until
# they are whole, which took half the time of a pass over all windows for each block of channels.
DEF SPP_WINDOWS = 8


def spp(str isa, const float[:, :, :, ::1] maps not None, int channels,
        const int32_t[::1] bins not None, const int32_t[::1] source not None,
        const int64_t[::1] at not None, const int32_t[:, :, :, ::1] bounds not None,
        const int64_t[::1] index not None, float lowest, float[:, ::1] out not None, int threads):
    """Max-pool windows of a map into pyramids of bins.

    ``maps`` (blocks, height, width, 16) holds 16 channels a block; ``bounds`` (windows, 2, sides, 2)
    the cells (begin, end) of every bin row and every bin column of all levels; window i becomes
    row ``index[i]`` of ``out``, level l as (channels, bins, bins) from column ``at[l]`` on.
    """
    cdef const scnn_kernel *kernel = find("spp", isa)
    cdef scnn_spp_fn run = <scnn_spp_fn>kernel.run
    cdef scnn_spp spec
    cdef int64_t windows = bounds.shape[0], height = maps.shape[1], width = maps.shape[2], task
    cdef int64_t tasks = (windows + SPP_WINDOWS - 1) // SPP_WINDOWS
    size = np.square(np.asarray(bins, np.int64))
    cdef const int32_t[::1] bins_before = (np.cumsum(size) - size).astype(np.int32)
    if (bins.shape[0] < 1 or np.min(bins) < 1 or source.shape[0] != bins.shape[0]
            or at.shape[0] != bins.shape[0] or maps.shape[3] != SCNN_SPP_CHANNELS or channels < 1
            or maps.shape[0] != (channels + SCNN_SPP_CHANNELS - 1) // SCNN_SPP_CHANNELS
            or bounds.shape[1] != 2 or bounds.shape[2] != np.sum(bins) or bounds.shape[3] != 2
            or index.shape[0] != windows or np.min(at) < 0
            or np.max(np.add(at, channels * size)) > out.shape[1]):
        raise KernelError("the parts of a window pooling do not fit together")
    for level in range(source.shape[0]):
        if source[level] >= level or (source[level] >= 0 and bins[source[level]] % bins[level]):
            raise KernelError("a level of a pyramid is not made of whole bins of an earlier one")
    if windows == 0:
        return
    if (np.min(bounds) < 0 or np.max(bounds[:, 0]) > height or np.max(bounds[:, 1]) > width
            or np.min(index) < 0 or np.max(index) >= out.shape[0]):
        raise KernelError("a window reaches outside its map")
    cdef float[:, ::1] scratch = np.empty((threads, size.sum() * SCNN_SPP_CHANNELS), np.float32)
    spec.levels, spec.sides, spec.width, spec.lowest = bins.shape[0], bounds.shape[2], width, lowest
    spec.bins, spec.source, spec.bins_before, spec.at = &bins[0], &source[0], &bins_before[0], &at[0]
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="dynamic"):
        spp_windows(run, &spec, maps, channels, bounds, index, out, &scratch[threadid(), 0],
                    task * SPP_WINDOWS)


cdef void spp_windows(scnn_spp_fn run, const scnn_spp *spec, const float[:, :, :, ::1] maps,
                      int channels, const int32_t[:, :, :, ::1] bounds, const int64_t[::1] index,
                      float[:, ::1] out, float *scratch, int64_t window) noexcept nogil:
    """Pool the next windows, one block of channels after the other."""
    cdef int64_t block, i, end = min(window + SPP_WINDOWS, bounds.shape[0])
    cdef int first, many
    for block in range(maps.shape[0]):
        first = block * SCNN_SPP_CHANNELS
        many = min(channels - first, SCNN_SPP_CHANNELS)
        for i in range(window, end):
            run(spec, &bounds[i, 0, 0, 0], &maps[block, 0, 0, 0], scratch, &out[index[i], 0], first,
                many)


def clear_halo(float[::1] arena not None, Planes dst not None, int items, int threads):
    """Set everything but the pixels of planes to zero."""
    check(arena, dst, items)
    halos(&arena[0], dst, items, threads)
