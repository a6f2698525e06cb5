/* y = x · (k + alpha/n · Σ x²)^-beta over n neighbouring channels (lrn_layer.cpp), a strip of
 * positions at a time. The sum is taken afresh for every channel: Caffe's running sum drifts. */
#define LRN_STRIP 64

/* s^-beta: two square roots where beta is 0.75, the value that every published net uses. */
INLINE void ISA(lrn_strip)(const scnn_lrn *lrn, const float *in, float *out, int size,
                           int three_quarters)
{
    const int half = lrn->local_size / 2;
    for (int c = 0; c < lrn->channels; c++) {
        const int low = c - half < 0 ? 0 : c - half;
        const int high = c + half >= lrn->channels ? lrn->channels - 1 : c + half;
        float sum[LRN_STRIP];
        for (int i = 0; i < size; i++)
            sum[i] = 0.0f;
        for (int j = low; j <= high; j++) {
            const float *x = in + j * lrn->in_plane;
            for (int i = 0; i < size; i++)
                sum[i] += x[i] * x[i];
        }
        const float *x = in + c * lrn->in_plane;
        float *y = out + c * lrn->out_plane;
        if (three_quarters) {
            for (int i = 0; i < size; i++) {
                const float root = sqrtf(lrn->k + lrn->alpha_over_n * sum[i]);
                y[i] = x[i] / (root * sqrtf(root));
            }
        } else {
            for (int i = 0; i < size; i++)
                y[i] = x[i] * powf(lrn->k + lrn->alpha_over_n * sum[i], -lrn->beta);
        }
    }
}

void ISA(f32_lrn)(const scnn_lrn *lrn, const float *in, float *out, int64_t size)
{
    for (int64_t at = 0; at < size; at += LRN_STRIP) {
        const int64_t left = size - at;
        if (left >= LRN_STRIP) /* a constant length for the compiler */
            ISA(lrn_strip)(lrn, in + at, out + at, LRN_STRIP, lrn->beta == 0.75f);
        else
            ISA(lrn_strip)(lrn, in + at, out + at, (int)left, lrn->beta == 0.75f);
    }
}
