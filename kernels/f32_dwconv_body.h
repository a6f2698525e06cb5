/* Depthwise convolution of one plane: several output rows are summed up together, so that each vector
 * of the input is loaded once for all of them. Published maps have a multiple of seven rows, and 32
 * registers hold the sums of fourteen beside nine weights; 16 those of seven, with the weights in memory. */
#define DW_ROWS 14
#define DW_SIDE 5 /* of the largest kernel whose weights are kept as vectors */

/* Rows of outputs take whole vectors; a part of one; so little that one also holds all pixels they take. */
typedef enum { ISA(WIDE), ISA(NARROW), ISA(WITHIN) } ISA(dw_width);

/* LANES pixels, `stride` apart. */
INLINE vec ISA(load_apart)(const float *p, int stride)
{
    if (stride == 1)
        return vec_load(p);
    if (stride == 2)
        return vec_even(vec_load(p), vec_load(p + LANES));
    float apart[LANES];
    for (int i = 0; i < LANES; i++)
        apart[i] = p[i * stride];
    return vec_load(apart);
}

/* Move on to the next vector of a row, if there is one; the last, at column `last`, overlaps the one
 * before. */
INLINE int ISA(dw_next)(int *x, int last)
{
    if (*x >= last)
        return 0;
    *x = *x + LANES < last ? *x + LANES : last;
    return 1;
}

/* Rows y … y + rows - 1 from column x on. Where a part of a vector takes several instructions, whole
 * vectors put zeros behind the end of a narrow row, if the next row follows there: into the gap, and where
 * pixels come later. */
INLINE void ISA(store_sums)(const scnn_dwconv *conv, ISA(dw_width) width, int rows,
                            const ISA(finish) *finish, const vec *sum, float *out, int y, int x)
{
    const int64_t pitch = conv->out_pitch;
    out += y * pitch + x;
    if (width == ISA(WIDE)) {
        UNROLL for (int r = 0; r < rows; r++)
            vec_store(out + r * pitch, ISA(finished)(finish, sum[r]));
        return;
    }
    const uint32_t mask = ISA(lanes_left)(conv->out_width);
    const int whole = !MASKS && pitch + conv->out_width >= LANES;
    UNROLL for (int r = 0; r < rows; r++) {
        const vec result = ISA(finished)(finish, sum[r]);
        if (whole && (r + 1 < rows || y + rows < conv->out_height))
            vec_store(out + r * pitch, vec_keep(lanes_of(mask), result));
        else
            vec_store_lanes(out + r * pitch, mask, result);
    }
}

/* The pixels that LANES outputs, `stride` apart, take with each of the kw taps of a row. Loads that
 * cross cache lines take twice as long: they are held in registers; in narrow maps, where one vector
 * holds all that a row of outputs takes, the next tap is the one before, moved on by a column; and
 * with stride 2 and long vectors it is the one two columns before, moved on by one output. Short ones are
 * loaded again: to move lanes between the halves of an AVX2 vector takes longer, and so what is picked
 * out of two vectors also stays in the order of the halves until the end. */
INLINE void ISA(load_taps)(const float *at, int kw, int stride, ISA(dw_width) width, vec *pixels)
{
    if (width == ISA(WITHIN)) {
        pixels[0] = vec_load(at);
        vec_hold(pixels[0]);
        UNROLL for (int j = 1; j < kw; j++)
            pixels[j] = vec_next(pixels[j - 1], pixels[0]);
        return;
    }
    if (stride == 1) {
        UNROLL for (int j = 0; j < kw; j++) {
            pixels[j] = vec_load(at + j);
            vec_hold(pixels[j]);
        }
        return;
    }
    UNROLL for (int j = 0; j < (LANES == 16 ? 2 : kw); j += 2) {
        vec a = vec_load(at + j), b = vec_load(at + j + LANES);
        vec_hold(a);
        vec_hold(b);
        pixels[j] = vec_evens(a, b);
        if (j + 1 < kw)
            pixels[j + 1] = vec_odds(a, b);
    }
    if (LANES == 16)
        UNROLL for (int j = 2; j < kw; j++)
            pixels[j] = vec_next(pixels[j - 2], vec_set(at[2 * LANES + j - 2]));
}

/* `rows` output rows of a kernel whose size and stride are known when this is compiled. */
INLINE void ISA(dw_rows)(const scnn_dwconv *conv, int kh, int kw, int stride,
                         ISA(dw_width) width, int rows, const vec *weights, vec bias, const ISA(finish) *finish,
                         const float *in, float *out, int y)
{
    const int last = width == ISA(WIDE) ? conv->out_width - LANES : 0;
    int x = 0;
    in += y * stride * conv->in_pitch;
    do {
        const float *at = in + x * stride;
        vec sum[DW_ROWS];
        UNROLL for (int r = 0; r < rows; r++)
            sum[r] = bias;
        UNROLL for (int i = 0; i < (rows - 1) * stride + kh; i++) {
            vec pixels[DW_SIDE];
            ISA(load_taps)(at, kw, stride, width, pixels);
            UNROLL for (int j = 0; j < kw; j++) {
                UNROLL for (int r = 0; r < rows; r++) {
                    const int tap = i - r * stride;
                    if (tap >= 0 && tap < kh)
                        sum[r] = vec_fma(weights[tap * kw + j], pixels[j], sum[r]);
                }
            }
            at += conv->in_pitch;
        }
        if (stride == 2)
            UNROLL for (int r = 0; r < rows; r++)
                sum[r] = vec_in_order(sum[r]);
        ISA(store_sums)(conv, width, rows, finish, sum, out, y, x);
    } while (ISA(dw_next)(&x, last));
}

#define DW_BLOCK(ROWS)                                  \
    for (; y + (ROWS) <= conv->out_height; y += (ROWS)) \
        ISA(dw_rows)(conv, kh, kw, stride, width, ROWS, taps, bias, finish, in, out, y)
INLINE void ISA(dw_plane)(const scnn_dwconv *conv, int kh, int kw, int stride,
                          ISA(dw_width) width, const float *weights, vec bias, const ISA(finish) *finish,
                          const float *in, float *out)
{
    vec taps[DW_SIDE * DW_SIDE];
    UNROLL for (int t = 0; t < kh * kw; t++)
        taps[t] = vec_set(weights[t]);
    int y = 0;
    if (LANES == 16 && kh == 3 && stride == 1)
        DW_BLOCK(14);
    if (kh == 3 && (LANES == 16 || (stride == 1 && width == ISA(NARROW))))
        DW_BLOCK(7);
    DW_BLOCK(4);
    DW_BLOCK(2);
    DW_BLOCK(1);
}

/* Any kernel, stride and dilation. */
INLINE void ISA(dw_any)(const scnn_dwconv *conv, const float *weights, vec bias,
                        const ISA(finish) *finish, const float *in, float *out)
{
    const ISA(dw_width) width = conv->out_width >= LANES ? ISA(WIDE) : ISA(NARROW);
    const int last = width == ISA(WIDE) ? conv->out_width - LANES : 0;
    for (int y = 0; y < conv->out_height; y++) {
        const float *row = in + y * conv->stride_h * conv->in_pitch;
        int x = 0;
        do {
            vec sum = bias;
            for (int i = 0; i < conv->kernel_h; i++)
                for (int j = 0; j < conv->kernel_w; j++) {
                    const float *at = row + i * conv->dilation_h * conv->in_pitch +
                                      j * conv->dilation_w + x * conv->stride_w;
                    sum = vec_fma(vec_set(weights[i * conv->kernel_w + j]),
                                  ISA(load_apart)(at, conv->stride_w), sum);
                }
            ISA(store_sums)(conv, width, 1, finish, &sum, out, y, x);
        } while (ISA(dw_next)(&x, last));
    }
}

#define DW_PLANE(K, S)                                                                    \
    do {                                                                                  \
        if (conv->out_width >= LANES)                                                     \
            ISA(dw_plane)(conv, K, K, S, ISA(WIDE), weights, start, &finish, in, out);    \
        else                                                                              \
            ISA(dw_plane)(conv, K, K, S, ISA(NARROW), weights, start, &finish, in, out);  \
    } while (0)
void ISA(f32_dwconv)(const scnn_dwconv *conv, const float *weights, float bias, const float *slope,
                     const float *in, float *out)
{
    ISA(finish) finish = {vec_set(conv->low), vec_set(conv->high), vec_set(slope ? *slope : 0.0f),
                          slope != NULL};
    const vec start = vec_set(bias);
    const int stride = conv->stride_h == conv->stride_w ? conv->stride_h : 0;
    const int size = conv->kernel_h == conv->kernel_w ? conv->kernel_h : 0;
    const int plain = conv->dilation_h == 1 && conv->dilation_w == 1;
    if (LANES == 16 && plain && size == 3 && stride == 1 && conv->out_width + 2 <= LANES)
        ISA(dw_plane)(conv, 3, 3, 1, ISA(WITHIN), weights, start, &finish, in, out);
    else if (plain && size == 3 && stride == 1)
        DW_PLANE(3, 1);
    else if (plain && size == 3 && stride == 2)
        DW_PLANE(3, 2);
    else if (plain && size == 5 && stride == 1)
        DW_PLANE(5, 1);
    else if (plain && size == 5 && stride == 2)
        DW_PLANE(5, 2);
    else
        ISA(dw_any)(conv, weights, start, &finish, in, out);
}
