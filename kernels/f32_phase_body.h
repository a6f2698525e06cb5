/* The phase planes of a strided convolution: output row y of the convolution reads input row
 * y·stride + (tap) − pad; splitting the input by (position + pad) mod stride makes every tap a
 * constant offset again. `top` and `left` are the input coordinates of the phase's first pixel,
 * negative inside the padding. */

/* Lanes of a vector of which so many floats are wanted; none where none is left. */
INLINE uint32_t ISA(first_lanes)(int floats)
{
    return floats >= LANES ? ~0u >> (32 - LANES) : floats > 0 ? (1u << floats) - 1 : 0;
}

/* Every second of the floats from x on, of which only the first `floats` are read. */
INLINE vec ISA(second)(const float *x, int floats)
{
    return vec_even(vec_load_lanes(x, ISA(first_lanes)(floats)),
                    vec_load_lanes(x + LANES, ISA(first_lanes)(floats - LANES)));
}

/* Every `stride`th of them, 2 or 4. */
INLINE vec ISA(strided)(int stride, const float *x, int floats)
{
    const vec low = ISA(second)(x, floats);
    return stride == 2 ? low
                       : vec_even(low, ISA(second)(x + 2 * LANES, floats - 2 * LANES));
}

/* Copy every `stride`th of the floats from x on; reads up to the last one that is wanted. */
INLINE void ISA(copy_strided)(int stride, const float *x, float *out, int count)
{
    for (; count > LANES; count -= LANES, x += stride * LANES, out += LANES)
        vec_store(out, ISA(strided)(stride, x, stride * LANES));
    if (count > 0)
        vec_store_lanes(out, ISA(first_lanes)(count),
                        ISA(strided)(stride, x, stride * (count - 1) + 1));
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
            ISA(copy_strided)(2, x + 2 * begin, row + begin, end - begin);
        else if (stride == 4)
            ISA(copy_strided)(4, x + 4 * begin, row + begin, end - begin);
        else
            for (j = begin; j < end; j++)
                row[j] = x[j * stride];
        for (j = end; j < phase->columns; j++)
            row[j] = 0.0f;
    }
}
