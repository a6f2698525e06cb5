# Sparse weights, packed for the kernels that walk over streams of them.

# Into how many parts the input channels of a convolution may be cut.
DEF MAX_PARTS = 256


cdef int64_t rising(const int32_t[::1] bounds):
    """Return by how much bounds rise at least from one to the next."""
    return np.diff(np.asarray(bounds, np.int64)).min()


cdef int64_t even_step(start, offset):
    """Return by how much the offsets rise with each entry, from 0 on, alike in all blocks; or 0."""
    entries = start[1]
    if entries < 2 or (np.diff(start) != entries).any():
        return 0
    step = int(offset[1])
    even = offset[:-SCNN_AHEAD].reshape(-1, entries) == np.arange(entries) * step
    return step if even.all() else 0


cdef class PackedWeights:
    """A weight matrix as streams, with what happens to its sums (see ``engine/packing.py``).

    Subclasses call ``take`` with:

    rows : int
        Output channels a block.
    unit : int
        Offsets count steps of ``1 << unit`` floats.
    parts : list of (start, origin, offset, value)
        The streams, cut by input channels: int64 (blocks + 1,), int, uint16 or uint32 (entries +
        8,), float32 (entries · rows,). Entry e reads at ``origin + (offset[e] << unit)``.
    bias, slope : float32 ndarray of shape (blocks · rows,); slope may be None
    channel : int32 ndarray of shape (blocks · rows,)
    chunk : int32 ndarray
        Boundaries of the groups of blocks that one task computes.
    reach : int
        The largest offset of any weight.
    low, high : float
        Clamp of the result.
    """

    cdef scnn_matrix[MAX_PARTS] matrix
    cdef int parts, rows, top_channel
    cdef int64_t reach, weight_bytes
    cdef const int32_t[::1] chunk
    cdef list keep

    cdef int take(self, int rows, int unit, list parts, const float[::1] bias, slope,
                  const int32_t[::1] channel, const int32_t[::1] chunk, int64_t reach, float low,
                  float high) except -1:
        """Check the streams against each other, and keep them."""
        cdef int index
        cdef int64_t blocks
        cdef scnn_matrix common
        cdef const float[::1] slopes
        if rows < 1 or chunk.shape[0] < 2:
            raise KernelError("a packed convolution needs rows and a task")
        blocks = channel.shape[0] // rows
        self.parts, self.rows, self.chunk = len(parts), rows, chunk
        self.reach, self.weight_bytes = reach, 0
        self.keep = [bias, slope, channel]
        if (not 1 <= self.parts <= MAX_PARTS or not 0 <= unit < 16 or blocks < 1 or bias.shape[0] != blocks * rows
                or channel.shape[0] != blocks * rows or chunk[0] != 0
                or chunk[chunk.shape[0] - 1] != blocks or rising(chunk) < 0):
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
            self.weight_bytes += offset.nbytes + value.nbytes
            if len(value) and not 0 <= origin <= origin + (int(np.max(offset)) << unit) <= reach:
                raise KernelError("a convolution reads behind its last weight's input")
            self.matrix[index].origin = origin
            self.point_at(&self.matrix[index], blocks, start, offset, value)
        self.top_channel = max(channel)
        return 0

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
        matrix.step = even_step(np.asarray(start), np.asarray(offset)) << matrix.unit
        if offset.itemsize == 2:
            narrow = offset
            matrix.offset = &narrow[0]
        else:
            wide = offset
            matrix.offset = &wide[0]
        if value.shape[0]:
            matrix.value = &value[0]
        return 0
