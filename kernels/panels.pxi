# The convolution with single weights on panels, whose loads cross no cache lines.


# That offsets may count, and sides of maps.
DEF MOST_FLOATS = 1 << 40
DEF MOST_LINES = 1 << 26
# Rows of the highest tile.
DEF MOST_ROWS = 4


cdef class PanelCall


@cython.final
cdef class PanelConvolution(PackedWeights):
    """Packed weights on panels, and how these are filled (see ``engine/panels.py``).

    The map of the result is cut into ``bands`` rows of blocks, as many blocks as a vector has lanes
    (``scnn_patches``). Blocks are of one size: the last ones overlap others where that does not
    divide the map, and so do the last tiles of a row of blocks.

    Parameters
    ----------
    isa : str
    rows, columns : int
        Of a tile, in every block.
    unit, parts, bias, slope, channel, chunk, low, high
        As of ``PackedWeights``; blocks of one row, offsets of 16 bits on the panel. Each chunk lies
        in one group.
    group : int32 ndarray of shape (chunks,)
        Of each chunk.
    source : int64 ndarray of shape (groups, channels)
        Where the planes of each input channel begin.
    bound : int32 ndarray of shape (parts + 1,)
        First input channel of each part, in its group.
    start, beyond, across : int64, int32 and int32 ndarray of shape (patches,)
        Where each patch of a channel begins; rows and columns that it has more than a tile.
    bands : int
        Blocks below each other.
    height, width : int
        Of the result.
    pitch : int
        Floats from row to row of what is read.
    base : int
        Offset of the first weight's input from the first pixel.
    share_tiles : bool
        Threads share the tiles; else the chunks.
    """

    cdef scnn_panel_fn[MOST_ROWS + 1] table
    cdef scnn_fill_fn fill
    cdef scnn_patches patches
    cdef const int32_t[::1] group, bound
    cdef const int64_t[:, ::1] source
    cdef int lanes, bands, height, width, block_height, block_width
    cdef int64_t base, channel_floats, panel_floats, input_reach, partial_size
    cdef bint share_tiles
    cdef float[:, ::1] panels, partial
    cdef tuple operands

    def __init__(self, str isa, int rows, int columns, int unit, list parts not None,
                 const float[::1] bias not None, slope, const int32_t[::1] channel not None,
                 const int32_t[::1] chunk not None, float low, float high,
                 const int32_t[::1] group not None, const int64_t[:, ::1] source not None,
                 const int32_t[::1] bound not None, const int64_t[::1] start not None,
                 const int32_t[::1] beyond not None, const int32_t[::1] across not None, int bands,
                 int height, int width, int64_t pitch, int64_t base, bint share_tiles):
        cdef int r
        cdef int64_t patches = start.shape[0]
        cdef const int64_t[::1] block
        if (min(rows, columns, bands, height, width, pitch) < 1 or patches < 1 or rows > MOST_ROWS
                or beyond.shape[0] != patches or across.shape[0] != patches
                or min(*beyond, *across, *start) < 0 or np.min(source) < 0
                or group.shape[0] != chunk.shape[0] - 1 or rising(chunk) < 1
                or min(group) < 0 or max(group) >= source.shape[0] or np.min(channel) < 0
                or bound.shape[0] != len(parts) + 1 or bound[0] != 0
                or bound[len(parts)] != source.shape[1] or rising(bound) < 0
                or any(streams[2].itemsize != 2 for streams in parts)):
            raise KernelError("the parts of a convolution on panels do not fit together")
        self.lanes = find("panel", isa, rows, columns).lanes
        for r in range(1, rows + 1):
            self.table[r] = <scnn_panel_fn>find("panel", isa, r, columns).run
        self.fill = <scnn_fill_fn>find("fill", isa).run
        self.group, self.source, self.bound = group, source, bound
        self.bands, self.height, self.width = bands, height, width
        self.base, self.share_tiles = base, share_tiles
        if self.lanes % bands:
            raise KernelError(f"{self.lanes} lanes cannot hold {bands} rows of blocks")
        # in Python's numbers, which do not wrap
        lines = sum(int(n) + rows for n in beyond)
        line = columns + int(max(across))
        size = int(np.diff(bound).max()) * lines * line * self.lanes
        inside = max(int(a) + (height - 1 + int(b)) * <object>pitch + width + int(c)
                     for a, b, c in zip(start, beyond, across, strict=True))
        if max(size, int(np.max(source)) + inside) > MOST_FLOATS or max(height, width, line, lines) > MOST_LINES:
            raise KernelError("a convolution on panels reaches outside its planes")
        self.block_height = (height + bands - 1) // bands
        self.block_width = (width + self.lanes // bands - 1) // (self.lanes // bands)
        if rows > self.block_height or columns > self.block_width:
            raise KernelError("a tile is larger than a block")
        block = self.places(pitch)
        self.operands = start, beyond, across, block
        self.patches.start, self.patches.beyond = &start[0], &beyond[0]
        self.patches.across, self.patches.block = &across[0], &block[0]
        self.patches.patches, self.patches.rows, self.patches.columns = patches, rows, columns
        self.patches.width, self.patches.pitch = line, pitch
        self.channel_floats, self.panel_floats = lines * line * self.lanes, size
        self.input_reach = int(np.max(source)) + inside
        self.take(1, unit, parts, bias, slope, channel, chunk,
                  size - ((rows - 1) * line + columns) * self.lanes, low, high)
        self.panels = self.partial = np.empty((0, 1), np.float32)
        largest = int(np.diff(chunk).max())
        self.partial_size = largest * rows * columns * self.lanes if self.parts > 1 else 0

    cdef places(self, int64_t pitch):
        """Return where the block of each lane begins in a plane of the result, or of the input."""
        lane = np.arange(self.lanes)
        across = self.lanes // self.bands
        top = np.minimum(lane // across * self.block_height, self.height - self.block_height)
        left = np.minimum(lane % across * self.block_width, self.width - self.block_width)
        return top * pitch + left

    def bind(self, const float[::1] memory not None, Planes src not None,
             float[::1] target not None, Planes dst not None, Planes residual, int items,
             int threads, bint halo=True):
        """Return a call that computes ``dst`` in ``target``; as ``Convolution.bind``.

        Raises
        ------
        KernelError
            As ``Convolution.bind``.
        """
        cdef PanelCall call = PanelCall.__new__(PanelCall)
        call.convolution = self
        call.hold(memory, src, self.base, target, dst, residual, items, threads, halo)
        if (call.reads_outside(self.input_reach) or self.top_channel >= dst.channels
                or dst.height < self.height or dst.width < self.width
                or (halo and (dst.height, dst.width) != (self.height, self.width))):
            raise KernelError("a convolution on panels reaches outside its planes")
        call.place = self.places(dst.pitch)
        return call

    cdef float[:, ::1] memory_for_panels(self, int threads):
        """Return a panel for each thread, kept from run to run."""
        if self.panels.shape[0] < threads:
            self.panels = on_lines(threads, self.panel_floats)
        return self.panels

    cdef float[:, ::1] memory_for_sums(self, int threads):
        """Return a row for each thread, kept from run to run."""
        if self.partial.shape[0] < threads:
            self.partial = on_lines(threads, self.partial_size)
        return self.partial

    cdef int strips(self) noexcept nogil:
        """Tiles side by side in a block."""
        return (self.block_width + self.patches.columns - 1) // self.patches.columns

    cdef int tiles(self) noexcept nogil:
        """Tiles of a block, row by row."""
        return (self.block_height + self.patches.rows - 1) // self.patches.rows * self.strips()

    cdef int top(self, int tile) noexcept nogil:
        """First row of a tile in its block."""
        return tile // self.strips() * self.patches.rows

    cdef int64_t at(self, int tile, int64_t pitch) noexcept nogil:
        """Where a tile begins in its block."""
        cdef int left = tile % self.strips() * self.patches.columns
        return self.top(tile) * pitch + min(left, self.block_width - self.patches.columns)

    cdef void clear(self, int chunk, int tile, int rows, float *y, Planes dst) noexcept nogil:
        """Zero what the planes of a chunk hold around the rows of the first tile of a row."""
        cdef const int32_t *channel = self.matrix[0].channel
        cdef int band, first, row
        for band in range(self.bands):
            first = self.top(tile) + min(band * self.block_height, self.height - self.block_height)
            for row in range(self.chunk[chunk], self.chunk[chunk + 1]):
                zero_ends(y + channel[row] * dst.plane, dst, first, first + rows)
                zero_gaps(y + channel[row] * dst.plane, dst, first, first + rows)

    cdef void run(self, PanelCall call, Planes dst, int chunk, int tile, const float *x, float *y,
                  const float *residual, float *panel, float *sums) noexcept nogil:
        """Compute a tile of a chunk of the output channels, of an item."""
        cdef int part, channel, rows = min(self.patches.rows, self.block_height - self.top(tile))
        cdef int64_t at = self.at(tile, dst.pitch)
        cdef const int64_t *source = &self.source[self.group[chunk], 0]
        cdef const float *begin = x + self.at(tile, self.patches.pitch)
        cdef scnn_panel_tile to
        to.place, to.pitch, to.plane = &call.place[0], dst.pitch, dst.plane
        to.out = y + dst.lead + at
        to.residual = NULL if residual == NULL else residual + at
        if call.halo and dst.lead and tile % self.strips() == 0:
            self.clear(chunk, tile, rows, y, dst)
        for part in range(self.parts):
            for channel in range(self.bound[part], self.bound[part + 1]):
                self.fill(&self.patches, begin + source[channel], rows,
                          panel + (channel - self.bound[part]) * self.channel_floats)
            self.table[rows](&self.matrix[part], self.chunk[chunk], self.chunk[chunk + 1], panel,
                             <int64_t>self.patches.width * self.lanes, &to, sums)

    cdef void share(self, PanelCall call, int64_t task, int ranges, int groups,
                    float *panel, float *sums) noexcept nogil:
        """Compute a range of the tiles of an item for a group of the chunks."""
        cdef int64_t item = task // (ranges * groups)
        cdef int part = task % (ranges * groups) // groups, group = task % groups
        cdef int chunks = self.chunk.shape[0] - 1, chunk, tile
        cdef const float *x = call.input() + item * call.src.item
        cdef const float *residual = call.added()
        cdef float *y = call.output() + item * call.dst.item
        if residual != NULL:
            residual = residual + item * call.added_item()
        for chunk in range(group * chunks // groups, (group + 1) * chunks // groups):
            for tile in range(part * self.tiles() // ranges, (part + 1) * self.tiles() // ranges):
                self.run(call, call.dst, chunk, tile, x, y, residual, panel, sums)


@cython.final
cdef class PanelCall(Operands):
    """A convolution on panels with its operands (``PanelConvolution.bind``)."""

    cdef PanelConvolution convolution
    cdef const int64_t[::1] place

    def __call__(self):
        """Compute."""
        cdef PanelConvolution conv = self.convolution
        cdef int ranges = self.threads if conv.share_tiles else 1
        cdef int groups = 1 if conv.share_tiles else self.threads
        cdef int64_t task
        cdef float[:, ::1] sums = conv.memory_for_sums(self.threads)
        cdef float[:, ::1] panels = conv.memory_for_panels(self.threads)
        if self.threads == 1:
            with nogil:
                for task in range(self.items):
                    conv.share(self, task, 1, 1, &panels[0, 0], &sums[0, 0])
            return
        for task in prange(self.items * ranges * groups, nogil=True, num_threads=self.threads,
                           schedule="static"):
            conv.share(self, task, ranges, groups, &panels[threadid(), 0], &sums[threadid(), 0])
