# Denormal numbers, which some processors compute with very slowly.


@cython.final
cdef class FlushToZero:
    """A context in which denormal numbers, those below 2⁻¹²⁶, count as zero.

    Parameters
    ----------
    threads : int
        Of the parallel loops within: it is the mode of a thread.
    """

    cdef int threads
    cdef uint32_t before

    def __init__(self, int threads):
        self.threads = threads

    def __enter__(self):
        self.before = scnn_float_mode()
        scnn_set_float_mode(self.before | SCNN_FLUSH, self.threads)

    def __exit__(self, *failure):
        scnn_set_float_mode(self.before, self.threads)
