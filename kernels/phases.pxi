# Phases of a strided convolution.


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

    cdef void split(self, const float *x, Planes src, int64_t row, float *out) noexcept nogil:
        """Fill the phase planes of one channel, from an input row on."""
        cdef scnn_phase geometry = self.geometry
        cdef int64_t p
        geometry.height, geometry.width, geometry.in_pitch = src.height, src.width, src.pitch
        for p in range(self.offsets.shape[0]):
            self.kernel(&geometry, x, out + p * self.plane, row + self.offsets[p, 0] - self.pad_h,
                        self.offsets[p, 1] - self.pad_w)

    def run(self, const float[::1] memory not None, Planes src not None,
            float[::1] target not None, Planes dst not None, int items, int threads,
            int64_t row=0):
        """Split ``src``: phase p of channel c becomes channel c·P + p of ``dst`` in ``target``.

        ``memory`` and ``target`` may be one array.

        The first row of dst is that of the output whose first tap, but for the padding, is ``row``.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef int64_t task, tasks = <int64_t>items * src.channels
        cdef const float *x = &memory[0] + src.at + src.lead
        cdef float *out = &target[0] + dst.at
        check(memory, src, items)
        check(target, dst, items)
        if (dst.channels != src.channels * self.offsets.shape[0] or dst.lead
                or dst.pitch != self.geometry.columns or dst.height != self.geometry.rows
                or dst.plane != self.plane):
            raise KernelError("phase planes have no halo, and one plane a channel and phase")
        for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
            self.split_one(x, src, out, dst, task // src.channels, task % src.channels, row)

    cdef void split_one(self, const float *x, Planes src, float *out, Planes dst, int64_t item,
                        int64_t channel, int64_t row) noexcept nogil:
        self.split(x + item * src.item + channel * src.plane, src, row,
                   out + item * dst.item + channel * self.size())
