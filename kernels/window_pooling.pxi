# Max pooling of windows of a map into pyramids of bins.

# Tables of a block of channels (see scnn_spp), the map included: cells of up to 16 rows. So many
# windows are worth them.
DEF SPP_TABLES = 5
DEF SPP_WINDOWS = 32


def spp(str isa, const float[:, :, :, ::1] maps not None, int channels,
        const int32_t[::1] bins not None, const int32_t[::1] source not None,
        const int64_t[::1] at not None, const int32_t[:, :, :, ::1] bounds not None,
        const int64_t[::1] index not None, float lowest, float[:, ::1] out not None, int threads):
    """Max-pool windows of a map into pyramids of bins.

    ``maps`` (blocks, height, width, 16) holds 16 channels a block; ``bounds`` (windows, 2, sides, 2)
    the cells (begin, end) of every bin row and every bin column of all levels; window i becomes
    row ``index[i]`` of ``out``, level l as (channels, bins, bins) from column ``at[l]`` on.
    """
    cdef const scnn_kernel *kernel = find("spp", isa)
    cdef scnn_spp_fn run = <scnn_spp_fn>kernel.run
    cdef scnn_spp spec
    cdef int64_t windows = bounds.shape[0], height = maps.shape[1], width = maps.shape[2], task
    cdef scnn_spp_rows_fn join = <scnn_spp_rows_fn>find("spp_rows", isa).run
    size = np.square(np.asarray(bins, np.int64))
    cdef const int32_t[::1] bins_before = (np.cumsum(size) - size).astype(np.int32)
    if (bins.shape[0] < 1 or np.min(bins) < 1 or source.shape[0] != bins.shape[0]
            or at.shape[0] != bins.shape[0] or maps.shape[3] != SCNN_SPP_CHANNELS or channels < 1
            or maps.shape[0] != (channels + SCNN_SPP_CHANNELS - 1) // SCNN_SPP_CHANNELS
            or bounds.shape[1] != 2 or bounds.shape[2] != np.sum(bins) or bounds.shape[3] != 2
            or index.shape[0] != windows or np.min(at) < 0
            or np.max(np.add(at, channels * size)) > out.shape[1]):
        raise KernelError("the parts of a window pooling do not fit together")
    for level in range(source.shape[0]):
        if source[level] >= level or (source[level] >= 0 and bins[source[level]] % bins[level]):
            raise KernelError("a level of a pyramid is not made of whole bins of an earlier one")
    if windows == 0:
        return
    if (np.min(bounds) < 0 or np.max(bounds[:, 0]) > height or np.max(bounds[:, 1]) > width
            or np.min(index) < 0 or np.max(index) >= out.shape[0]):
        raise KernelError("a window reaches outside its map")
    spec.table, spec.tables = height * width * SCNN_SPP_CHANNELS, 1
    tallest = np.max(np.subtract(bounds[:, 0, :, 1], bounds[:, 0, :, 0]))
    while windows >= SPP_WINDOWS and spec.tables < SPP_TABLES and 1 << spec.tables <= tallest:
        spec.tables += 1
    cdef int64_t pooled = size.sum() * SCNN_SPP_CHANNELS
    cdef int64_t tables = spec.tables * spec.table if spec.tables > 1 else 1
    cdef float[:, ::1] scratch = np.empty((threads, pooled + tables), np.float32)
    spec.levels, spec.sides, spec.width, spec.lowest = bins.shape[0], bounds.shape[2], width, lowest
    spec.bins, spec.source, spec.bins_before, spec.at = &bins[0], &source[0], &bins_before[0], &at[0]
    for task in prange(maps.shape[0], nogil=True, num_threads=threads, schedule="dynamic"):
        spp_block(run, join, &spec, maps, task, channels, bounds, index, out,
                  &scratch[threadid(), 0], &scratch[threadid(), pooled])


cdef void spp_block(scnn_spp_fn run, scnn_spp_rows_fn join, const scnn_spp *spec,
                    const float[:, :, :, ::1] maps, int64_t block, int channels,
                    const int32_t[:, :, :, ::1] bounds, const int64_t[::1] index,
                    float[:, ::1] out, float *scratch, float *tables) noexcept nogil:
    """Pool all windows on one block of channels."""
    cdef int64_t row = maps.shape[2] * SCNN_SPP_CHANNELS, i, rows = maps.shape[1]
    cdef int first = block * SCNN_SPP_CHANNELS, many = min(channels - first, SCNN_SPP_CHANNELS), k
    cdef float *table
    cdef const float *map = &maps[block, 0, 0, 0]
    if spec.tables > 1:
        map = <const float *>memcpy(tables, map, rows * row * sizeof(float))
    for k in range(spec.tables - 1):
        rows = rows - (1 << k)
        table = tables + k * spec.table
        join(table, table + (row << k), spec.lowest, table + spec.table, rows * row)
    for i in range(bounds.shape[0]):
        run(spec, &bounds[i, 0, 0, 0], map, scratch, &out[index[i], 0], first, many)
