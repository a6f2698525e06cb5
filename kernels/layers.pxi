# Pooling, normalisation, Softmax, and what is done value by value.


@cython.final
cdef class Pooling:
    """Max or average pooling: each call computes ``dst`` from ``src``.

    Parameters
    ----------
    isa : str
    method : str
        "max" or "ave".
    arena : float32 ndarray
    src, dst : Planes
    kernel, stride, pad : (int, int)
    items : int
    scratch : float32 ndarray
        A row of 2·(width + kernel width + 16) floats for each thread.
    threads : int
    halo : bool
        False: the halo of dst is left as it is.

    Raises
    ------
    KernelError
        An operand lies outside its memory, a window has no pixel, or the scratch is too small.
    """

    cdef scnn_maxpool_fn kernel
    cdef scnn_pool geometry
    cdef float[::1] arena
    cdef float[:, ::1] scratch
    cdef Planes src, dst
    cdef int items, threads
    cdef bint halo

    def __init__(self, str isa, str method, float[::1] arena not None, Planes src not None,
                 Planes dst not None, kernel, stride, pad, int items,
                 float[:, ::1] scratch not None, int threads, bint halo=True):
        cdef scnn_pool *geometry = &self.geometry
        self.kernel = <scnn_maxpool_fn>find(f"{method}pool", isa).run
        self.arena, self.src, self.dst, self.scratch = arena, src, dst, scratch
        self.items, self.threads, self.halo = items, threads, halo
        check(arena, src, items)
        check(arena, dst, items)
        geometry.height, geometry.width = src.height, src.width
        geometry.out_height, geometry.out_width = dst.height, dst.width
        geometry.kernel_h, geometry.kernel_w = kernel
        geometry.stride_h, geometry.stride_w = stride
        geometry.pad_h, geometry.pad_w = pad
        geometry.in_pitch, geometry.out_pitch = src.pitch, dst.pitch
        if (src.channels != dst.channels or scratch.shape[0] < threads
                or scratch.shape[1] < 2 * (src.width + geometry.kernel_w + 16)
                or (dst.height - 1) * geometry.stride_h - geometry.pad_h >= src.height
                or (dst.width - 1) * geometry.stride_w - geometry.pad_w >= src.width
                or geometry.pad_h >= geometry.kernel_h or geometry.pad_w >= geometry.kernel_w):
            raise KernelError("a pooling window without pixels, or too small a scratch")

    def __call__(self):
        """Compute."""
        cdef int64_t task, tasks = <int64_t>self.items * self.src.channels
        if self.threads == 1:
            with nogil:
                for task in range(tasks):
                    self.plane(task, 0)
            return
        for task in prange(tasks, nogil=True, num_threads=self.threads, schedule="static"):
            self.plane(task, threadid())

    cdef void plane(self, int64_t task, int thread) noexcept nogil:
        cdef int64_t item = task // self.src.channels, channel = task % self.src.channels
        cdef const float *x = &self.arena[0] + self.src.at + item * self.src.item
        cdef float *y = &self.arena[0] + self.dst.at + item * self.dst.item
        y = y + channel * self.dst.plane
        if self.halo:
            zero_halo(y, self.dst)
        self.kernel(&self.geometry, x + channel * self.src.plane + self.src.lead,
                    y + self.dst.lead, &self.scratch[thread, 0])


def lrn(str isa, float[::1] arena not None, Planes src not None, Planes dst not None,
        int local_size, float alpha, float beta, float k, int items, int threads):
    """Local response normalisation across channels."""
    cdef scnn_lrn_fn run = <scnn_lrn_fn>find("lrn", isa).run
    cdef scnn_lrn spec
    cdef bint whole = src.pitch == dst.pitch == src.width
    cdef int64_t runs = 1 if whole else src.height
    cdef int64_t size = src.run() if whole else src.width
    cdef int64_t strips = (size + SCNN_LRN_STRIP - 1) // SCNN_LRN_STRIP
    cdef int64_t task, tasks = items * runs * strips
    cdef float *data = &arena[0]
    same_pixels(arena, src, dst, items)
    spec.channels, spec.local_size = src.channels, local_size
    spec.in_plane, spec.out_plane = src.plane, dst.plane
    spec.alpha_over_n, spec.beta, spec.k = alpha / local_size, beta, k
    halos(data, dst, items, threads)
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        lrn_strip(run, &spec, data, src, dst, task, runs, strips, size)


cdef void lrn_strip(scnn_lrn_fn run, const scnn_lrn *spec, float *data, Planes src, Planes dst,
                    int64_t task, int64_t runs, int64_t strips, int64_t size) noexcept nogil:
    cdef int64_t strip = task % strips, y = task // strips % runs, item = task // (strips * runs)
    cdef int64_t x = strip * SCNN_LRN_STRIP
    run(spec, data + src.at + item * src.item + src.lead + y * src.pitch + x,
        data + dst.at + item * dst.item + dst.lead + y * dst.pitch + x,
        min(<int64_t>SCNN_LRN_STRIP, size - x))


def lrn_within(str isa, float[::1] arena not None, Planes src not None, Planes dst not None,
               int half, float share, float beta, int items, float[:, ::1] scratch not None,
               int threads):
    """Local response normalisation within windows of 2·half + 1 pixels each way.

    ``scratch`` has a row of width + 2·half + 16 floats for each thread.
    """
    cdef scnn_lrn_within_fn run = <scnn_lrn_within_fn>find("lrn_within", isa).run
    cdef scnn_lrn_within spec
    cdef int64_t task, tasks = <int64_t>items * src.channels
    cdef float *data = &arena[0]
    same_pixels(arena, src, dst, items)
    if (half < 0 or scratch.shape[0] < threads
            or scratch.shape[1] < src.width + 2 * <int64_t>half + 16):
        raise KernelError(f"a window that reaches {half} pixels, or too small a scratch")
    spec.height, spec.width, spec.half = src.height, src.width, half
    spec.in_pitch, spec.out_pitch = src.pitch, dst.pitch
    spec.share, spec.beta = share, beta
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        lrn_plane(run, &spec, data, src, dst, task, &scratch[threadid(), 0])


cdef void lrn_plane(scnn_lrn_within_fn run, const scnn_lrn_within *spec, float *data, Planes src,
                    Planes dst, int64_t task, float *scratch) noexcept nogil:
    cdef int64_t item = task // src.channels, channel = task % src.channels
    cdef float *plane = data + dst.at + item * dst.item + channel * dst.plane
    zero_halo(plane, dst)
    run(spec, data + src.at + item * src.item + channel * src.plane + src.lead, plane + dst.lead,
        scratch)


@cython.final
cdef class Softmax:
    """``exp(x − max) / Σ`` of each ``size`` values of a contiguous run, at each call.

    Parameters
    ----------
    isa : str
    arena : float32 ndarray
    src, dst : Planes
        Of one row.
    size, threads : int

    Raises
    ------
    KernelError
        An operand lies outside its memory, or is no whole number of ``size``.
    """

    cdef scnn_softmax_fn kernel
    cdef float[::1] arena
    cdef Planes src, dst
    cdef int64_t size
    cdef int threads

    def __init__(self, str isa, float[::1] arena not None, Planes src not None,
                 Planes dst not None, int64_t size, int threads):
        self.kernel = <scnn_softmax_fn>find("softmax", isa).run
        self.arena, self.src, self.dst, self.size, self.threads = arena, src, dst, size, threads
        check(arena, src, 1)
        check(arena, dst, 1)
        if size < 1 or src.width % size or src.width != dst.width:
            raise KernelError(f"runs of {size} in {src.width} values, {dst.width} results")

    def __call__(self):
        """Compute."""
        cdef int64_t task, size = self.size, tasks = self.src.width // size
        cdef const float *x = &self.arena[0] + self.src.at
        cdef float *y = &self.arena[0] + self.dst.at
        if self.threads == 1:
            with nogil:
                for task in range(tasks):
                    self.kernel(x + task * size, y + task * size, size)
            return
        for task in prange(tasks, nogil=True, num_threads=self.threads, schedule="static"):
            self.kernel(x + task * size, y + task * size, size)


def affine(str isa, float[::1] arena not None, Planes src not None, Planes dst not None,
           const float[::1] scale not None, const float[::1] shift not None,
           const float[::1] slope not None, float low, float high, int items, int threads):
    """``clamp(leaky(x · scale + shift))`` with one scale, shift and slope a channel."""
    cdef scnn_affine_fn run = <scnn_affine_fn>find("affine", isa).run
    cdef int64_t task, tasks = <int64_t>items * src.channels
    cdef float *data = &arena[0]
    same_pixels(arena, src, dst, items)
    if not scale.shape[0] == shift.shape[0] == slope.shape[0] == src.channels:
        raise KernelError(f"{scale.shape[0]} scales for {src.channels} channels")
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        affine_plane(run, data, src, dst, task, &scale[0], &shift[0], &slope[0], low, high)


cdef void affine_plane(scnn_affine_fn run, float *data, Planes src, Planes dst, int64_t task,
                       const float *scale, const float *shift, const float *slope, float low,
                       float high) noexcept nogil:
    cdef int64_t item = task // src.channels, c = task % src.channels, y
    cdef const float *x = data + src.at + item * src.item + c * src.plane + src.lead
    cdef float *plane = data + dst.at + item * dst.item + c * dst.plane
    cdef float *out = plane + dst.lead
    if src.dense() and dst.dense():
        run(x, out, src.run(), scale[c], shift[c], slope[c], low, high)
    else:
        for y in range(src.height):
            run(x + y * src.pitch, out + y * dst.pitch, src.width, scale[c], shift[c], slope[c],
                low, high)
    zero_halo(plane, dst)


def binary(str isa, int op, float[::1] arena not None, Planes a not None, Planes b not None,
           Planes dst not None, float ca, float cb, float low, float high, int items, int threads):
    """``a·ca + b·cb`` (op 0), ``a·b`` (1) or ``max(a, b)`` (2), then the clamp."""
    cdef scnn_binary_fn run = <scnn_binary_fn>find("binary", isa).run
    cdef int64_t task, tasks = <int64_t>items * dst.channels
    cdef float *data = &arena[0]
    same_pixels(arena, a, dst, items)
    same_pixels(arena, b, dst, items)
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
        binary_plane(run, op, data, a, b, dst, task, ca, cb, low, high)


cdef void binary_plane(scnn_binary_fn run, int op, float *data, Planes a, Planes b, Planes dst,
                       int64_t task, float ca, float cb, float low, float high) noexcept nogil:
    cdef int64_t item = task // dst.channels, c = task % dst.channels, y
    cdef const float *xa = data + a.at + item * a.item + c * a.plane + a.lead
    cdef const float *xb = data + b.at + item * b.item + c * b.plane + b.lead
    cdef float *plane = data + dst.at + item * dst.item + c * dst.plane
    for y in range(dst.height):
        run(op, xa + y * a.pitch, xb + y * b.pitch, plane + dst.lead + y * dst.pitch, dst.width, ca,
            cb, low, high)
    zero_halo(plane, dst)


cdef int same_pixels(float[::1] arena, Planes src, Planes dst, int items) except -1:
    check(arena, src, items)
    check(arena, dst, items)
    if (src.channels, src.height, src.width) != (dst.channels, dst.height, dst.width):
        raise KernelError("planes of different size")
    return 0


cdef void halos(float *data, Planes dst, int items, int threads) noexcept:
    cdef int64_t task
    if not dst.lead:
        return
    for task in prange(<int64_t>items * dst.channels, nogil=True, num_threads=threads,
                       schedule="static"):
        zero_halo(data + dst.at + task // dst.channels * dst.item
                  + task % dst.channels * dst.plane, dst)


@cython.final
cdef class Feed:
    """Writes an array into planes, whose halo becomes zero, at each call.

    Parameters
    ----------
    isa : str
    arena : float32 ndarray
    dst : Planes
    items, threads : int

    Raises
    ------
    KernelError
        The planes lie outside the arena, or there are no threads; when called: the array has
        another size. It must not lie in the arena.
    """

    cdef scnn_rows_fn kernel
    cdef float[::1] arena
    cdef Planes dst
    cdef int items, threads

    def __init__(self, str isa, float[::1] arena not None, Planes dst not None, int items,
                 int threads):
        if threads < 1:
            raise KernelError(f"{threads} threads: at least one is needed")
        self.kernel = <scnn_rows_fn>find("rows", isa).run
        self.arena, self.dst, self.items, self.threads = arena, dst, items, threads
        check(arena, dst, items)

    def __call__(self, const float[::1] values not None):
        """Write the values, which lie item by item, channel by channel, row by row."""
        cdef int64_t task, tasks = <int64_t>self.items * self.dst.channels
        cdef int64_t pixels = <int64_t>self.dst.height * self.dst.width
        if values.shape[0] != tasks * pixels:
            raise KernelError(f"{values.shape[0]} values for {tasks} planes of {pixels} pixels")
        if self.threads == 1:
            with nogil:
                for task in range(tasks):
                    self.plane(&values[0] + task * pixels, task)
            return
        for task in prange(tasks, nogil=True, num_threads=self.threads, schedule="static"):
            self.plane(&values[0] + task * pixels, task)

    cdef void plane(self, const float *values, int64_t task) noexcept nogil:
        cdef int64_t item = task // self.dst.channels, channel = task % self.dst.channels
        cdef float *plane = &self.arena[0] + self.dst.at + item * self.dst.item
        plane = plane + channel * self.dst.plane
        zero_halo(plane, self.dst)
        self.kernel(values, plane + self.dst.lead, self.dst.height, self.dst.width, self.dst.pitch)


def clear_halo(float[::1] arena not None, Planes dst not None, int items, int threads):
    """Set everything but the pixels of planes to zero."""
    check(arena, dst, items)
    halos(&arena[0], dst, items, threads)
