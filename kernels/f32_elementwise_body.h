/* Element-wise steps over a run of values. The clamps keep a NaN: NaN < low is false. */
INLINE float ISA(clamp)(float y, float low, float high)
{
    y = y < low ? low : y;
    return y > high ? high : y;
}

void ISA(f32_affine)(const float *in, float *out, int64_t size, float scale, float shift,
                     float slope, float low, float high)
{
    for (int64_t i = 0; i < size; i++) {
        float y = in[i] * scale + shift;
        y = y < 0.0f ? y * slope : y;
        out[i] = ISA(clamp)(y, low, high);
    }
}

void ISA(f32_binary)(int32_t op, const float *a, const float *b, float *out, int64_t size,
                     float ca, float cb, float low, float high)
{
    if (op == SCNN_SUM)
        for (int64_t i = 0; i < size; i++)
            out[i] = ISA(clamp)(a[i] * ca + b[i] * cb, low, high);
    else if (op == SCNN_PROD)
        for (int64_t i = 0; i < size; i++)
            out[i] = ISA(clamp)(a[i] * b[i], low, high);
    else
        for (int64_t i = 0; i < size; i++)
            out[i] = ISA(clamp)(a[i] > b[i] ? a[i] : b[i], low, high);
}
