# Winograd's form of a 3x3 convolution.


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
    rows : int
        Of tiles that are transformed at a time.
    pad : (int, int)
        Of the convolution; the input's own halo is not read.
    bias, slope : float32 ndarray of shape (outputs,); either may be None
    low, high : float
        Clamp of the result.
    """

    cdef scnn_winograd_in_fn scatter_kernel
    cdef scnn_winograd_out_fn gather_kernel
    cdef scnn_winograd geometry
    cdef int tiles_y, rows, taps
    cdef const float[::1] bias, slope
    cdef float[:, ::1] scratch

    def __init__(self, str isa, int m, int tiles_y, int tiles_x, int rows, pad,
                 const float[::1] bias, const float[::1] slope, float low, float high):
        cdef const scnn_kernel *kernel = find("winograd_in", isa)
        self.scatter_kernel = <scnn_winograd_in_fn>kernel.run
        self.gather_kernel = <scnn_winograd_out_fn>find("winograd_out", isa).run
        self.geometry.m, self.geometry.tiles, self.tiles_y = m, tiles_x, tiles_y
        self.geometry.pad_h, self.geometry.pad_w = pad
        self.geometry.low, self.geometry.high = low, high
        self.taps, self.bias, self.slope = (m + 2) * (m + 2), bias, slope
        if m not in (2, 4) or min(tiles_y, tiles_x, rows) < 1 or not all(0 <= p < 3 for p in pad):
            raise KernelError("Winograd tiles have 2x2 or 4x4 outputs of a 3x3 kernel")
        self.rows = min(rows, tiles_y)
        pixels = m * m * (self.rows * tiles_x + kernel.lanes)
        places = m * (m + 2) * ((self.rows + 1) * tiles_x + kernel.lanes)
        size = max(pixels, places + m * (tiles_x + kernel.lanes + 1))
        self.scratch = np.empty((0, size), np.float32)

    cdef int make_scratch(self, int threads) except -1:
        if self.scratch.shape[0] < threads:
            self.scratch = np.zeros((threads, self.scratch.shape[1]), np.float32)
        return 0

    cdef int check_band(self, Planes coefficients, int64_t channels, int first, int last,
                        int items) except -1:
        if (not 0 <= first < last <= items * self.tiles_y
                or coefficients.channels % self.taps or coefficients.lead
                or coefficients.channels < channels * self.taps
                or coefficients.plane < <int64_t>(last - first) * self.geometry.tiles):
            raise KernelError("a band of Winograd tiles does not fit its coefficients")
        return 0

    def scatter(self, const float[::1] memory not None, Planes src not None,
                float[::1] target not None, Planes dst not None, int first, int last, int items,
                int threads):
        """Turn the pixels of ``src`` under rows [first, last) of tiles into coefficients.

        They go to ``dst`` in ``target``, which may be ``memory``.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef int64_t channel
        cdef scnn_winograd spec = self.geometry
        check(memory, src, items)
        check(target, dst, 1)
        self.check_band(dst, src.channels, first, last, items)
        self.make_scratch(threads)
        spec.height, spec.width, spec.in_pitch = src.height, src.width, src.pitch
        spec.plane = dst.channels // self.taps * dst.plane
        cdef const float *x = &memory[0] + src.at + src.lead
        cdef float *y = &target[0] + dst.at
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
            end = min(row + self.rows, min(last, (row // self.tiles_y + 1) * self.tiles_y))
            self.scatter_kernel(spec, x + row // self.tiles_y * x_item, row % self.tiles_y,
                                end - row, y + <int64_t>(row - first) * spec.tiles,
                                &self.scratch[thread, 0])
            row = end

    def gather(self, const float[::1] memory not None, Planes src not None,
               float[::1] target not None, Planes dst not None, Planes residual, int first,
               int last, int items, int threads):
        """Turn coefficients into the pixels of ``dst`` under rows [first, last) of tiles.

        ``residual`` (or None), planes in ``target`` with the geometry of dst, is added before the
        clamp. ``memory`` and ``target`` may be one array.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef int64_t channel
        cdef scnn_winograd spec = self.geometry
        cdef const float *added = NULL
        cdef int64_t added_item = 0
        check(memory, src, 1)
        check(target, dst, items)
        self.check_band(src, dst.channels, first, last, items)
        if (spec.m * self.tiles_y < dst.height or spec.m * spec.tiles < dst.width
                or (self.bias is not None and self.bias.shape[0] != dst.channels)
                or (self.slope is not None and self.slope.shape[0] != dst.channels)):
            raise KernelError("Winograd tiles do not cover their result")
        self.make_scratch(threads)
        if residual is not None:
            check(target, residual, items)
            if (residual.plane, residual.lead, residual.pitch) != (dst.plane, dst.lead, dst.pitch):
                raise KernelError("the added planes differ in geometry from the result's")
            added, added_item = &target[0] + residual.at + residual.lead, residual.item
        spec.out_height, spec.out_width, spec.out_pitch = dst.height, dst.width, dst.pitch
        spec.plane = src.channels // self.taps * src.plane
        cdef const float *x = &memory[0] + src.at
        cdef float *y = &target[0] + dst.at
        if threads == 1:
            with nogil:
                for channel in range(dst.channels):
                    self.gather_channel(&spec, channel, x + channel * src.plane, y, dst, added,
                                        added_item, first, last, 0)
        else:
            for channel in prange(dst.channels, nogil=True, num_threads=threads, schedule="static"):
                self.gather_channel(&spec, channel, x + channel * src.plane, y, dst, added,
                                    added_item, first, last, threadid())

    cdef void gather_channel(self, const scnn_winograd *spec, int64_t channel, const float *x,
                             float *y, Planes dst, const float *added, int64_t added_item,
                             int first, int last, int thread) noexcept nogil:
        cdef int row = first, end
        cdef int64_t item, plane = channel * dst.plane
        while row < last:
            item = row // self.tiles_y
            end = min(row + self.rows, min(last, <int>(item + 1) * self.tiles_y))
            if row % self.tiles_y == 0:
                zero_halo(y + item * dst.item + plane, dst)
            self.gather_kernel(spec, x + <int64_t>(row - first) * spec.tiles, row % self.tiles_y,
                               end - row, self.bias[channel] if self.bias is not None else 0,
                               &self.slope[channel] if self.slope is not None else NULL,
                               y + item * dst.item + plane + dst.lead,
                               added + item * added_item + plane if added != NULL else NULL,
                               &self.scratch[thread, 0])
            row = end
