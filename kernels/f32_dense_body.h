/* Direct convolution with dense weights whose vectors run along output channels: `pixels` neighbours
 * of one output row × `vectors` vectors of channels stay in registers. Each entry (an input channel
 * and a tap) loads its weights once for all pixels and broadcasts one input value a pixel, so that
 * no lane is lost on narrow maps. The sums are transposed into channel planes at the end. Only for
 * AVX-512: with 16 registers of 8 lanes the other form of the convolution is as fast. */
#define WEIGHTS_AHEAD 24 /* entries */
INLINE void ISA(store_channels)(const scnn_dense *dense, const int32_t *channel, int pixels,
                                vec *sum, float *out, const float *residual, int64_t out_plane)
{
    const uint32_t mask = (uint32_t)((1ull << pixels) - 1);
    ISA(finish) finish = {vec_set(dense->low), vec_set(dense->high), vec_set(0.0f),
                          dense->slope != NULL};
    vec_transpose(sum);
    for (int i = 0; i < LANES && channel[i] >= 0; i++) {
        const int64_t plane = channel[i] * out_plane;
        vec y = sum[i];
        if (residual)
            y = vec_add(y, vec_load_lanes(residual + plane, mask));
        if (finish.bent)
            finish.slope = vec_set(dense->slope[channel[i]]);
        vec_store_lanes(out + plane, mask, ISA(finished)(&finish, y));
    }
}

INLINE void ISA(dense)(int pixels, int vectors, const scnn_dense *dense, int64_t block,
                       const float *in, float *out, const float *residual, int64_t out_plane)
{
    const int width = vectors * LANES;
    const float *bias = dense->bias + block * width;
    vec sum[2][16];
    UNROLL for (int v = 0; v < vectors; v++)
        UNROLL for (int p = 0; p < pixels; p++)
            sum[v][p] = vec_load(bias + v * LANES);
    const float *weight = dense->weight + dense->start[block] * width;
    for (int64_t e = dense->start[block]; e < dense->start[block + 1]; e++, weight += width) {
        const float *x = in + dense->offset[e];
        vec w[2];
        UNROLL for (int v = 0; v < vectors; v++) {
            w[v] = vec_load(weight + v * LANES);
            vec_hold(w[v]);
            __builtin_prefetch(weight + (WEIGHTS_AHEAD * vectors + v) * LANES);
        }
        UNROLL for (int p = 0; p < pixels; p++) {
            const vec pixel = vec_set(x[p]);
            UNROLL for (int v = 0; v < vectors; v++)
                sum[v][p] = vec_fma(w[v], pixel, sum[v][p]);
        }
    }
    UNROLL for (int v = 0; v < vectors; v++) {
        UNROLL for (int p = pixels; p < LANES; p++)
            sum[v][p] = vec_set(0.0f);
        ISA(store_channels)(dense, dense->channel + block * width + v * LANES, pixels, sum[v], out,
                            residual, out_plane);
    }
}

/* The kernel of one tile size; its name ends in <pixels>x<vectors>v__<isa>. */
#define SCNN_DENSE_TILE(P, V)                                                                  \
    void ISA(f32_dense_##P##x##V##v)(const scnn_dense *dense, int64_t block, const float *in,  \
                                     float *out, const float *residual, int64_t out_plane)     \
    {                                                                                          \
        ISA(dense)(P, V, dense, block, in, out, residual, out_plane);                          \
    }
