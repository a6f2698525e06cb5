/* Max pooling of one window of a map: a pyramid of bins, 16 channels at a time. */
#define SPP_VECTORS (SCNN_SPP_CHANNELS / LANES)

/* Table k + 1 of the two before it: cells of twice as many rows. Not below `lowest`, nor NaN. */
void ISA(f32_spp_rows)(const float *upper, const float *lower, float lowest, float *out,
                       int64_t size)
{
    const vec start = vec_set(lowest);
    for (int64_t i = 0; i < size; i += LANES)
        vec_store(out + i, vec_max(vec_load(upper + i), vec_max(vec_load(lower + i), start)));
}

/* The table whose cells have the most rows, but no more than `height`. */
INLINE int ISA(spp_table)(const scnn_spp *spp, int height)
{
    const int table = 31 - __builtin_clz(height);
    return table < spp->tables ? table : spp->tables - 1;
}

/* The largest values of the cells rows × columns of a map with `width` cells a row. Cells of `tall`
 * rows each; the last ones may overlap those before. */
INLINE void ISA(spp_cells)(const float *cells, int width, int tall, const int32_t *row,
                           const int32_t *column, float lowest, float *out)
{
    const int empty = row[0] >= row[1] || column[0] >= column[1], last = row[1] - tall;
    vec best[SPP_VECTORS];
    for (int v = 0; v < SPP_VECTORS; v++)
        best[v] = vec_set(empty ? 0.0f : lowest);
    for (int next = row[0]; next < row[1]; next += tall) {
        const int y = next < last ? next : last;
        const float *at = cells + ((int64_t)y * width + column[0]) * SCNN_SPP_CHANNELS;
        for (int x = column[0]; x < column[1]; x++, at += SCNN_SPP_CHANNELS)
            for (int v = 0; v < SPP_VECTORS; v++)
                best[v] = vec_max(vec_load(at + v * LANES), best[v]);
    }
    for (int v = 0; v < SPP_VECTORS; v++)
        vec_store(out + v * LANES, best[v]);
}

/* The bins of a level from the tables of the map. */
INLINE void ISA(spp_level)(const scnn_spp *spp, const float *map, int bins, const int32_t *rows,
                           const int32_t *columns, float *out)
{
    for (int i = 0; i < bins; i++) {
        const int height = rows[2 * i + 1] - rows[2 * i];
        const int table = height > 0 ? ISA(spp_table)(spp, height) : 0;
        for (int j = 0; j < bins; j++, out += SCNN_SPP_CHANNELS)
            ISA(spp_cells)(map + table * spp->table, spp->width, 1 << table, rows + 2 * i,
                           columns + 2 * j, spp->lowest, out);
    }
}

/* The bins of a level from finer bins. */
INLINE void ISA(spp_coarser)(const float *finer, int width, int bins, float lowest, float *out)
{
    const int step = width / bins;
    for (int i = 0; i < bins; i++)
        for (int j = 0; j < bins; j++, out += SCNN_SPP_CHANNELS) {
            const int32_t row[2] = {i * step, (i + 1) * step};
            const int32_t column[2] = {j * step, (j + 1) * step};
            ISA(spp_cells)(finer, width, 1, row, column, lowest, out);
        }
}

/* Bins side by side for each channel; few bins are worth a loop of their own. */
INLINE void ISA(spp_store)(const float *result, int bins, int channels, float *out)
{
    for (int c = 0; c < channels; c++)
        UNROLL for (int bin = 0; bin < bins; bin++)
            out[c * bins + bin] = result[bin * SCNN_SPP_CHANNELS + c];
}

void ISA(f32_spp)(const scnn_spp *spp, const int32_t *bounds, const float *map, float *scratch,
                  float *out, int32_t first, int32_t channels)
{
    const int32_t *rows = bounds, *columns = bounds + 2 * spp->sides;
    for (int level = 0; level < spp->levels; level++) {
        const int bins = spp->bins[level], source = spp->source[level], all = bins * bins;
        float *result = scratch + spp->bins_before[level] * SCNN_SPP_CHANNELS;
        if (source < 0)
            ISA(spp_level)(spp, map, bins, rows, columns, result);
        else
            ISA(spp_coarser)(scratch + spp->bins_before[source] * SCNN_SPP_CHANNELS,
                             spp->bins[source], bins, spp->lowest, result);
        rows += 2 * bins;
        columns += 2 * bins;
        float *at = out + spp->at[level] + (int64_t)first * all;
        if (all == 1)
            ISA(spp_store)(result, 1, channels, at);
        else if (all == 4)
            ISA(spp_store)(result, 4, channels, at);
        else
            ISA(spp_store)(result, all, channels, at);
    }
}
#undef SPP_VECTORS
