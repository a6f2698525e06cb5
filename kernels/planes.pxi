# The planes that activations lie in.


@cython.final
cdef class Planes:
    """A block of channel planes in the arena.

    Pixel (y, x) of channel c of item n lies at ``at + n·channels·plane + c·plane + lead +
    y·pitch + x``; everything else in a plane is halo, which its producer sets to zero. Planes without
    a lead have no halo: between their rows lies anything.
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

    cdef int64_t pixels(self) noexcept nogil:
        """Pixels of a plane."""
        return <int64_t>self.height * self.width

    cdef int64_t run(self) noexcept nogil:
        """Length of the run from the first pixel to the last, gaps included."""
        return (self.height - 1) * self.pitch + self.width

    def end(self, items):
        """First position behind the block."""
        return self.at + (items - 1) * self.item + self.channels * self.plane


cdef enum:
    LINE = 16  # floats of a cache line


cdef on_lines(int64_t rows, int64_t size):
    """Return zeros of shape (rows, size or some more), each row beginning with a cache line."""
    cdef int64_t width = (size + LINE) // LINE * LINE
    memory = np.zeros(rows * width + LINE, np.float32)
    skipped = -memory.ctypes.data % 64 // 4
    return memory[skipped:skipped + rows * width].reshape(rows, width)


cdef void zero_halo(float *plane, Planes p) noexcept nogil:
    """Set everything but the pixels of one plane to zero, if it has a halo."""
    if p.lead:
        zero_ends(plane, p, 0, p.height)
        zero_gaps(plane, p, 0, p.height)


cdef void zero_gaps(float *plane, Planes p, int first, int last) noexcept nogil:
    """Set what lies between rows [first, last) of a plane, and behind them, to zero."""
    cdef int64_t gap = p.pitch - p.width, y
    cdef float *row = plane + p.lead + p.width
    last = min(last, p.height - 1)
    if gap == 1:  # a compiler makes calls of memset of what is longer
        for y in range(first, last):
            row[y * p.pitch] = 0
    elif gap:
        for y in range(first, last):
            memset(row + y * p.pitch, 0, gap * sizeof(float))


cdef void zero_ends(float *plane, Planes p, int first, int last) noexcept nogil:
    """Set what lies before the first pixel of a plane with a halo and behind the last to zero.

    Of these, what belongs to rows [first, last).
    """
    cdef int64_t end = p.lead + p.run()
    if first == 0:
        clear(plane, p.lead)
    if last == p.height:
        clear(plane + end, p.plane - end)


cdef void clear(float *values, int64_t count) noexcept nogil:
    """Set some values to zero; what is as short as the ends of most planes without a call."""
    cdef int64_t i
    if count < LINE or count > 8 * LINE:
        memset(values, 0, count * sizeof(float))
        return
    for i in range((count - 1) // LINE):
        memset(values + i * LINE, 0, LINE * sizeof(float))
    memset(values + count - LINE, 0, LINE * sizeof(float))


cdef int lanes_in(uint32_t mask) noexcept nogil:
    """Count the lanes of a mask."""
    cdef int count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


cdef int lanes_up_to(uint32_t mask) noexcept nogil:
    """Count the lanes up to the last one of a mask."""
    cdef int count = 0
    while mask:
        mask >>= 1
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


cdef int check_residual(const float[::1] arena, Planes residual, Planes dst, int items) except -1:
    """What is added to a result, if anything, lies like it."""
    if residual is None:
        return 0
    check(arena, residual, items)
    if ((residual.plane, residual.lead, residual.pitch) != (dst.plane, dst.lead, dst.pitch)
            or residual.channels < dst.channels):
        raise KernelError("the added planes differ in geometry from the result's")
    return 0


def clear_rows(float[::1] arena not None, Planes planes not None, int first, int count):
    """Set some rows of the planes of one item to zero."""
    cdef int64_t channel, begin = planes.lead + first * planes.pitch
    check(arena, planes, 1)
    check_rows(planes, first, count)
    for channel in range(planes.channels):
        memset(&arena[planes.at] + channel * planes.plane + begin, 0,
               count * planes.pitch * sizeof(float))


def slide_rows(float[::1] arena not None, Planes planes not None, int first, int count,
               int threads):
    """Move some rows of the planes of one item to their first rows."""
    cdef int64_t channel, plane = planes.plane
    cdef int64_t distance = first * planes.pitch, size = count * planes.pitch * sizeof(float)
    cdef float *row
    check(arena, planes, 1)
    check_rows(planes, first, count)
    row = &arena[planes.at] + planes.lead
    if threads == 1:
        for channel in range(planes.channels):
            memmove(row + channel * plane, row + channel * plane + distance, size)
    else:
        for channel in prange(planes.channels, nogil=True, num_threads=threads, schedule="static"):
            memmove(row + channel * plane, row + channel * plane + distance, size)


cdef int check_rows(Planes planes, int first, int count) except -1:
    """Rows with the gaps behind them lie in their plane."""
    if (min(first, count) < 0 or first + count > planes.height
            or planes.lead + (first + count) * planes.pitch > planes.plane):
        raise KernelError("rows outside their planes")
    return 0
