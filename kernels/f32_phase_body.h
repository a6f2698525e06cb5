/* The phase planes of a strided convolution: output row y of the convolution reads input row
 * y·stride + (tap) − pad; splitting the input by (position + pad) mod stride makes every tap a
 * constant offset again. `top` and `left` are the input coordinates of the phase's first pixel,
 * negative inside the padding. */
/* Copy every second of the floats from x on; reads up to the last one that is wanted. */
INLINE void ISA(copy_even)(const float *x, float *out, int count)
{
    const uint32_t all = ~0u >> (32 - LANES);
    for (; count > LANES; count -= LANES, x += 2 * LANES, out += LANES)
        vec_store(out, vec_even(vec_load(x), vec_load(x + LANES)));
    if (count <= 0)
        return;
    const int wanted = 2 * count - 1;
    const uint32_t low = wanted >= LANES ? all : (1u << wanted) - 1;
    const uint32_t high = wanted > LANES ? (1u << (wanted - LANES)) - 1 : 0;
    vec_store_lanes(out, (uint32_t)((1ull << count) - 1),
                    vec_even(vec_load_lanes(x, low), vec_load_lanes(x + LANES, high)));
}

void ISA(f32_phase)(const scnn_phase *phase, const float *in, float *out, int32_t top, int32_t left)
{
    const int stride = phase->stride_w;
    const int begin = left >= 0 ? 0 : (-left + stride - 1) / stride;
    int end = left >= phase->width ? 0 : (phase->width - left + stride - 1) / stride;
    end = end < phase->columns ? end : phase->columns;
    for (int i = 0; i < phase->rows; i++) {
        const int y = top + i * phase->stride_h;
        float *row = out + i * phase->out_pitch;
        const int inside = y >= 0 && y < phase->height && begin < end;
        const float *x = in + y * phase->in_pitch + left;
        int j = 0;
        for (; j < (inside ? begin : phase->columns); j++)
            row[j] = 0.0f;
        if (!inside)
            continue;
        if (stride == 1)
            memcpy(row + begin, x + begin, (size_t)(end - begin) * sizeof(float));
        else if (stride == 2)
            ISA(copy_even)(x + 2 * begin, row + begin, end - begin);
        else
            for (j = begin; j < end; j++)
                row[j] = x[j * stride];
        for (j = end; j < phase->columns; j++)
            row[j] = 0.0f;
    }
}
