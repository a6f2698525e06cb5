# Max pooling of windows of a map into pyramids of bins.

# Windows that one task pools, on all channels: few enough that their results stay in cache until
# they are whole, which took half the time of a pass over all windows for each block of channels.
DEF SPP_WINDOWS = 8


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
    cdef int64_t tasks = (windows + SPP_WINDOWS - 1) // SPP_WINDOWS
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
    cdef float[:, ::1] scratch = np.empty((threads, size.sum() * SCNN_SPP_CHANNELS), np.float32)
    spec.levels, spec.sides, spec.width, spec.lowest = bins.shape[0], bounds.shape[2], width, lowest
    spec.bins, spec.source, spec.bins_before, spec.at = &bins[0], &source[0], &bins_before[0], &at[0]
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="dynamic"):
        spp_windows(run, &spec, maps, channels, bounds, index, out, &scratch[threadid(), 0],
                    task * SPP_WINDOWS)


cdef void spp_windows(scnn_spp_fn run, const scnn_spp *spec, const float[:, :, :, ::1] maps,
                      int channels, const int32_t[:, :, :, ::1] bounds, const int64_t[::1] index,
                      float[:, ::1] out, float *scratch, int64_t window) noexcept nogil:
    """Pool the next windows, one block of channels after the other."""
    cdef int64_t block, i, end = min(window + SPP_WINDOWS, bounds.shape[0])
    cdef int first, many
    for block in range(maps.shape[0]):
        first = block * SCNN_SPP_CHANNELS
        many = min(channels - first, SCNN_SPP_CHANNELS)
        for i in range(window, end):
            run(spec, &bounds[i, 0, 0, 0], &maps[block, 0, 0, 0], scratch, &out[index[i], 0], first,
                many)
