/* The end of a convolution whose sums are made elsewhere: one vector of each row. */
void ISA(f32_finish)(const scnn_matrix *matrix, int64_t row_begin, int64_t row_end,
                     const float *sums, int32_t first, float *out, const float *residual,
                     int64_t out_plane, const scnn_store *store)
{
    const int32_t *channel = matrix->channel;
    const ISA(layout) layout = ISA(layout_of)(store, first, 1);
    ISA(gaps) found, *gaps = layout == ISA(GAPS) ? &found : NULL;
    if (gaps)
        ISA(find_gaps)(gaps, store, first, 1);
    if (layout == ISA(ELSEWHERE)) {
        for (int64_t row = row_begin; row < row_end; row++, sums += LANES) {
            const vec sum = vec_load(sums);
            ISA(store_elsewhere)(matrix, row, 1, 1, &sum, first, out, residual, out_plane, store);
        }
        return;
    }
    out += (int64_t)first * LANES;
    for (int64_t row = row_begin; row < row_end; row++, sums += LANES) {
        vec sum = vec_load(sums);
        const int64_t plane = channel[row] * out_plane;
        const ISA(finish) finish = ISA(finish_of)(matrix, row);
        if (channel[row] >= 0)
            ISA(store_row)(&finish, 1, &sum, out + plane,
                           residual ? residual + (int64_t)first * LANES + plane : NULL, gaps);
    }
}
