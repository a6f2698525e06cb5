/* Depthwise convolution of one plane: several output rows are summed up together, so that each vector
 * of the input is loaded once for all of them. Published maps have a multiple of seven rows, and 32
 * registers hold the sums of fourteen beside nine weights. */
#define DW_ROWS 14
#define DW_SIDE 5 /* of the largest kernel whose weights are kept as vectors */

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

INLINE void ISA(store_sums)(const scnn_dwconv *conv, const ISA(finish) *finish, int rows,
                            const vec *sum, float *out, int x)
{
    const uint32_t mask = ISA(lanes_left)(conv->out_width - x);
    UNROLL for (int r = 0; r < rows; r++)
        vec_store_lanes(out + r * conv->out_pitch + x, mask, ISA(finished)(finish, sum[r]));
}

/* The pixels that LANES outputs, `stride` apart, take with each of the kw taps of a row. Loads that
 * cross cache lines take twice as long: they are held in registers; in narrow maps, where one vector
 * holds all that a row of outputs takes, the next tap is the one before, moved on by a column; and
 * with stride 2 it is the one two columns before, moved on by one output. */
INLINE void ISA(load_taps)(const float *at, int kw, int stride, int narrow, vec *pixels)
{
    if (narrow) {
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
    vec a = vec_load(at), b = vec_load(at + LANES);
    vec_hold(a);
    vec_hold(b);
    pixels[0] = vec_even(a, b);
    pixels[1] = vec_odd(a, b);
    UNROLL for (int j = 2; j < kw; j++)
        pixels[j] = vec_next(pixels[j - 2], vec_set(at[2 * LANES + j - 2]));
}

/* `rows` output rows of a kernel whose size and stride are known when this is compiled. */
INLINE void ISA(dw_rows)(const scnn_dwconv *conv, int kh, int kw, int stride, int narrow,
                         int rows, const vec *weights, vec bias, const ISA(finish) *finish,
                         const float *in, float *out)
{
    for (int x = 0; x < conv->out_width; x += LANES) {
        const float *at = in + x * stride;
        vec sum[DW_ROWS];
        UNROLL for (int r = 0; r < rows; r++)
            sum[r] = bias;
        UNROLL for (int i = 0; i < (rows - 1) * stride + kh; i++) {
            vec pixels[DW_SIDE];
            ISA(load_taps)(at, kw, stride, narrow, pixels);
            UNROLL for (int j = 0; j < kw; j++) {
                UNROLL for (int r = 0; r < rows; r++) {
                    const int tap = i - r * stride;
                    if (tap >= 0 && tap < kh)
                        sum[r] = vec_fma(weights[tap * kw + j], pixels[j], sum[r]);
                }
            }
            at += conv->in_pitch;
        }
        ISA(store_sums)(conv, finish, rows, sum, out, x);
    }
}

#define DW_BLOCK(ROWS)                                                       \
    for (; y + (ROWS) <= conv->out_height; y += (ROWS))                      \
        ISA(dw_rows)(conv, kh, kw, stride, narrow, ROWS, taps, bias, finish, \
                     in + y * stride * conv->in_pitch, out + y * conv->out_pitch)
INLINE void ISA(dw_plane)(const scnn_dwconv *conv, int kh, int kw, int stride, int narrow,
                          const float *weights, vec bias, const ISA(finish) *finish,
                          const float *in, float *out)
{
    vec taps[DW_SIDE * DW_SIDE];
    UNROLL for (int t = 0; t < kh * kw; t++)
        taps[t] = vec_set(weights[t]);
    int y = 0;
    if (LANES == 16 && kh == 3 && stride == 1)
        DW_BLOCK(14);
    if (LANES == 16 && kh == 3)
        DW_BLOCK(7);
    DW_BLOCK(4);
    DW_BLOCK(2);
    DW_BLOCK(1);
}

/* Any kernel, stride and dilation. */
INLINE void ISA(dw_any)(const scnn_dwconv *conv, const float *weights, vec bias,
                        const ISA(finish) *finish, const float *in, float *out)
{
    for (int y = 0; y < conv->out_height; y++, out += conv->out_pitch) {
        const float *row = in + y * conv->stride_h * conv->in_pitch;
        for (int x = 0; x < conv->out_width; x += LANES) {
            vec sum = bias;
            for (int i = 0; i < conv->kernel_h; i++)
                for (int j = 0; j < conv->kernel_w; j++) {
                    const float *at = row + i * conv->dilation_h * conv->in_pitch +
                                      j * conv->dilation_w + x * conv->stride_w;
                    sum = vec_fma(vec_set(weights[i * conv->kernel_w + j]),
                                  ISA(load_apart)(at, conv->stride_w), sum);
                }
            ISA(store_sums)(conv, finish, 1, &sum, out, x);
        }
    }
}

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
        ISA(dw_plane)(conv, 3, 3, 1, 1, weights, start, &finish, in, out);
    else if (plain && size == 3 && stride == 1)
        ISA(dw_plane)(conv, 3, 3, 1, 0, weights, start, &finish, in, out);
    else if (plain && size == 3 && stride == 2)
        ISA(dw_plane)(conv, 3, 3, 2, 0, weights, start, &finish, in, out);
    else if (plain && size == 5 && stride == 1)
        ISA(dw_plane)(conv, 5, 5, 1, 0, weights, start, &finish, in, out);
    else if (plain && size == 5 && stride == 2)
        ISA(dw_plane)(conv, 5, 5, 2, 0, weights, start, &finish, in, out);
    else
        ISA(dw_any)(conv, weights, start, &finish, in, out);
}
