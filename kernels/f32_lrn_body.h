/* Local response normalisation (lrn_layer.cpp): y = x · (k + alpha/n · Σ x²)^-beta over n neighbouring
 * channels, or y = x · (1 + alpha/n² · Σ x²)^-beta over n × n neighbouring pixels of a plane. Sums are
 * taken afresh for every channel and row: Caffe's running sum drifts, and would carry a NaN along. */

/* s^-3/4 = y · (1 + e)^-1/4, where y is an estimate and e = s³ · y⁴ - 1; three terms of the power series are
 * enough for 2^-10. vec_min takes the second of two where the first is a NaN: 0 remains of infinity. */
INLINE vec ISA(lrn_three_quarters)(vec s)
{
    const vec root = vec_rsqrt(s), fourth = vec_rsqrt(vec_min(vec_mul(s, root), vec_set(FLT_MAX)));
    const vec y = vec_mul(root, fourth), a = vec_mul(vec_mul(y, s), y);
    const vec e = vec_fma(a, vec_mul(a, s), vec_set(-1.0f));
    const vec more = vec_mul(e, vec_fma(e, vec_set(5.0f / 32), vec_set(-0.25f)));
    return vec_fma(y, vec_min(more, vec_set(1.0f)), y);
}

/* x · s^-beta; beta is 0.75 in every published net. */
INLINE vec ISA(lrn_power)(vec x, vec s, float beta, int three_quarters)
{
    if (three_quarters)
        return vec_mul(x, ISA(lrn_three_quarters)(s));
    float power[LANES];
    vec_store(power, s);
    for (int i = 0; i < LANES; i++)
        power[i] = powf(power[i], -beta);
    return vec_mul(x, vec_load(power));
}

/* The first `left` of a vector of positions, zeros behind them. */
INLINE vec ISA(lrn_load)(const float *in, int left)
{
    return left >= LANES ? vec_load(in) : vec_load_lanes(in, ISA(lanes_left)(left));
}

INLINE void ISA(lrn_store)(float *out, vec y, int left)
{
    if (left >= LANES)
        vec_store(out, y);
    else
        vec_store_lanes(out, ISA(lanes_left)(left), y);
}

/* Σ x² of a vector of positions in `count` rows, `step` apart; the row after them comes next. */
INLINE vec ISA(lrn_squares)(const float *in, int64_t step, int count, int left)
{
    vec sum = vec_set(0.0f);
    for (int j = 0; j < count; j++) {
        const vec x = ISA(lrn_load)(in + j * step, left);
        sum = vec_fma(x, x, sum);
    }
    __builtin_prefetch(in + count * step);
    return sum;
}

/* A channel of a strip; `near` are the `count` channels around it. All sums come before all powers: together
 * they are a chain of 60 cycles, of which a processor holds too few at a time. */
INLINE void ISA(lrn_channel)(const scnn_lrn *lrn, const float *near, int count, const float *x, float *y,
                             int size, int three_quarters)
{
    const vec share = vec_set(lrn->alpha_over_n), k = vec_set(lrn->k);
    const int64_t plane = lrn->in_plane;
    const int whole = size / LANES * LANES;
    float s[SCNN_LRN_STRIP];
    for (int i = 0; i < whole; i += LANES)
        vec_store(s + i, vec_fma(ISA(lrn_squares)(near + i, plane, count, LANES), share, k));
    for (int i = 0; i < whole; i += LANES)
        vec_store(y + i, ISA(lrn_power)(vec_load(x + i), vec_load(s + i), lrn->beta, three_quarters));
    if (whole < size) {
        const int left = size - whole;
        const vec sum = vec_fma(ISA(lrn_squares)(near + whole, plane, count, left), share, k);
        const vec middle = vec_load_lanes(x + whole, ISA(lanes_left)(left));
        vec_store_lanes(y + whole, ISA(lanes_left)(left),
                        ISA(lrn_power)(middle, sum, lrn->beta, three_quarters));
    }
}

INLINE void ISA(lrn_strip)(const scnn_lrn *lrn, const float *in, float *out, int size, int three_quarters)
{
    const int half = lrn->local_size / 2;
    for (int c = 0; c < lrn->channels; c++) {
        const int first = c - half < 0 ? 0 : c - half;
        const int last = c + half >= lrn->channels ? lrn->channels : c + half + 1;
        const float *near = in + first * lrn->in_plane, *x = in + c * lrn->in_plane;
        float *y = out + c * lrn->out_plane;
        if (last - first == 5) /* a constant for the compiler */
            ISA(lrn_channel)(lrn, near, 5, x, y, size, three_quarters);
        else
            ISA(lrn_channel)(lrn, near, last - first, x, y, size, three_quarters);
    }
}

void ISA(f32_lrn)(const scnn_lrn *lrn, const float *in, float *out, int64_t size)
{
    if (lrn->beta == 0.75f)
        ISA(lrn_strip)(lrn, in, out, (int)size, 1);
    else
        ISA(lrn_strip)(lrn, in, out, (int)size, 0);
}

/* columns: the sums of all columns, with `half` zeros on either side. */
INLINE void ISA(lrn_row)(const scnn_lrn_within *lrn, const float *columns, const float *in, float *out)
{
    const vec one = vec_set(1.0f), share = vec_set(lrn->share);
    for (int x = 0; x < lrn->width; x += LANES) {
        const int left = lrn->width - x;
        vec sum = vec_load(columns + x);
        for (int j = 1; j <= 2 * lrn->half; j++)
            sum = vec_add(sum, vec_load(columns + x + j));
        const vec middle = ISA(lrn_load)(in + x, left);
        ISA(lrn_store)(out + x, ISA(lrn_power)(middle, vec_fma(sum, share, one), lrn->beta, lrn->beta == 0.75f),
                       left);
    }
}

void ISA(f32_lrn_within)(const scnn_lrn_within *lrn, const float *in, float *out, float *scratch)
{
    const int half = lrn->half;
    memset(scratch, 0, (lrn->width + 2 * half + LANES) * sizeof(float));
    for (int y = 0; y < lrn->height; y++) {
        const int first = y - half < 0 ? 0 : y - half;
        const int last = y + half >= lrn->height ? lrn->height : y + half + 1;
        const float *window = in + first * lrn->in_pitch;
        for (int x = 0; x < lrn->width; x += LANES) /* lanes behind the row are zero */
            vec_store(scratch + half + x,
                      ISA(lrn_squares)(window + x, lrn->in_pitch, last - first, lrn->width - x));
        ISA(lrn_row)(lrn, scratch, in + y * lrn->in_pitch, out + y * lrn->out_pitch);
    }
}
