# The convolution with dense weights on the matrix unit.


# Parts of a band for each thread, where there are few blocks of channels.
cdef enum:
    TASKS_A_THREAD = 4
    LINES = 256  # numbers of the lines of a vector of positions


cdef class Bf16Call


@cython.final
cdef class Bf16Convolution:
    """Weights in bf16 numbers, and how the run is cut and stored (``scnn_bf16``).

    Parameters
    ----------
    parts : int
        bf16 numbers of a weight and of an input: 2 (three products of them) or 3 (six).
    offset : int32 ndarray of shape (entries,)
        Input of each entry for shift 0, from the first weight's; -1: an entry that is zero. Whole
        steps of 32, those of a group side by side.
    shift : int32 ndarray of shape (taps,)
        Positions between an entry and its input at each tap; not negative.
    steps : int
        Of each block and tap.
    weight : uint16 ndarray
        Block after block.
    row : int64 ndarray of shape (blocks + 1,)
        First row of each block: 16 or 32 a block.
    source : int32 ndarray of shape (blocks,)
        First step that each block reads.
    bias, slope : float32 ndarray of shape (rows,); slope may be None
    channel : int32 ndarray of shape (rows,)
        Output channel of each row; -1: none.
    store : tuple
        As of ``Convolution``.
    base : int
        Offset of the first weight's input from the first pixel.
    band : int
        Vectors whose inputs are split at a time.
    pitch : int
        Lines between two steps: those of a band and its shifts, as whole vectors.
    scratch : int
        Where ``parts · entries · pitch / 2`` floats of the memory, which begin with a cache line,
        are overwritten.
    low, high : float
        Clamp of the result.
    """

    cdef scnn_split_fn split
    cdef scnn_bf16x3_fn multiply
    cdef scnn_bf16 conv
    cdef scnn_matrix matrix
    cdef Places places
    cdef const int32_t[::1] offset
    cdef int64_t blocks, base, reach, span, pitch, all_steps, scratch, weight_bytes
    cdef int parts, lanes, band, top_channel
    cdef list keep

    def __init__(self, int parts, const int32_t[::1] offset not None,
                 const int32_t[::1] shift not None, int steps,
                 const uint16_t[::1] weight not None, const int64_t[::1] row not None,
                 const int32_t[::1] source not None, const float[::1] bias not None,
                 const float[::1] slope, const int32_t[::1] channel not None,
                 tuple store not None, int64_t base, int band, int64_t pitch, int64_t scratch,
                 float low, float high):
        if not has_amx("amx"):
            raise KernelError("this processor has no matrix unit (AMX) that may be used")
        if parts not in (2, 3):
            raise KernelError(f"numbers have 2 or 3 parts in bf16, not {parts}")
        self.parts = parts
        self.multiply = <scnn_bf16x3_fn>find("bf16x3" if parts == 2 else "bf16x6", "amx").run
        self.split, self.lanes = <scnn_split_fn>find("split", "amx").run, find("split", "amx").lanes
        self.places = Places(store, self.lanes)
        self.blocks, self.all_steps = row.shape[0] - 1, offset.shape[0] // 32
        self.offset, self.base, self.band, self.pitch = offset, base, band, pitch
        self.scratch, self.weight_bytes = scratch, weight.nbytes
        rows = np.diff(row)
        if (self.blocks < 1 or shift.shape[0] < 1 or steps < 1 or band < 1 or row[0] != 0
                or not np.isin(rows, (16, 32)).all() or source.shape[0] != self.blocks
                or row[self.blocks] != channel.shape[0] or bias.shape[0] != channel.shape[0]
                or weight.shape[0] != channel.shape[0] * shift.shape[0] * steps * 32 * parts
                or offset.shape[0] % 32 or np.min(source) < 0
                or np.max(source) + steps > self.all_steps or np.min(offset) < -1
                or np.min(shift) < 0 or np.min(channel) < -1
                or (slope is not None and slope.shape[0] != channel.shape[0])):
            raise KernelError("the parts of a convolution in bf16 do not fit together")
        self.span, self.top_channel = np.max(shift), np.max(channel)
        self.reach = int(np.max(offset)) + self.span
        cdef int64_t around = (self.span + self.lanes - 1) // self.lanes
        if band > self.places.vectors + 1 or pitch < (band + around) * self.lanes:
            raise KernelError("a band of lines needs a wider pitch")
        start = np.asarray(row) * (shift.shape[0] * steps * 32 * parts)
        cdef const int64_t[::1] starts = start
        self.keep = [shift, weight, row, source, bias, slope, channel, starts]
        self.conv.weight, self.conv.start, self.conv.row = &weight[0], &starts[0], &row[0]
        self.conv.source, self.conv.shift = &source[0], &shift[0]
        self.conv.taps, self.conv.steps = shift.shape[0], steps
        self.matrix.bias, self.matrix.channel = &bias[0], &channel[0]
        self.matrix.slope = NULL if slope is None else &slope[0]
        self.matrix.rows, self.matrix.low, self.matrix.high = 1, low, high

    cdef int64_t part(self) noexcept nogil:
        """Numbers of one part of all inputs of a band."""
        return 16 * self.all_steps * self.pitch

    def bind(self, float[::1] memory not None, Planes src not None, float[::1] target not None,
             Planes dst not None, Planes residual, int items, int threads, bint halo=True):
        """Return a call that computes ``dst`` in ``target``; as ``Convolution.bind``.

        Raises
        ------
        KernelError
            An operand lies outside its memory.
        """
        cdef Bf16Call call = Bf16Call.__new__(Bf16Call)
        call.convolution, call.lines = self, <uint32_t *>&memory[0] + self.scratch
        call.hold(memory, src, self.base, target, dst, residual, items, threads, halo)
        if (call.reads_outside(self.reach + <int64_t>self.places.vectors * self.lanes)
                or self.top_channel >= dst.channels or self.places.outside(dst) or self.scratch < 0
                or self.pitch > memory.shape[0] // (16 * self.all_steps * self.parts)
                or self.scratch + self.parts * self.part() > memory.shape[0]
                or <size_t>call.lines % 64):
            raise KernelError("a convolution in bf16 reaches outside its planes")
        return call

    cdef void block(self, int64_t block, int begin, int end, scnn_bf16_run band, float *y,
                    Planes dst, bint halo) noexcept nogil:
        """Compute a block of channels in vectors [begin, end) of a band."""
        cdef int64_t row
        if halo and band.first == 0 and begin == 0:
            for row in range(self.conv.row[block], self.conv.row[block + 1]):
                if self.matrix.channel[row] >= 0:
                    zero_around(y + self.matrix.channel[row] * dst.plane, dst, &self.places.store, 0,
                                dst.height)
        band.first, band.count = band.first + begin, end - begin
        band.lines = band.lines + begin * LINES
        if band.count > 0:
            self.multiply(&self.conv, &self.matrix, block, &band)

    cdef void parts_of(self, int64_t task, int ranges, int64_t size, const float *x,
                       uint32_t *lines) noexcept nogil:
        """Split one range of the positions of a band."""
        cdef int64_t vectors = (size + self.lanes - 1) // self.lanes
        cdef int64_t begin = task * vectors // ranges * self.lanes
        cdef int64_t end = min(size, (task + 1) * vectors // ranges * self.lanes)
        if begin < end:
            self.split(self.parts, &self.offset[0], 0, self.all_steps, x + begin, end - begin,
                       lines + 16 * begin, self.pitch, self.part())

    cdef void blocks_of(self, int64_t task, int ranges, scnn_bf16_run band, float *y, Planes dst,
                        bint halo) noexcept nogil:
        """Compute all blocks of channels in one range of a band, of whole tiles."""
        cdef int pairs = (band.count + 1) // 2, block
        cdef int begin = 2 * (task * pairs // ranges), end = 2 * ((task + 1) * pairs // ranges)
        for block in range(self.blocks):
            self.block(block, begin, min(end, band.count), band, y, dst, halo)


@cython.final
cdef class Bf16Call(Operands):
    """A convolution in bf16 with its operands (``Bf16Convolution.bind``)."""

    cdef Bf16Convolution convolution
    cdef uint32_t *lines

    def __call__(self):
        """Compute."""
        cdef Bf16Convolution conv = self.convolution
        cdef Planes dst = self.dst
        cdef scnn_bf16_run band
        cdef const float *x = self.input()
        cdef const float *added = self.added()
        cdef const float *source
        cdef float *y = self.output()
        cdef float *out
        cdef int ranges = ranges_of(self.src.channels, dst.pixels(), dst, conv.weight_bytes,
                                    self.threads)
        cdef int64_t item, added_item = self.added_item(), size, task, parts = 1
        cdef int first
        cdef bint halo = self.halo
        if self.threads > 1 and conv.blocks < TASKS_A_THREAD * self.threads:
            parts = TASKS_A_THREAD * self.threads
        band.lines, band.pitch, band.part = self.lines, conv.pitch, conv.part()
        band.out_plane, band.store = dst.plane, &conv.places.store
        band.residual = NULL
        for item in range(self.items):
            out = y + item * dst.item
            band.out = out + dst.lead
            if added != NULL:
                band.residual = added + item * added_item
            for first in range(0, conv.places.vectors, conv.band):
                band.first, band.count = first, min(conv.band, conv.places.vectors - first)
                size = <int64_t>band.count * conv.lanes + conv.span
                source = x + item * self.src.item + <int64_t>first * conv.lanes
                if self.threads == 1:
                    with nogil:
                        conv.parts_of(0, 1, size, source, self.lines)
                        conv.blocks_of(0, 1, band, out, dst, halo)
                    continue
                for task in prange(self.threads, nogil=True, num_threads=self.threads,
                                   schedule="static"):
                    conv.parts_of(task, self.threads, size, source, self.lines)
                if ranges > 1:
                    for task in prange(ranges, nogil=True, num_threads=self.threads,
                                       schedule="static"):
                        conv.blocks_of(task, ranges, band, out, dst, halo)
                else:
                    for task in prange(conv.blocks * parts, nogil=True, num_threads=self.threads,
                                       schedule="static"):
                        conv.block(task // parts, task % parts * band.count // parts,
                                   (task % parts + 1) * band.count // parts, band, out, dst, halo)
