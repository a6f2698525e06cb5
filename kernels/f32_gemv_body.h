/* Matrix × vector for fully connected layers at batch 1: bound by the weights' way from memory,
 * so four rows share each load of x and four streams of weights run side by side. */
void ISA(f32_gemv)(const float *w, const float *bias, const float *x, float *y, int64_t k_size,
                   int64_t begin, int64_t end)
{
    const int64_t whole = k_size / LANES * LANES;
    int64_t i = begin;
    for (; i + 4 <= end; i += 4) {
        const float *row = w + i * k_size;
        vec sum[4];
        UNROLL for (int r = 0; r < 4; r++) sum[r] = vec_set(0.0f);
        for (int64_t k = 0; k < whole; k += LANES) {
            const vec xs = vec_load(x + k);
            UNROLL for (int r = 0; r < 4; r++)
                sum[r] = vec_fma(vec_load(row + r * k_size + k), xs, sum[r]);
        }
        UNROLL for (int r = 0; r < 4; r++) {
            float total = vec_sum(sum[r]);
            for (int64_t k = whole; k < k_size; k++)
                total += row[r * k_size + k] * x[k];
            y[i + r] = total + (bias ? bias[i + r] : 0.0f);
        }
    }
    for (; i < end; i++) {
        vec sum = vec_set(0.0f);
        for (int64_t k = 0; k < whole; k += LANES)
            sum = vec_fma(vec_load(w + i * k_size + k), vec_load(x + k), sum);
        float total = vec_sum(sum);
        for (int64_t k = whole; k < k_size; k++)
            total += w[i * k_size + k] * x[k];
        y[i] = total + (bias ? bias[i] : 0.0f);
    }
}
