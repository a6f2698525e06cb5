/* Sparse matrix × vector for fully connected layers at batch 1: rows of (16-bit column, value),
 * 6 bytes a non-zero; x is gathered from the first-level cache. */
void ISA(f32_spmv)(const int64_t *start, const uint16_t *column, const float *value,
                   const float *bias, const float *x, float *y, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        int64_t e = start[i];
        vec even = vec_set(0.0f), odd = vec_set(0.0f);
        for (; e + 2 * LANES <= start[i + 1]; e += 2 * LANES) {
            even = vec_fma(vec_load(value + e), vec_gather_u16(x, column + e), even);
            odd = vec_fma(vec_load(value + e + LANES), vec_gather_u16(x, column + e + LANES), odd);
        }
        float total = vec_sum(vec_add(even, odd));
        for (; e < start[i + 1]; e++)
            total += value[e] * x[column[e]];
        y[i] = total + (bias ? bias[i] : 0.0f);
    }
}
