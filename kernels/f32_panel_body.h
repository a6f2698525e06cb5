/* Copies of one input channel whose rows begin on cache lines. */
void ISA(f32_panel)(const scnn_panel *panel, const float *in, int32_t rows, int32_t used,
                    float *out)
{
    const int64_t width = (int64_t)panel->columns * LANES;
    for (int32_t i = 0; i < panel->copies; i++) {
        const float *x = in + panel->start[i];
        float *y = out;
        for (int32_t r = 0; r < rows + panel->beyond[i]; r++, x += panel->pitch, y += width)
            for (int32_t v = 0; v < used; v++)
                vec_store(y + v * LANES, vec_load(x + v * LANES));
        out += (panel->rows + panel->beyond[i]) * width;
    }
}
