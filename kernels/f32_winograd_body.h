/* Winograd's minimal filtering for 3x3 convolutions of stride 1 (Lavin and Gray 2016): tiles of
 * m x m outputs from (m + 2) x (m + 2) inputs, m = 2 or 4. The products in between, one small
 * matrix product for each of the (m + 2)² coefficients, are an ordinary grouped 1x1 convolution.
 *
 * Tiles along a row of the map are the lanes of a vector. To load them whole, each row is first cut
 * into m runs: run j holds the pixels at j, j + m, j + 2m, ... */
#define WINOGRAD_TAPS 6

/* LANES floats, m apart, from p on. */
INLINE vec ISA(load_every)(const float *p, int m)
{
    const vec low = vec_even(vec_load(p), vec_load(p + LANES));
    if (m == 2)
        return low;
    return vec_even(low, vec_even(vec_load(p + 2 * LANES), vec_load(p + 3 * LANES)));
}

/* a + factor · b */
INLINE vec ISA(plus)(vec a, float factor, vec b) { return vec_fma(vec_set(factor), b, a); }

/* Bᵀ d: the inputs of one row or column of a tile become coefficients. */
INLINE void ISA(winograd_scatter)(int m, const vec *d, int apart, vec *to)
{
    if (m == 2) {
        to[0] = ISA(plus)(d[0], -1, d[2 * apart]);
        to[apart] = vec_add(d[apart], d[2 * apart]);
        to[2 * apart] = ISA(plus)(d[2 * apart], -1, d[apart]);
        to[3 * apart] = ISA(plus)(d[apart], -1, d[3 * apart]);
        return;
    }
    const vec even = ISA(plus)(d[4 * apart], -4, d[2 * apart]);
    const vec odd = ISA(plus)(d[3 * apart], -4, d[apart]);
    const vec near = ISA(plus)(d[4 * apart], -1, d[2 * apart]);
    const vec far = ISA(plus)(d[3 * apart], -1, d[apart]);
    to[0] = ISA(plus)(ISA(plus)(d[4 * apart], 4, d[0]), -5, d[2 * apart]);
    to[apart] = vec_add(even, odd);
    to[2 * apart] = ISA(plus)(even, -1, odd);
    to[3 * apart] = ISA(plus)(near, 2, far);
    to[4 * apart] = ISA(plus)(near, -2, far);
    to[5 * apart] = ISA(plus)(ISA(plus)(d[5 * apart], 4, d[apart]), -5, d[3 * apart]);
}

/* Aᵀ c: coefficients become the outputs of one row or column of a tile. */
INLINE void ISA(winograd_gather)(int m, const vec *c, int apart, vec *to, int to_apart)
{
    const vec sum = vec_add(c[apart], c[2 * apart]);
    const vec difference = ISA(plus)(c[apart], -1, c[2 * apart]);
    if (m == 2) {
        to[0] = vec_add(c[0], sum);
        to[to_apart] = ISA(plus)(difference, -1, c[3 * apart]);
        return;
    }
    const vec sum2 = vec_add(c[3 * apart], c[4 * apart]);
    const vec difference2 = ISA(plus)(c[3 * apart], -1, c[4 * apart]);
    to[0] = vec_add(vec_add(c[0], sum), sum2);
    to[to_apart] = ISA(plus)(difference, 2, difference2);
    to[2 * to_apart] = ISA(plus)(sum, 4, sum2);
    to[3 * to_apart] = vec_add(ISA(plus)(difference, 8, difference2), c[5 * apart]);
}

/* Row `y` of the input, from column `left` on, as m runs of `run` floats; zero outside. */
INLINE void ISA(winograd_row)(int m, const scnn_winograd *w, const float *in, int y, float *line,
                              float *runs, int run)
{
    const int size = m * (run + LANES), left = -w->pad_w;
    const int begin = left < 0 ? -left : 0;
    const int end = w->width - left < size ? w->width - left : size;
    if (y < 0 || y >= w->height) {
        memset(runs, 0, (size_t)m * run * sizeof(float));
        return;
    }
    memset(line, 0, (size_t)begin * sizeof(float));
    memcpy(line + begin, in + y * w->in_pitch + left + begin, (size_t)(end - begin) * sizeof(float));
    memset(line + end, 0, (size_t)(size - end) * sizeof(float));
    UNROLL for (int j = 0; j < m; j++)
        for (int x = 0; x < run; x += LANES)
            vec_store(runs + j * run + x, ISA(load_every)(line + m * x + j, m));
}

INLINE void ISA(winograd_in)(int m, const scnn_winograd *w, const float *in, int32_t first,
                             int32_t rows, float *out, float *scratch)
{
    const int taps = m + 2, run = (w->tiles + LANES) / LANES * LANES;
    float *line = scratch + (int64_t)(m * rows + 2) * m * run;
    for (int i = 0; i < m * rows + 2; i++)
        ISA(winograd_row)(m, w, in, m * first + i - w->pad_h, line, scratch + (int64_t)i * m * run,
                          run);
    for (int row = 0; row < rows; row++)
        for (int x = 0; x < w->tiles; x += LANES) {
            const uint32_t mask = ISA(lanes_left)(w->tiles - x);
            float *to = out + (int64_t)row * w->tiles + x;
            vec d[WINOGRAD_TAPS * WINOGRAD_TAPS], c[WINOGRAD_TAPS * WINOGRAD_TAPS];
            UNROLL for (int j = 0; j < taps; j++) {
                const float *from = scratch + ((int64_t)m * row * m + j % m) * run + x + j / m;
                UNROLL for (int i = 0; i < taps; i++)
                    d[i * taps + j] = vec_load(from + (int64_t)i * m * run);
                ISA(winograd_scatter)(m, d + j, taps, c + j);
            }
            UNROLL for (int i = 0; i < taps; i++) {
                ISA(winograd_scatter)(m, c + i * taps, 1, d + i * taps);
                UNROLL for (int j = 0; j < taps; j++, to += w->plane)
                    vec_store_lanes(to, mask, d[i * taps + j]);
            }
        }
}

/* Store one output row of LANES tiles: output b of tile i is pixel i · m + b. */
INLINE void ISA(winograd_store)(int m, const ISA(finish) *finish, vec bias, const vec *y, int left,
                                float *out, const float *residual)
{
    vec pixels[4];
    if (m == 2) {
        pixels[0] = vec_zip_low(y[0], y[1]);
        pixels[1] = vec_zip_high(y[0], y[1]);
    } else {
        const vec even_low = vec_zip_low(y[0], y[2]), even_high = vec_zip_high(y[0], y[2]);
        const vec odd_low = vec_zip_low(y[1], y[3]), odd_high = vec_zip_high(y[1], y[3]);
        pixels[0] = vec_zip_low(even_low, odd_low);
        pixels[1] = vec_zip_high(even_low, odd_low);
        pixels[2] = vec_zip_low(even_high, odd_high);
        pixels[3] = vec_zip_high(even_high, odd_high);
    }
    for (int v = 0; v < m && left > 0; v++, left -= LANES) {
        const uint32_t mask = ISA(lanes_left)(left);
        vec sum = vec_add(pixels[v], bias);
        if (residual)
            sum = vec_add(sum, vec_load_lanes(residual + v * LANES, mask));
        vec_store_lanes(out + v * LANES, mask, ISA(finished)(finish, sum));
    }
}

INLINE void ISA(winograd_out)(int m, const scnn_winograd *w, const float *in, int32_t first,
                              int32_t rows, float bias, const float *slope, float *out,
                              const float *residual)
{
    const int taps = m + 2;
    const vec start = vec_set(bias);
    const ISA(finish) finish = {vec_set(w->low), vec_set(w->high), vec_set(slope ? *slope : 0.0f),
                                slope != NULL};
    for (int row = 0; row < rows; row++)
        for (int x = 0; x < w->tiles; x += LANES) {
            const uint32_t mask = ISA(lanes_left)(w->tiles - x);
            const float *from = in + (int64_t)row * w->tiles + x;
            vec c[WINOGRAD_TAPS], half[4 * WINOGRAD_TAPS], y[4 * 4];
            UNROLL for (int i = 0; i < taps; i++) {
                UNROLL for (int j = 0; j < taps; j++, from += w->plane)
                    c[j] = vec_load_lanes(from, mask);
                ISA(winograd_gather)(m, c, 1, half + i, taps);
            }
            UNROLL for (int j = 0; j < m; j++)
                ISA(winograd_gather)(m, half + j * taps, 1, y + j, 4);
            UNROLL for (int i = 0; i < m; i++) {
                const int at = m * (first + row) + i;
                const int64_t to = at * w->out_pitch + m * x;
                if (at < w->out_height)
                    ISA(winograd_store)(m, &finish, start, y + 4 * i, w->out_width - m * x,
                                        out + to, residual ? residual + to : NULL);
            }
        }
}

void ISA(f32_winograd_in)(const scnn_winograd *w, const float *in, int32_t first, int32_t rows,
                          float *out, float *scratch)
{
    if (w->m == 2)
        ISA(winograd_in)(2, w, in, first, rows, out, scratch);
    else
        ISA(winograd_in)(4, w, in, first, rows, out, scratch);
}

void ISA(f32_winograd_out)(const scnn_winograd *w, const float *in, int32_t first, int32_t rows,
                           float bias, const float *slope, float *out, const float *residual)
{
    if (w->m == 2)
        ISA(winograd_out)(2, w, in, first, rows, bias, slope, out, residual);
    else
        ISA(winograd_out)(4, w, in, first, rows, bias, slope, out, residual);
}
