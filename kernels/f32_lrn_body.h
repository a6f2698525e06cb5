/* Local response normalisation (lrn_layer.cpp): y = x · (k + alpha/n · Σ x²)^-beta over n neighbouring
 * channels, or y = x · (1 + alpha/n² · Σ x²)^-beta over n × n neighbouring pixels of a plane. Sums are
 * taken afresh for every channel and row: Caffe's running sum drifts, and would carry a NaN along. */
#define LRN_STRIP 64

/* x · s^-beta: two square roots where beta is 0.75, the value that every published net uses. */
INLINE vec ISA(lrn_power)(vec x, vec s, float beta)
{
    if (beta == 0.75f) {
        const vec root = vec_sqrt(s);
        return vec_div(x, vec_mul(root, vec_sqrt(root)));
    }
    float power[LANES];
    vec_store(power, s);
    for (int i = 0; i < LANES; i++)
        power[i] = powf(power[i], -beta);
    return vec_mul(x, vec_load(power));
}

/* Σ x² of a vector of positions in `count` rows, `step` apart; the row after them comes next. */
INLINE vec ISA(lrn_squares)(const float *in, int64_t step, int count, uint32_t mask)
{
    vec sum = vec_set(0.0f);
    for (int j = 0; j < count; j++) {
        const vec x = vec_load_lanes(in + j * step, mask);
        sum = vec_fma(x, x, sum);
    }
    __builtin_prefetch(in + count * step);
    return sum;
}

INLINE void ISA(lrn_strip)(const scnn_lrn *lrn, const float *in, float *out, int size)
{
    const int half = lrn->local_size / 2;
    const vec k = vec_set(lrn->k), share = vec_set(lrn->alpha_over_n);
    for (int c = 0; c < lrn->channels; c++) {
        const int first = c - half < 0 ? 0 : c - half;
        const int last = c + half >= lrn->channels ? lrn->channels : c + half + 1;
        const float *near = in + first * lrn->in_plane, *x = in + c * lrn->in_plane;
        float *y = out + c * lrn->out_plane;
        for (int i = 0; i < size; i += LANES) {
            const uint32_t mask = ISA(lanes_left)(size - i);
            const vec sum = ISA(lrn_squares)(near + i, lrn->in_plane, last - first, mask);
            const vec s = vec_fma(sum, share, k);
            vec_store_lanes(y + i, mask, ISA(lrn_power)(vec_load_lanes(x + i, mask), s, lrn->beta));
        }
    }
}

void ISA(f32_lrn)(const scnn_lrn *lrn, const float *in, float *out, int64_t size)
{
    for (int64_t at = 0; at < size; at += LRN_STRIP) {
        const int64_t left = size - at;
        if (left >= LRN_STRIP) /* a constant length for the compiler */
            ISA(lrn_strip)(lrn, in + at, out + at, LRN_STRIP);
        else
            ISA(lrn_strip)(lrn, in + at, out + at, (int)left);
    }
}

/* columns: the sums of all columns, with `half` zeros on either side. */
INLINE void ISA(lrn_row)(const scnn_lrn_within *lrn, const float *columns, const float *in, float *out)
{
    const vec one = vec_set(1.0f), share = vec_set(lrn->share);
    for (int x = 0; x < lrn->width; x += LANES) {
        const uint32_t mask = ISA(lanes_left)(lrn->width - x);
        vec sum = vec_load(columns + x);
        for (int j = 1; j <= 2 * lrn->half; j++)
            sum = vec_add(sum, vec_load(columns + x + j));
        vec_store_lanes(out + x, mask,
                        ISA(lrn_power)(vec_load_lanes(in + x, mask), vec_fma(sum, share, one),
                                       lrn->beta));
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
                      ISA(lrn_squares)(window + x, lrn->in_pitch, last - first,
                                       ISA(lanes_left)(lrn->width - x)));
        ISA(lrn_row)(lrn, scratch, in + y * lrn->in_pitch, out + y * lrn->out_pitch);
    }
}
