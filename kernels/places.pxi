# Where the vectors of a convolution's flat run go.


cdef class Places:
    """The places of each vector in the output plane (``scnn_store``).

    Parameters
    ----------
    store : (keep, whole, tail, piece, vector, place, lane, order)
        uint32 array, a truth value and a number, and int32, int32, int32, uint32 and uint8 arrays
        (``engine/packing.py``).
    lanes : int
        Positions of a vector.
    """

    cdef scnn_store store
    cdef int vectors
    cdef int64_t low, high
    cdef tuple keep

    def __init__(self, tuple store not None, int lanes):
        cdef const int32_t[::1] piece, vector, place
        cdef const uint32_t[::1] keep, lane
        cdef const uint8_t[::1] order
        cdef bint whole
        cdef uint32_t tail
        keep, whole, tail, piece, vector, place, lane, order = store
        cdef int p, count = keep.shape[0], pieces = place.shape[0]
        if (count < 1 or piece.shape[0] != count + 1 or piece[0] != 0 or piece[count] != pieces
                or rising(piece) < 0 or vector.shape[0] != pieces or lane.shape[0] != pieces or order.shape[0] != pieces * lanes
                or (pieces and max(order) >= lanes)):
            raise KernelError("the places of a convolution's result do not fit together")
        self.low, self.high = 0, 0  # of the positions that are written
        for p in range(pieces):
            if (not lane[p] or lane[p] & (lane[p] + 1) or lane[p] >> lanes
                    or (p and place[p] < self.high) or not 0 <= vector[p] < count
                    or not piece[vector[p]] <= p < piece[vector[p] + 1]):
                raise KernelError("the places of a convolution's result do not fit together")
            self.low = min(self.low, place[p])
            self.high = place[p] + lanes_in(lane[p])
        if whole and (<int64_t>(count - 1) * lanes + lanes_up_to(tail) > self.high
                      or keep[count - 1] & ~tail):
            raise KernelError("a convolution would write behind its result")
        self.vectors, self.keep = count, store
        self.store.keep, self.store.whole = &keep[0], whole
        self.store.last, self.store.tail = count - 1, tail
        self.store.piece = &piece[0]
        if pieces:
            self.store.vector, self.store.place = &vector[0], &place[0]
            self.store.lane, self.store.order = &lane[0], &order[0]

    cdef bint outside(self, Planes dst):
        """Whether a place lies outside a plane of the result."""
        return dst.lead + self.low < 0 or dst.lead + self.high > dst.plane


cdef void zero_around(float *plane, Planes dst, const scnn_store *store, int first,
                      int last) noexcept nogil:
    """Set what a convolution does not write around rows [first, last) of a plane to zero."""
    if not dst.lead:
        return
    zero_ends(plane, dst, first, last)
    if not store.whole:  # which writes the gaps
        zero_gaps(plane, dst, first, last)
