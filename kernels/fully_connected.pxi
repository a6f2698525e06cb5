# Fully connected layers at batch 1, dense and sparse.

# Rows of a fully connected layer that one task computes; a multiple of the kernel's four.
DEF GEMV_ROWS = 64
# Slices of a sliced matrix that one task computes.
DEF ELL_SLICES = 4


@cython.final
cdef class Gemv:
    """A dense layer on one row of inputs: each call computes ``y = w x + bias``.

    Parameters
    ----------
    isa : str
    w : float32 ndarray of shape (n, k)
    bias : float32 ndarray of shape (n,), optional
    x, y : float32 ndarray of shape (k,) and (n,)
    threads : int

    Raises
    ------
    KernelError
        The operands do not fit together.
    """

    cdef scnn_gemv_fn kernel
    cdef const float[:, ::1] w
    cdef const float[::1] bias, x
    cdef float[::1] y
    cdef int threads

    def __init__(self, str isa, const float[:, ::1] w not None, const float[::1] bias,
                 const float[::1] x not None, float[::1] y not None, int threads):
        self.kernel = <scnn_gemv_fn>find("gemv", isa).run
        self.w, self.bias, self.x, self.y, self.threads = w, bias, x, y, threads
        if (x.shape[0] != w.shape[1] or y.shape[0] != w.shape[0]
                or (bias is not None and bias.shape[0] != w.shape[0])):
            raise KernelError(
                f"gemv of {w.shape[0]}x{w.shape[1]} with {x.shape[0]} to {y.shape[0]}")

    def __call__(self):
        """Compute."""
        cdef int64_t n = self.w.shape[0], k = self.w.shape[1], task
        cdef int64_t tasks = (n + GEMV_ROWS - 1) // GEMV_ROWS
        cdef const float *b = NULL
        cdef const float *w = &self.w[0, 0]
        cdef const float *x = &self.x[0]
        cdef float *y = &self.y[0]
        if self.bias is not None:
            b = &self.bias[0]
        if self.threads == 1:
            with nogil:
                self.kernel(w, b, x, y, k, 0, n)
            return
        for task in prange(tasks, nogil=True, num_threads=self.threads, schedule="static"):
            self.kernel(w, b, x, y, k, task * GEMV_ROWS, min(n, (task + 1) * GEMV_ROWS))


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


def window_counts(const float[:, ::1] w not None, int64_t columns):
    """Count the entries of every row in every window of columns; the last may be narrower."""
    if columns < 1:
        raise KernelError(f"windows of {columns} columns")
    cdef int64_t windows = (w.shape[1] + columns - 1) // columns
    cdef int64_t i, j, window, end
    cdef int32_t found
    cdef int32_t[:, ::1] counts = np.empty((w.shape[0], windows), np.int32)
    with nogil:
        for i in range(w.shape[0]):
            for window in range(windows):
                found = 0
                end = min(w.shape[1], (window + 1) * columns)
                for j in range(window * columns, end):
                    found += w[i, j] != 0
                counts[i, window] = found
    return np.asarray(counts)


def split_rows(const float[:, ::1] w not None, const int32_t[:, ::1] counts not None,
               const uint8_t[:, ::1] steps not None, int64_t columns):
    """Pack a matrix: what fits into steps, and rows of what does not.

    ``counts`` are those of :func:`window_counts`; ``steps`` (slices, windows) is for whole slices
    and windows, of 1 to 256 columns. Returns columns and values of :class:`Ell`, and start, columns and values of
    :func:`spmv`.
    """
    cdef int64_t rows = w.shape[0], i, j, window, end, slot, rest = 0
    cdef int32_t limit, seen
    if (not 1 <= columns <= 256
            or counts.shape[0] != rows or counts.shape[1] * columns < w.shape[1]
            or steps.shape[0] > rows // SCNN_ELL_ROWS
            or steps.shape[1] > w.shape[1] // columns or w.shape[1] > 65536):
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
                end = min(w.shape[1], (window + 1) * columns)
                for j in range(window * columns, end):
                    if w[i, j] == 0:
                        continue
                    if seen < limit:
                        column[slot + seen, i % SCNN_ELL_ROWS] = j - window * columns
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
        Entries that a row of the slice has at most in the window.
    column : uint8 ndarray of shape (all steps, 16)
        In the window.
    value : float32 ndarray of shape (all steps, 16)
    columns : int
        Of a window, as many as the kernel of the ISA is for.

    Raises
    ------
    KernelError
        The parts do not fit together.
    """

    cdef scnn_ell_fn kernel
    cdef scnn_ell ell
    cdef int64_t slices, columns
    cdef list keep

    def __init__(self, str isa, const uint8_t[:, ::1] steps not None,
                 const uint8_t[:, ::1] column not None, const float[:, ::1] value not None,
                 int columns):
        cdef int64_t[::1] first
        self.kernel = <scnn_ell_fn>find("ell", isa, SCNN_ELL_ROWS, columns).run
        self.columns = columns
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
        if (x.shape[0] < self.ell.windows * self.columns or y.shape[0] < rows
                or (bias is not None and bias.shape[0] < rows)):
            raise KernelError("the operands of a sliced matrix are too short for it")
        if bias is not None:
            b = &bias[0]
        for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
            self.kernel(&self.ell, b, &x[0], &y[0], task * ELL_SLICES,
                        min(self.slices, (task + 1) * ELL_SLICES))
