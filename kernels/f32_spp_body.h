/* Max pooling of one window of a map: a pyramid of bins, 16 channels at a time. */
#define SPP_VECTORS (SCNN_SPP_CHANNELS / LANES)

/* The largest values of the cells rows × columns of a map with `width` cells a row. */
INLINE void ISA(spp_cells)(const float *cells, int width, const int32_t *row, const int32_t *column,
                           float lowest, float *out)
{
    const int empty = row[0] >= row[1] || column[0] >= column[1];
    vec best[SPP_VECTORS];
    for (int v = 0; v < SPP_VECTORS; v++)
        best[v] = vec_set(empty ? 0.0f : lowest);
    for (int y = row[0]; y < row[1]; y++) {
        const float *at = cells + ((int64_t)y * width + column[0]) * SCNN_SPP_CHANNELS;
        for (int x = column[0]; x < column[1]; x++, at += SCNN_SPP_CHANNELS)
            for (int v = 0; v < SPP_VECTORS; v++)
                best[v] = vec_max(vec_load(at + v * LANES), best[v]);
    }
    for (int v = 0; v < SPP_VECTORS; v++)
        vec_store(out + v * LANES, best[v]);
}

/* The bins of a level from the cells of the map, or from finer bins, which are cells as well. */
INLINE void ISA(spp_level)(const float *cells, int width, int bins, int step, const int32_t *rows,
                           const int32_t *columns, float lowest, float *out)
{
    for (int i = 0; i < bins; i++)
        for (int j = 0; j < bins; j++, out += SCNN_SPP_CHANNELS) {
            const int32_t row[2] = {i * step, (i + 1) * step};
            const int32_t column[2] = {j * step, (j + 1) * step};
            ISA(spp_cells)(cells, width, step ? row : rows + 2 * i, step ? column : columns + 2 * j,
                           lowest, out);
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
            ISA(spp_level)(map, spp->width, bins, 0, rows, columns, spp->lowest, result);
        else
            ISA(spp_level)(scratch + spp->bins_before[source] * SCNN_SPP_CHANNELS,
                           spp->bins[source], bins, spp->bins[source] / bins, rows, columns,
                           spp->lowest, result);
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
