# The dense convolution along output channels.

# Weights of the next block that are fetched while one is computed: both, and the pixels, fit the
# second-level cache.
cdef enum:
    NEXT_BYTES = 256 * 1024


cdef class DenseConvolutionCall


@cython.final
cdef class DenseConvolution:
    """A stride-1 convolution whose vectors run along output channels.

    Parameters
    ----------
    isa : str
    pixels, vectors : int
        The largest tile; rows are cut into tiles of about equal width.
    start : int64 ndarray of shape (blocks + 1,)
    offset : int32 ndarray of shape (entries,)
        Input of each entry, from the first weight's; not negative.
    weight : float32 ndarray of shape (entries · vectors · lanes,)
    bias : float32 ndarray of shape (blocks · vectors · lanes,)
    slope : float32 ndarray of shape (channels,), or None
    channel : int32 ndarray of shape (blocks · vectors · lanes,)
        Output channels of each block; -1 fills up.
    base : int
        Offset of the first weight's input from the first pixel.
    low, high : float
        Clamp of the result.
    """

    cdef scnn_dense_fn[17] table, pairs
    cdef scnn_dense dense
    cdef int pixels, width
    cdef int64_t blocks, base, reach, channels
    cdef list keep

    def __init__(self, str isa, int pixels, int vectors, const int64_t[::1] start not None,
                 const int32_t[::1] offset not None, const float[::1] weight not None,
                 const float[::1] bias not None, const float[::1] slope,
                 const int32_t[::1] channel not None, int64_t base, float low, float high):
        cdef const scnn_kernel *kernel = find("dense", isa, pixels, vectors)
        cdef int width = vectors * kernel.lanes, size
        self.pixels, self.width, self.base = pixels, width, base
        self.blocks = channel.shape[0] // width
        for size in range(1, pixels + 1):
            self.table[size] = <scnn_dense_fn>find("dense", isa, size, vectors).run
            self.pairs[size] = NULL
            if ("pair", isa, size, vectors) in numbers:
                self.pairs[size] = <scnn_dense_fn>find("pair", isa, size, vectors).run
        if (self.blocks < 1 or start.shape[0] != self.blocks + 1 or channel.shape[0] != self.blocks * width
                or start[0] != 0 or not ascending(start) or start[self.blocks] != offset.shape[0]
                or weight.shape[0] != offset.shape[0] * width
                or bias.shape[0] != self.blocks * width or np.min(channel) < -1
                or (offset.shape[0] and np.min(offset) < 0)):
            raise KernelError("the parts of a dense convolution do not fit together")
        self.channels = np.max(channel) + 1
        self.reach = np.max(offset) if offset.shape[0] else 0
        if slope is not None and slope.shape[0] < self.channels:
            raise KernelError("one slope an output channel is needed")
        self.keep = [start, offset, weight, bias, slope, channel]
        self.dense.start, self.dense.bias = &start[0], &bias[0]
        self.dense.channel = &channel[0]
        self.dense.offset, self.dense.weight, self.dense.slope = NULL, NULL, NULL
        if offset.shape[0]:
            self.dense.offset, self.dense.weight = &offset[0], &weight[0]
        if slope is not None:
            self.dense.slope = &slope[0]
        self.dense.low, self.dense.high = low, high

    def bind(self, const float[::1] memory not None, Planes src not None,
             float[::1] target not None, Planes dst not None, Planes residual, int items,
             int threads, bint halo=True):
        """Return a call that computes ``dst`` in ``target``; as ``Convolution.bind``.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef DenseConvolutionCall call = DenseConvolutionCall.__new__(DenseConvolutionCall)
        call.convolution = self
        call.hold(memory, src, self.base, target, dst, residual, items, threads, halo)
        if (call.reads_outside((dst.height - 1) * src.pitch + dst.width + self.reach)
                or self.channels > dst.channels):
            raise KernelError("a dense convolution reaches outside its planes")
        return call

    cdef void strip(self, int64_t block, int64_t strip, int64_t strips, int64_t begin, int64_t end,
                    int rows, int64_t items, const float *x, Planes src, float *y, Planes dst,
                    const float *residual, int64_t residual_item, bint halo) noexcept nogil:
        """Compute one or two output rows of a block of channels, of those from begin to end."""
        cdef int64_t item = strip * items // strips, line = strip % (strips // items) * rows
        cdef int tiles = (dst.width + self.pixels - 1) // self.pixels, at, left, right, i
        cdef scnn_dense_fn *table = self.table
        cdef scnn_dense_tile tile
        if rows == 2 and line + 1 < dst.height:
            table = self.pairs
            self.look_ahead(&tile, block, strip - begin, end - begin)
        y = y + item * dst.item
        if halo and line == 0:
            for i in range(block * self.width, (block + 1) * self.width):
                if self.dense.channel[i] >= 0:
                    zero_halo(y + self.dense.channel[i] * dst.plane, dst)
        x = x + item * src.item + line * src.pitch
        y = y + dst.lead + line * dst.pitch
        if residual != NULL:
            residual = residual + item * residual_item + line * dst.pitch
        tile.in_pitch, tile.out_pitch, tile.out_plane = src.pitch, dst.pitch, dst.plane
        for at in range(tiles):
            left, right = dst.width * at // tiles, dst.width * (at + 1) // tiles
            tile.in_, tile.out = x + left, y + left
            tile.residual = residual + left if residual != NULL else NULL
            table[right - left](&self.dense, block, &tile)

    cdef void span(self, int64_t task, int ranges, int64_t strips, int rows, int64_t items,
                   const float *x, Planes src, float *y, Planes dst, const float *residual,
                   int64_t residual_item, bint halo) noexcept nogil:
        """Compute one range of the strips: blocks change slowest."""
        cdef int64_t begin = task * strips // ranges, end = (task + 1) * strips // ranges
        cdef int64_t block, strip
        for block in range(self.blocks):
            for strip in range(begin, end):
                self.strip(block, strip, strips, begin, end, rows, items, x, src, y, dst, residual,
                           residual_item, halo)

    cdef void look_ahead(self, scnn_dense_tile *tile, int64_t block, int64_t part,
                         int64_t parts) noexcept nogil:
        """Let each part of a block's work fetch a part of the next block's weights.

        Weights come from memory once a pass. Fetched just before their use, they would keep the
        first rows of each block waiting, which are a quarter of the work on maps of 7 rows.
        """
        cdef int64_t entries = self.dense.start[block + 1] - self.dense.start[block], bytes = 0
        cdef const float *next = self.dense.weight + self.dense.start[block + 1] * self.width
        if block + 1 < self.blocks:
            bytes = (self.dense.start[block + 2] - self.dense.start[block + 1]) * self.width * 4
        tile.ahead, tile.step = <const char *>self.dense.weight, 0
        if entries and 0 < bytes <= NEXT_BYTES:
            tile.step = bytes // (entries * parts) + 1
            tile.ahead = <const char *>next + part * entries * tile.step


@cython.final
cdef class DenseConvolutionCall(Operands):
    """A dense convolution with its operands (``DenseConvolution.bind``)."""

    cdef DenseConvolution convolution

    def __call__(self):
        """Compute."""
        cdef DenseConvolution conv = self.convolution
        cdef Planes src = self.src, dst = self.dst
        # rows that one tile can hold as a whole are computed two at a time
        cdef int rows = 2 if dst.width <= conv.pixels and conv.pairs[dst.width] != NULL else 1
        cdef int64_t items = self.items, strips = items * ((dst.height + rows - 1) // rows)
        cdef int64_t weight_bytes = conv.dense.start[conv.blocks] * conv.width * sizeof(float)
        cdef int ranges = ranges_of(src.channels, dst.pixels(), dst, weight_bytes, self.threads)
        cdef int64_t task, tasks = conv.blocks * strips, added_item = self.added_item()
        cdef const float *x = self.input()
        cdef const float *added = self.added()
        cdef float *y = self.output()
        cdef bint halo = self.halo
        if self.threads == 1:
            with nogil:
                conv.span(0, 1, strips, rows, items, x, src, y, dst, added, added_item, halo)
        elif ranges > 1:
            for task in prange(ranges, nogil=True, num_threads=self.threads, schedule="static"):
                conv.span(task, ranges, strips, rows, items, x, src, y, dst, added, added_item,
                          halo)
        else:
            with nogil, parallel(num_threads=self.threads):
                self.fetch(x, threadid())
                for task in prange(tasks, schedule="static"):
                    conv.strip(task // strips, task % strips, strips, 0, strips, rows, items, x,
                               src, y, dst, added, added_item, halo)
