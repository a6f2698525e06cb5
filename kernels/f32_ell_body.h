/* The regular part of a sparse matrix × vector: sixteen rows side by side in the lanes, step by
 * step (sliced ELLPACK; what does not fill steps is left to f32_spmv: the hybrid format of Bell and
 * Garland 2009). The inputs of a window of columns stay where vec_pick finds them fast: in registers, which
 * a permutation reads at a third of the cost of a gather, or in the first-level cache. */
#define STEPS_AHEAD 192
#define ELL_VECTORS (SCNN_ELL_ROWS / LANES)

INLINE void ISA(ell)(int columns, const scnn_ell *ell, const float *bias, const float *x, float *y,
                     int64_t begin, int64_t end)
{
    for (int64_t slice = begin; slice < end; slice++) {
        const uint8_t *steps = ell->steps + slice * ell->windows;
        const uint8_t *column = ell->column + ell->first[slice] * SCNN_ELL_ROWS;
        const float *value = ell->value + ell->first[slice] * SCNN_ELL_ROWS;
        vec sum[ELL_VECTORS];
        UNROLL for (int v = 0; v < ELL_VECTORS; v++)
            sum[v] = bias ? vec_load(bias + slice * SCNN_ELL_ROWS + v * LANES) : vec_set(0.0f);
        for (int64_t w = 0; w < ell->windows; w++) {
            if (!steps[w])
                continue;
            const vec_window window = vec_window_at(x + w * columns, columns);
            vec part[ELL_VECTORS]; /* windows do not wait for each other */
            UNROLL for (int v = 0; v < ELL_VECTORS; v++)
                part[v] = vec_set(0.0f);
            for (int step = 0; step < steps[w]; step++) {
                __builtin_prefetch(value + STEPS_AHEAD * SCNN_ELL_ROWS);
                __builtin_prefetch(column + STEPS_AHEAD * SCNN_ELL_ROWS);
                UNROLL for (int v = 0; v < ELL_VECTORS; v++, column += LANES, value += LANES)
                    part[v] = vec_fma(vec_load(value), vec_pick(window, columns, column), part[v]);
            }
            UNROLL for (int v = 0; v < ELL_VECTORS; v++)
                sum[v] = vec_add(sum[v], part[v]);
        }
        UNROLL for (int v = 0; v < ELL_VECTORS; v++)
            vec_store(y + slice * SCNN_ELL_ROWS + v * LANES, sum[v]);
    }
}
#undef ELL_VECTORS

/* The kernel for windows of so many columns. */
#define SCNN_ELL_WINDOW(C)                                                                   \
    void ISA(f32_ell)(const scnn_ell *ell, const float *bias, const float *x, float *y,      \
                      int64_t begin, int64_t end)                                            \
    {                                                                                        \
        ISA(ell)(C, ell, bias, x, y, begin, end);                                            \
    }
