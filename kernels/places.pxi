# Where the vectors of a convolution's flat run go.


cdef class Places:
    """The places of each vector in the output plane (``scnn_store``).

    Parameters
    ----------
    store : (piece, shift, mask, keep, at, order, mode, tail)
        int32, int32, uint32, uint32, int32 and uint8 arrays, and two numbers
        (``engine/packing.py``).
    lanes : int
        Positions of a vector.
    """

    cdef scnn_store store
    cdef int vectors
    cdef int64_t low, high
    cdef tuple keep

    def __init__(self, tuple store not None, int lanes):
        cdef const int32_t[::1] piece, shift, at
        cdef const uint32_t[::1] mask, keep
        cdef const uint8_t[::1] order
        cdef int mode
        cdef uint32_t tail
        piece, shift, mask, keep, at, order, mode, tail = store
        cdef int v, p, lane, count = piece.shape[0] - 1
        cdef int64_t position
        if (count < 1 or piece[0] != 0 or piece[count] != shift.shape[0]
                or shift.shape[0] != mask.shape[0] or keep.shape[0] != count
                or at.shape[0] != count or order.shape[0] != count * lanes
                or (order.shape[0] and max(order) >= lanes)):
            raise KernelError("the places of a convolution's result do not fit together")
        self.low, self.high = 0, 0  # of the positions that are written
        for v in range(count):
            for p in range(piece[v], piece[v + 1]):
                position = <int64_t>v * lanes + shift[p]
                for lane in range(lanes):
                    if mask[p] >> lane & 1:
                        self.low = min(self.low, position + lane)
                        self.high = max(self.high, position + lane + 1)
        if (not 0 <= mode <= SCNN_PACKED
                or (mode == SCNN_WHOLE
                    and (<int64_t>(count - 1) * lanes + lanes_up_to(tail) > self.high
                         or keep[count - 1] & ~tail))
                or min(at) < self.low or max(at) > self.high
                or at[count - 1] + lanes_in(keep[count - 1]) > self.high):
            raise KernelError("a convolution would write behind its result")
        self.vectors, self.keep = count, store
        self.store.piece, self.store.shift, self.store.mask = &piece[0], &shift[0], &mask[0]
        self.store.keep, self.store.at, self.store.order = &keep[0], &at[0], &order[0]
        self.store.mode, self.store.last, self.store.tail = mode, count - 1, tail

    cdef bint outside(self, Planes dst):
        """Whether a place lies outside a plane of the result."""
        return dst.lead + self.low < 0 or dst.lead + self.high > dst.plane


cdef void zero_around(float *plane, Planes dst, const scnn_store *store, int first,
                      int last) noexcept nogil:
    """Set what a convolution does not write around rows [first, last) of a plane to zero."""
    if not dst.lead:
        return
    zero_ends(plane, dst, first, last)
    if store.mode != SCNN_WHOLE:  # which writes the gaps
        zero_gaps(plane, dst, first, last)
