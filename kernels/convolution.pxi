# The direct convolution on packed weights, and programs made for one matrix.

# Chunks of channels for each thread, from which on it does not matter that some get one more.
cdef enum:
    FAIR = 4

ctypedef void (*program_fn)(const float *, const float *, const float *, float *) noexcept nogil


@cython.final
cdef class Program:
    """The sums of a convolution as code made for its weights' pattern (``engine/codegen.py``).

    Parameters
    ----------
    owner : object
        Keeps the code in memory.
    address : int
        Of a table with a function for each block. The functions trust their arguments.
    rows : int
        Output channels a block; a block computes one vector of pixels.
    start : int64 ndarray of shape (blocks,)
        Where the weights of each block begin.
    value : float32 ndarray
    """

    cdef program_fn *table
    cdef int rows
    cdef const int64_t[::1] start
    cdef const float[::1] value
    cdef object owner

    def __init__(self, owner, size_t address, int rows, const int64_t[::1] start not None,
                 const float[::1] value not None):
        self.owner, self.table, self.rows = owner, <program_fn *>address, rows
        self.start, self.value = start, value
        if rows < 1 or start.shape[0] < 1 or value.shape[0] < 1 or np.max(start) > value.shape[0]:
            raise KernelError("a program needs blocks of rows, and weights")


cdef class ConvolutionCall


@cython.final
cdef class Convolution(PackedWeights):
    """Packed weights, and how their flat run is tiled and stored.

    Parameters
    ----------
    isa : str
    rows, unit, parts, bias, slope, channel, chunk, reach, low, high
        As of ``PackedWeights``.
    vectors : int
        Vectors a tile; the last tile of a run may have fewer.
    store : (keep, whole, tail, piece, vector, place, lane, order)
        Where each vector of the run goes: as of ``Places``.
    base : int
        Offset of the first weight's input from the first pixel.
    blocks_first : bool
        True: all tiles of a chunk before the next chunk (its weights stay in cache); False: all
        chunks of a tile before the next tile (its inputs stay in cache).
    program : Program, optional
        Computes the sums; the streams are empty then, their rows and the vectors 1, and a chunk
        begins with a block of the program.
    """

    cdef scnn_sconv_fn[17] table
    cdef scnn_finish_fn finish
    cdef Places places
    cdef int vectors, lanes
    cdef int64_t base, partial_size
    cdef bint blocks_first
    cdef float[:, ::1] partial
    cdef Program program

    def __init__(self, str isa, int rows, int vectors, int unit, list parts not None,
                 const float[::1] bias not None, slope, const int32_t[::1] channel not None,
                 const int32_t[::1] chunk not None, tuple store not None,
                 int64_t base, int64_t reach, float low, float high, bint blocks_first,
                 Program program=None):
        cdef int v
        if vectors < 1:
            raise KernelError("a tile needs vectors")
        self.take(rows, unit, parts, bias, slope, channel, chunk, reach, low, high)
        self.vectors, self.base, self.blocks_first = vectors, base, blocks_first
        self.lanes = find("sconv", isa, rows, vectors).lanes
        for v in range(1, vectors + 1):
            self.table[v] = NULL
            if v == 1 or ("sconv", isa, rows, v) in numbers:
                self.table[v] = <scnn_sconv_fn>find("sconv", isa, rows, v).run
        self.places = Places(store, self.lanes)
        largest = int(np.diff(chunk).max())
        self.partial = np.empty((0, 1), np.float32)
        self.partial_size = largest * rows * vectors * self.lanes if self.parts > 1 else 0
        self.program = program
        if program is not None:
            self.weight_bytes = program.value.nbytes
            self.finish = <scnn_finish_fn>find("finish", isa, 0, 0).run
            self.partial_size = program.rows * self.lanes
            if (rows != 1 or vectors != 1 or self.parts > 1
                    or program.start.shape[0] * program.rows != channel.shape[0]
                    or (np.asarray(chunk) % program.rows).any()):
                raise KernelError("a program does not fit its convolution")

    def bind(self, const float[::1] memory not None, Planes src not None,
             float[::1] target not None, Planes dst not None, Planes residual, int items,
             int threads, bint halo=True):
        """Return a call without arguments that computes ``dst`` in ``target`` from ``src``.

        ``residual`` (or None), planes in ``target`` with the geometry of dst, is added before the
        clamp. ``memory`` and ``target`` may be one array. Without ``halo`` the halo of dst is left
        as it is: dst may be some rows of larger planes. Operands are checked once, here.

        Raises
        ------
        KernelError
            An operand lies outside its memory, or what is added among what is written: that is
            written before it was read, or twice.
        """
        cdef ConvolutionCall call = ConvolutionCall.__new__(ConvolutionCall)
        call.convolution = self
        call.hold(memory, src, self.base, target, dst, residual, items, threads, halo)
        if (call.reads_outside(self.reach + <int64_t>self.places.vectors * self.lanes)
                or self.top_channel >= dst.channels or self.places.outside(dst)):
            raise KernelError("a convolution reaches outside its planes")
        return call

    cdef float[:, ::1] memory_for_sums(self, int threads):
        """Return a row for each thread, kept from run to run."""
        if self.partial.shape[0] < threads:
            self.partial = on_lines(threads, self.partial_size)
        return self.partial

    cdef void tile(self, int chunk, int first, int vectors, const float *x, float *out, Planes dst,
                   const float *residual, float *partial, bint halo) noexcept nogil:
        """Compute some vectors of the run for a chunk of the blocks."""
        cdef int begin = self.chunk[chunk], end = self.chunk[chunk + 1], part
        x += <int64_t>first * self.lanes
        if halo and first == 0:
            self.clear_around(chunk, out, dst, 0, dst.height)
        if self.program is not None:
            self.run_program(begin, end, x, first, out + dst.lead, residual, dst.plane, partial)
            return
        for part in range(self.parts):
            self.table[vectors](&self.matrix[part], begin, end, x, first, out + dst.lead, residual,
                                dst.plane, &self.places.store, partial)

    cdef void clear_around(self, int chunk, float *out, Planes dst, int first,
                           int last) noexcept nogil:
        """Zero what the planes of a chunk hold around some rows."""
        cdef const int32_t *channel = self.matrix[0].channel
        cdef int row
        if dst.lead:
            for row in range(self.chunk[chunk] * self.rows, self.chunk[chunk + 1] * self.rows):
                if channel[row] >= 0:
                    zero_around(out + channel[row] * dst.plane, dst, &self.places.store, first,
                                last)

    cdef int tile_size(self, int left) noexcept nogil:
        """Vectors of the next tile of a run of which so many are left, in tiles of nearly one size.

        A short last one would take as long as one of twice its vectors: each sum waits for itself.
        """
        cdef int tiles = (left + self.vectors - 1) // self.vectors
        cdef int vectors = (left + tiles - 1) // tiles
        while self.table[vectors] == NULL:
            vectors -= 1
        return vectors

    cdef void tiles(self, int chunk, int chunks, int begin, int end, const float *x, float *out,
                    Planes dst, const float *residual, float *partial, bint halo) noexcept nogil:
        """Compute vectors [begin, end) of the run for some chunks, all of them tile by tile."""
        cdef int first = begin, vectors, index
        while first < end:
            vectors = self.tile_size(end - first)
            for index in range(chunk, chunk + chunks):
                self.tile(index, first, vectors, x, out, dst, residual, partial, halo)
            first += vectors

    cdef void share(self, int64_t task, int ranges, int groups, const float *x, int64_t x_item,
                    float *y, Planes dst, const float *residual, int64_t residual_item,
                    float *partial, bint halo) noexcept nogil:
        """Compute a range of the run of an item for a group of the chunks."""
        cdef int64_t item = task // (ranges * groups)
        cdef int part = task % (ranges * groups) // groups, group = task % groups, chunk
        cdef int begin = part * self.places.vectors // ranges
        cdef int end = (part + 1) * self.places.vectors // ranges
        cdef int chunks = self.chunk.shape[0] - 1
        cdef int first = group * chunks // groups, last = (group + 1) * chunks // groups
        x, y = x + item * x_item, y + item * dst.item
        if residual != NULL:
            residual = residual + item * residual_item
        if self.blocks_first:
            for chunk in range(first, last):
                self.tiles(chunk, 1, begin, end, x, y, dst, residual, partial, halo)
        else:
            self.tiles(first, last - first, begin, end, x, y, dst, residual, partial, halo)

    cdef void run_program(self, int begin, int end, const float *x, int first, float *out,
                          const float *residual, int64_t out_plane, float *sums) noexcept nogil:
        """Let the program sum up rows [begin, end), block by block; finish and store them."""
        cdef int row, block, rows = self.program.rows
        for block in range(begin // rows, end // rows):
            row = block * rows
            self.program.table[block](x, &self.program.value[0] + self.program.start[block],
                                      self.matrix[0].bias + row, sums)
            self.finish(&self.matrix[0], row, row + rows, sums, first, out, residual, out_plane,
                        &self.places.store)


@cython.final
cdef class ConvolutionCall(Operands):
    """A convolution with its operands (``Convolution.bind``)."""

    cdef Convolution convolution

    def __call__(self):
        """Compute."""
        cdef Convolution conv = self.convolution
        cdef Planes dst = self.dst
        cdef int ranges = ranges_of(self.src.channels, dst.pixels(), dst, conv.weight_bytes,
                                    self.threads)
        cdef int groups = 1, chunks = conv.chunk.shape[0] - 1
        cdef int64_t task, item = self.src.item, added_item = self.added_item()
        cdef const float *x = self.input()
        cdef const float *added = self.added()
        cdef float *y = self.output()
        cdef bint halo = self.halo
        cdef float[:, ::1] partial = conv.memory_for_sums(self.threads)
        if self.threads == 1:
            with nogil:
                for task in range(self.items):
                    conv.share(task, 1, 1, x, item, y, dst, added, added_item, &partial[0, 0],
                               halo)
            return
        if ranges == 1 and (chunks % self.threads == 0 or chunks >= FAIR * self.threads):
            groups = self.threads
        else:
            ranges = self.threads
        for task in prange(self.items * ranges * groups, nogil=True, num_threads=self.threads,
                           schedule="static"):
            conv.share(task, ranges, groups, x, item, y, dst, added, added_item,
                       &partial[threadid(), 0], halo)
