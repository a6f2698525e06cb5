# What a bound convolution computes with, and how threads share it.

# Threads share the map, and not the output channels, where it has so many pixels, or so many for each
# output channel times the input channels that it comes from. Inputs of up to so many floats are
# fetched from other cores before they are read.
cdef enum:
    LARGE_MAP = 2048
    LARGE_INPUT = 1200
    FETCHED_INPUT = 120 * 1024


cdef int ranges_of(int64_t channels, int64_t pixels, Planes dst, int64_t weight_bytes,
                   int threads) noexcept nogil:
    """Into how many ranges of rows or pixels threads cut the maps: one each, or 1.

    The result comes from so many input channels of so many pixels.
    What another core wrote comes at a fraction of the speed of a core's own caches. Threads that
    share the maps of all layers read nothing of others but the rows at the border of their parts;
    but all of them read all weights, and in every plane they write to one cache line at the border,
    for which they wait: on small maps that is worse than half of the input from another core.
    """
    cdef int64_t inputs = channels * pixels
    cdef bint large = pixels >= LARGE_MAP or inputs >= <int64_t>LARGE_INPUT * dst.channels
    if large and dst.height >= threads and weight_bytes <= inputs * <int64_t>sizeof(float):
        return threads
    return 1


cdef class Operands:
    """Where a convolution reads and writes, checked once; ``bind`` of a convolution makes these.

    ``begin`` is where the tap of offset 0 meets the first pixel.
    """

    cdef const float[::1] memory
    cdef float[::1] target
    cdef Planes src, dst, residual
    cdef int64_t begin
    cdef int items, threads
    cdef bint halo

    def __init__(self):
        raise TypeError("a convolution's bind makes these")

    cdef int hold(self, const float[::1] memory, Planes src, int64_t base, float[::1] target,
                  Planes dst, Planes residual, int items, int threads, bint halo) except -1:
        """Check planes against their memory, and keep them."""
        check(memory, src, items)
        check(target, dst, items)
        check_residual(target, residual, dst, items)
        self.memory, self.target = memory, target
        self.src, self.dst, self.residual = src, dst, residual
        self.begin = src.at + src.lead + base
        self.items, self.threads, self.halo = items, threads, halo
        if self.adds_what_it_writes():
            raise KernelError("a convolution cannot add what it writes over")
        return 0

    cdef bint reads_outside(self, int64_t reach):
        """Whether ``reach`` floats from the first tap of the last item on leave the memory."""
        cdef int64_t end = self.begin + (self.items - 1) * self.src.item + reach
        return self.begin < 0 or end > self.memory.shape[0]

    cdef bint adds_what_it_writes(self):
        """Whether pixels that are added lie among those that are written, of any item."""
        cdef Planes a = self.residual, b = self.dst
        cdef int64_t item, from_a, from_b
        if a is None:
            return False
        for item in range(self.items):
            from_a, from_b = a.at + a.lead + item * a.item, b.at + b.lead + item * b.item
            if (from_a < from_b + (b.channels - 1) * b.plane + b.run()
                    and from_b < from_a + (a.channels - 1) * a.plane + a.run()):
                return True
        return False

    cdef const float *input(self) noexcept nogil:
        return &self.memory[0] + self.begin

    cdef float *output(self) noexcept nogil:
        return &self.target[0] + self.dst.at

    cdef const float *added(self) noexcept nogil:
        """The first pixel of what is added, or NULL."""
        if self.residual is None:
            return NULL
        return &self.target[0] + self.residual.at + self.residual.lead

    cdef void fetch(self, const float *x, int thread) noexcept nogil:
        """Ask for the channels of a small input that other threads wrote, where they share channels.

        Kernels would meet these lines one by one, and wait for each.
        """
        cdef int64_t begin = self.src.channels * thread // self.threads * self.src.plane // LINE
        cdef int64_t end = self.src.channels * (thread + 1) // self.threads * self.src.plane // LINE
        cdef int64_t lines = self.src.channels * self.src.plane // LINE, line
        if self.items == 1 and lines * LINE <= FETCHED_INPUT:
            for line in range(begin):
                prefetch(x + line * LINE, 0, 2)
            for line in range(end, lines):
                prefetch(x + line * LINE, 0, 2)

    cdef int64_t added_item(self) noexcept nogil:
        return 0 if self.residual is None else self.residual.item
