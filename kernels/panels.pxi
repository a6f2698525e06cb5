# The convolution with single weights on panels: copies of pixels that no load reads across cache lines.


# That offsets may count.
DEF MOST_FLOATS = 1 << 40


cdef class PanelCall


@cython.final
cdef class PanelConvolution:
    """Packed weights on panels, and how these are filled (see ``engine/panels.py``).

    A panel holds, for some input channels and a tile of whole rows of the result, each pixel once
    for every column at which taps read it. Rows of the run are whole vectors; wide ones are cut
    into strips: vector (strip · height + row) · columns + v of the run is vector v of a row.

    Parameters
    ----------
    convolution : Convolution
        Reads panels of ``panel`` floats; each of its chunks lies in one group.
    group : int32 ndarray of shape (chunks,)
        Of each chunk.
    source : int64 ndarray of shape (groups, channels)
        Where the planes of each input channel begin.
    bound : int32 ndarray of shape (parts + 1,)
        First input channel of each part, in its group.
    start, beyond : int64 and int32 ndarray of shape (copies,)
        Where each copy of a channel begins; rows that it has more than a tile.
    rows, columns : int
        Of a tile; vectors of a row.
    pitch : int
        Floats from row to row of what is read.
    height, width : int
        Rows of the result; vectors of a whole row.
    base : int
        Offset of the first weight's input from the first pixel.
    """

    cdef Convolution convolution
    cdef scnn_panel_fn fill
    cdef scnn_panel panel
    cdef const int32_t[::1] group, bound
    cdef const int64_t[:, ::1] source
    cdef int height, width, columns, rows
    cdef int64_t base, reach, channel_floats, panel_floats
    cdef float[:, ::1] panels
    cdef tuple keep

    def __init__(self, str isa, Convolution convolution not None, const int32_t[::1] group not None,
                 const int64_t[:, ::1] source not None, const int32_t[::1] bound not None,
                 const int64_t[::1] start not None, const int32_t[::1] beyond not None,
                 int rows, int columns, int64_t pitch, int height, int width, int64_t base):
        cdef int64_t copies = start.shape[0]
        self.convolution, self.group, self.source, self.bound = convolution, group, source, bound
        self.rows, self.columns, self.height, self.width = rows, columns, height, width
        self.base, self.keep = base, (start, beyond)
        self.fill = <scnn_panel_fn>find("panel", isa).run
        if (min(rows, columns, height, width, pitch) < 1 or copies < 1
                or find("panel", isa).lanes != convolution.lanes
                or beyond.shape[0] != copies or min(beyond) < 0 or min(start) < 0
                or np.min(source) < 0 or group.shape[0] != convolution.chunk.shape[0] - 1
                or min(group) < 0 or max(group) >= source.shape[0]
                or bound.shape[0] != convolution.parts + 1 or bound[0] != 0
                or bound[convolution.parts] != source.shape[1] or np.diff(bound).min() < 0
                or convolution.vectors != <object>rows * columns
                or convolution.places.vectors != <object>self.strips() * height * columns):
            raise KernelError("the parts of a convolution on panels do not fit together")
        if convolution.table[columns] == NULL or convolution.program is not None:
            raise KernelError(f"no kernel for rows of {columns} vectors")
        self.panel.start, self.panel.beyond, self.panel.copies = &start[0], &beyond[0], copies
        self.panel.rows, self.panel.columns, self.panel.pitch = rows, columns, pitch
        # in Python's numbers, which do not wrap
        lines = sum(int(n) + rows for n in beyond)
        size = int(np.diff(bound).max()) * lines * columns * convolution.lanes
        below = max(int(a) + pitch * int(n) for a, n in zip(start, beyond, strict=True))
        reach = (int(np.max(source)) + below + (height - 1) * <object>pitch
                 + <object>width * convolution.lanes)
        if max(size, reach) > MOST_FLOATS:
            raise KernelError("a convolution on panels reaches outside its planes")
        self.channel_floats, self.panel_floats = lines * columns * convolution.lanes, size
        self.reach = reach
        if convolution.reach > self.panel_floats - rows * columns * convolution.lanes:
            raise KernelError("a convolution reads outside its panel")
        self.panels = np.empty((0, 1), np.float32)

    cdef int strips(self) noexcept nogil:
        """Into how many strips the rows are cut."""
        return (self.width + self.columns - 1) // self.columns

    def bind(self, const float[::1] memory not None, Planes src not None,
             float[::1] target not None, Planes dst not None, Planes residual, int items,
             int threads, bint halo=True):
        """Return a call that computes ``dst`` in ``target``; as ``Convolution.bind``.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef PanelCall call = PanelCall.__new__(PanelCall)
        cdef Convolution conv = self.convolution
        call.panels = self
        call.hold(memory, src, self.base, target, dst, residual, items, threads, halo)
        if (call.reads_outside(self.reach) or conv.top_channel >= dst.channels
                or conv.places.outside(dst) or (halo and dst.height != self.height)):
            raise KernelError("a convolution on panels reaches outside its planes")
        return call

    cdef float[:, ::1] memory_for_panels(self, int threads):
        """Return a panel for each thread, kept from run to run."""
        if self.panels.shape[0] < threads:
            self.panels = on_lines(threads, self.panel_floats)
        return self.panels

    cdef void tile(self, Convolution conv, int chunk, int strip, int row, int rows, const float *x,
                   float *out, Planes dst, const float *residual, float *panel,
                   float *sums) noexcept nogil:
        """Compute some rows of a strip for a chunk of the blocks."""
        cdef int part, channel, used = min(self.columns, self.width - strip * self.columns)
        cdef int first = (strip * self.height + row) * self.columns
        cdef const int64_t *source = &self.source[self.group[chunk], 0]
        x += row * self.panel.pitch + <int64_t>strip * self.columns * conv.lanes
        for part in range(conv.parts):
            for channel in range(self.bound[part], self.bound[part + 1]):
                self.fill(&self.panel, x + source[channel], rows, used,
                          panel + (channel - self.bound[part]) * self.channel_floats)
            conv.table[rows * self.columns](
                &conv.matrix[part], conv.chunk[chunk], conv.chunk[chunk + 1], panel, first,
                out + dst.lead, residual, dst.plane, &conv.places.store, sums)

    cdef int tile_rows(self, Convolution conv, int left) noexcept nogil:
        """Rows of the next tile of a strip of which so many are left."""
        cdef int rows = min(self.rows, left)
        while conv.table[rows * self.columns] == NULL:
            rows -= 1
        return rows

    cdef void share(self, Convolution conv, int64_t task, int ranges, int groups, const float *x,
                    int64_t x_item, float *y, Planes dst, const float *residual,
                    int64_t residual_item, float *panel, float *sums, bint halo) noexcept nogil:
        """Compute a range of the rows of an item for a group of the chunks."""
        cdef int64_t item = task // (ranges * groups)
        cdef int part = task % (ranges * groups) // groups, group = task % groups
        cdef int begin = part * self.height // ranges, end = (part + 1) * self.height // ranges
        cdef int chunks = conv.chunk.shape[0] - 1, chunk, strip, row, rows
        x, y = x + item * x_item, y + item * dst.item
        if residual != NULL:
            residual = residual + item * residual_item
        for chunk in range(group * chunks // groups, (group + 1) * chunks // groups):
            if halo:
                conv.clear_around(chunk, y, dst, begin, end)
            for strip in range(self.strips()):
                row = begin
                while row < end:
                    rows = self.tile_rows(conv, end - row)
                    self.tile(conv, chunk, strip, row, rows, x, y, dst, residual, panel, sums)
                    row += rows


@cython.final
cdef class PanelCall(Operands):
    """A convolution on panels with its operands (``PanelConvolution.bind``)."""

    cdef PanelConvolution panels

    def __call__(self):
        """Compute."""
        cdef PanelConvolution own = self.panels
        cdef Convolution conv = own.convolution
        cdef Planes dst = self.dst
        cdef int ranges = 1, groups = 1, chunks = own.group.shape[0]
        cdef int64_t task, item = self.src.item, added_item = self.added_item()
        cdef const float *x = self.input()
        cdef const float *added = self.added()
        cdef float *y = self.output()
        cdef bint halo = self.halo
        cdef float[:, ::1] sums = conv.memory_for_sums(self.threads)
        cdef float[:, ::1] panels = own.memory_for_panels(self.threads)
        if self.threads == 1:
            with nogil:
                for task in range(self.items):
                    own.share(conv, task, 1, 1, x, item, y, dst, added, added_item,
                              &panels[0, 0], &sums[0, 0], halo)
            return
        if own.height >= self.threads * own.rows:  # each thread has rows for a tile of full height
            ranges = self.threads
        elif chunks % self.threads == 0 or chunks >= FAIR * self.threads:
            groups = self.threads
        else:
            ranges = self.threads
        for task in prange(self.items * ranges * groups, nogil=True, num_threads=self.threads,
                           schedule="static"):
            own.share(conv, task, ranges, groups, x, item, y, dst, added, added_item,
                      &panels[threadid(), 0], &sums[threadid(), 0], halo)
