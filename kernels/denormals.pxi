# Denormal numbers, which some processors compute with very slowly.


@cython.final
cdef class FlushToZero:
    """A context in which denormal numbers, those below 2⁻¹²⁶, count as zero.

    It may be entered again within itself; the mode before it is restored, after an exception, too.

    Parameters
    ----------
    threads : int
        Of the parallel loops within: it is the mode of a thread.

    Raises
    ------
    KernelError
        Fewer than one thread.
    """

    cdef int threads
    cdef list before

    def __init__(self, int threads):
        if threads < 1:
            raise KernelError(f"{threads} threads: at least one is needed")
        self.threads, self.before = threads, []

    def __enter__(self):
        cdef uint32_t mode = scnn_float_mode()
        self.before.append(mode)
        scnn_set_float_mode(mode | SCNN_FLUSH, self.threads)

    def __exit__(self, *failure):
        scnn_set_float_mode(self.before.pop(), self.threads)
