/* Rows of an array to rows of a plane. */
void ISA(f32_rows)(const float *in, float *out, int32_t height, int32_t width, int64_t pitch)
{
    const int whole = (width - 1) / LANES * LANES;
    const uint32_t tail = ISA(lanes_left)(width - whole);
    for (int y = 0; y < height; y++, in += width, out += pitch) {
        for (int x = 0; x < whole; x += LANES)
            vec_store(out + x, vec_load(in + x));
        vec_store_lanes(out + whole, tail, vec_load_lanes(in + whole, tail));
    }
}
