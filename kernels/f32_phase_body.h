/* The phase planes of a strided convolution: output row y of the convolution reads input row
 * y·stride + (tap) − pad; splitting the input by (position + pad) mod stride makes every tap a
 * constant offset again. `top` and `left` are the input coordinates of the phase's first pixel,
 * negative inside the padding. */
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
        else if (stride == 2) {
            for (j = begin; j + LANES < end; j += LANES)
                vec_store(row + j, vec_load_even(x + 2 * j));
            for (; j < end; j++)
                row[j] = x[2 * j];
        } else
            for (j = begin; j < end; j++)
                row[j] = x[j * stride];
        for (j = end; j < phase->columns; j++)
            row[j] = 0.0f;
    }
}
