/* The regular part of a sparse matrix × vector: sixteen rows side by side in the lanes, step by
 * step (sliced ELLPACK; what does not fill steps is left to f32_spmv: the hybrid format of Bell and
 * Garland 2009). The inputs of a window of columns stay in registers, where a permutation finds
 * them at a third of the cost of a gather from the cache. */
#define STEPS_AHEAD 192
#define ELL_VECTORS (SCNN_ELL_COLUMNS / LANES)

void ISA(f32_ell)(const scnn_ell *ell, const float *bias, const float *x, float *y, int64_t begin,
                  int64_t end)
{
    for (int64_t slice = begin; slice < end; slice++) {
        const uint8_t *steps = ell->steps + slice * ell->windows;
        const uint8_t *column = ell->column + ell->first[slice] * LANES;
        const float *value = ell->value + ell->first[slice] * LANES;
        vec sum = bias ? vec_load(bias + slice * LANES) : vec_set(0.0f);
        for (int64_t w = 0; w < ell->windows; w++) {
            if (!steps[w])
                continue;
            vec window[ELL_VECTORS];
            UNROLL for (int v = 0; v < ELL_VECTORS; v++)
                window[v] = vec_load(x + w * SCNN_ELL_COLUMNS + v * LANES);
            vec part = vec_set(0.0f); /* windows do not wait for each other */
            for (int step = 0; step < steps[w]; step++, column += LANES, value += LANES) {
                __builtin_prefetch(value + STEPS_AHEAD * LANES);
                __builtin_prefetch(column + STEPS_AHEAD * LANES);
                part = vec_fma(vec_load(value), vec_pick(window, ELL_VECTORS, column), part);
            }
            sum = vec_add(sum, part);
        }
        vec_store(y + slice * LANES, sum);
    }
}
#undef ELL_VECTORS
