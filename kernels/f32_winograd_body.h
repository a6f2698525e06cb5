/* Winograd's minimal filtering for 3x3 convolutions of stride 1 (Lavin and Gray 2016): tiles of
 * m x m outputs from (m + 2) x (m + 2) inputs, m = 2 or 4. The products in between, one small
 * matrix product for each of the (m + 2)² coefficients, are an ordinary grouped 1x1 convolution.
 *
 * Tiles are the lanes of a vector, those of a row of the map behind those of the one above, so that narrow maps
 * fill vectors, too. To load them whole, the pixels of each place in a tile are first brought together. */
#define WINOGRAD_TAPS 6

/* Where tiles of four columns begin. */
static const int64_t ISA(quads)[16] = {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60};

/* Bring together columns of LANES tiles that lie side by side in `line`: column j goes to `to + j * apart`. */
INLINE void ISA(winograd_columns)(int m, int columns, const float *line, float *to, int64_t apart)
{
    if (m == 2) {
        const vec a = vec_load(line), b = vec_load(line + LANES);
        vec_store(to, vec_even(a, b));
        vec_store(to + apart, vec_odd(a, b));
        return;
    }
    vec r[4];
    UNROLL for (int k = 0; k < 4; k++)
        r[k] = vec_load_quads(line, ISA(quads) + k);
    vec_transpose_quads(r);
    UNROLL for (int j = 0; j < columns; j++)
        vec_store(to + j * apart, r[j]);
}

/* All m + 2 columns: the last two are the first ones of the next tile. */
INLINE void ISA(winograd_split)(int m, const float *line, float *to, int64_t apart)
{
    ISA(winograd_columns)(m, m, line, to, apart);
    ISA(winograd_columns)(m, 2, line + m, to + m * apart, apart);
}

/* LANES tiles as rows of pixels: those of row i of a tile, y[4 i + j], go to `to + i * apart`. */
INLINE void ISA(winograd_join)(int m, const vec *y, float *to, int64_t apart)
{
    UNROLL for (int i = 0; i < m; i++, y += 4, to += apart)
        if (m == 2) {
            vec_store(to, vec_zip_low(y[0], y[1]));
            vec_store(to + LANES, vec_zip_high(y[0], y[1]));
        } else {
            vec r[4] = {y[0], y[1], y[2], y[3]};
            vec_transpose_quads(r);
            UNROLL for (int k = 0; k < 4; k++)
                vec_store_quads(to, ISA(quads) + k, r[k]);
        }
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

/* n floats; behind them there is room for zeros. */
INLINE void ISA(winograd_copy)(const float *from, int n, float *to)
{
    int x = 0;
    if (n < LANES) {
        vec_store(to, vec_load_lanes(from, ISA(lanes_left)(n)));
        return;
    }
    do
        vec_store(to + x, vec_load(from + x));
    while (ISA(dw_next)(&x, n - LANES));
}

/* Bring together the pixels under `rows` rows of tiles: place (i, j) of all tiles is
 * places[(i % m · (m + 2) + j) · apart + i / m · tiles] and on. */
INLINE void ISA(winograd_places)(int m, const scnn_winograd *w, const float *in, int32_t first,
                                 int32_t rows, float *places, int64_t apart, float *line)
{
    const int size = m * (w->tiles + LANES) + m; /* of a line, zero where there are no pixels */
    const int room = size - w->pad_w, width = w->width < room ? w->width : room;
    memset(line, 0, (size_t)size * sizeof(float));
    for (int i = 0; i < m * rows + 2; i++) {
        const int y = m * first + i - w->pad_h;
        float *to = places + (int64_t)(i % m) * (m + 2) * apart + (int64_t)(i / m) * w->tiles;
        if (y >= 0 && y < w->height)
            ISA(winograd_copy)(in + y * w->in_pitch, width, line + w->pad_w);
        for (int x = 0; x < w->tiles; x += LANES)
            if (y >= 0 && y < w->height)
                ISA(winograd_split)(m, line + m * x, to + x, apart);
            else
                UNROLL for (int j = 0; j < m + 2; j++)
                    vec_store(to + j * apart + x, vec_set(0.0f));
    }
}

INLINE void ISA(winograd_in)(int m, const scnn_winograd *w, const float *in, int32_t first,
                             int32_t rows, float *out, float *scratch)
{
    const int taps = m + 2, count = rows * w->tiles;
    const int64_t apart = (int64_t)(rows + 1) * w->tiles + LANES;
    const uint32_t mask = ISA(lanes_left)(count);
    int tile = 0;
    ISA(winograd_places)(m, w, in, first, rows, scratch, apart, scratch + m * taps * apart);
    do {
        float *to = out + tile;
        vec d[WINOGRAD_TAPS * WINOGRAD_TAPS], c[WINOGRAD_TAPS * WINOGRAD_TAPS];
        UNROLL for (int j = 0; j < taps; j++) {
            const float *from = scratch + j * apart + tile;
            UNROLL for (int i = 0; i < taps; i++)
                d[i * taps + j] = vec_load(from + i % m * taps * apart + i / m * w->tiles);
            ISA(winograd_scatter)(m, d + j, taps, c + j);
        }
        UNROLL for (int i = 0; i < taps; i++) {
            ISA(winograd_scatter)(m, c + i * taps, 1, d + i * taps);
            UNROLL for (int j = 0; j < taps; j++, to += w->plane)
                if (count >= LANES)
                    vec_store(to, d[i * taps + j]);
                else
                    vec_store_lanes(to, mask, d[i * taps + j]);
        }
    } while (ISA(dw_next)(&tile, count - LANES));
}

/* A row of pixels; a last vector that overlaps the one before may not add again what was added there. */
INLINE void ISA(winograd_finish)(const ISA(finish) *finish, vec bias, const float *from, int width,
                                 float *out, const float *residual)
{
    int x = 0;
    for (; x + LANES <= width; x += LANES) {
        vec y = vec_add(vec_load(from + x), bias);
        if (residual)
            y = vec_add(y, vec_load(residual + x));
        vec_store(out + x, ISA(finished)(finish, y));
    }
    if (x == width)
        return;
    if (width > LANES && !residual) {
        x = width - LANES;
        vec_store(out + x, ISA(finished)(finish, vec_add(vec_load(from + x), bias)));
        return;
    }
    const uint32_t mask = ISA(lanes_left)(width - x);
    vec y = vec_add(vec_load(from + x), bias);
    if (residual)
        y = vec_add(y, vec_load_lanes(residual + x, mask));
    vec_store_lanes(out + x, mask, ISA(finished)(finish, y));
}

INLINE void ISA(winograd_out)(int m, const scnn_winograd *w, const float *in, int32_t first,
                              int32_t rows, float bias, const float *slope, float *out,
                              const float *residual, float *scratch)
{
    const int taps = m + 2, count = rows * w->tiles;
    const int64_t apart = (int64_t)m * (count + LANES); /* of rows of pixels */
    const uint32_t mask = ISA(lanes_left)(count);
    const ISA(finish) finish = {vec_set(w->low), vec_set(w->high), vec_set(slope ? *slope : 0.0f),
                                slope != NULL};
    int tile = 0;
    do {
        const float *from = in + tile;
        vec c[WINOGRAD_TAPS], half[4 * WINOGRAD_TAPS], y[4 * 4];
        UNROLL for (int i = 0; i < taps; i++) {
            UNROLL for (int j = 0; j < taps; j++, from += w->plane)
                c[j] = count >= LANES ? vec_load(from) : vec_load_lanes(from, mask);
            ISA(winograd_gather)(m, c, 1, half + i, taps);
        }
        UNROLL for (int j = 0; j < m; j++)
            ISA(winograd_gather)(m, half + j * taps, 1, y + j, 4);
        ISA(winograd_join)(m, y, scratch + m * tile, apart);
    } while (ISA(dw_next)(&tile, count - LANES));
    for (int y = 0; y < m * rows && m * first + y < w->out_height; y++) {
        const int64_t to = (m * first + y) * w->out_pitch;
        ISA(winograd_finish)(&finish, vec_set(bias), scratch + y % m * apart + y / m * m * w->tiles,
                             w->out_width, out + to, residual ? residual + to : NULL);
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
                           float bias, const float *slope, float *out, const float *residual,
                           float *scratch)
{
    if (w->m == 2)
        ISA(winograd_out)(2, w, in, first, rows, bias, slope, out, residual, scratch);
    else
        ISA(winograd_out)(4, w, in, first, rows, bias, slope, out, residual, scratch);
}
