/* Direct convolution with dense weights whose vectors run along output channels: `pixels` neighbours
 * of one output row, or of two on narrow maps, × `vectors` vectors of channels stay in registers. Each
 * entry (an input channel and a tap) loads its weights once for all pixels and broadcasts one input
 * value a pixel, so that no lane is lost on narrow maps. The sums are transposed into channel planes at
 * the end. Only for AVX-512: with 16 registers of 8 lanes the other form of the convolution is as
 * fast. */
#define WEIGHTS_AHEAD 24 /* entries */
INLINE void ISA(store_channels)(int rows, int pixels, const scnn_dense *dense,
                                const int32_t *channel, vec *sum, scnn_dense_tile tile)
{
    const uint32_t row = (uint32_t)((1ull << pixels) - 1);
    ISA(finish) finish = {vec_set(dense->low), vec_set(dense->high), vec_set(0.0f),
                          dense->slope != NULL};
    vec_transpose(sum);
    for (int i = 0; i < LANES && channel[i] >= 0; i++) {
        if (finish.bent)
            finish.slope = vec_set(dense->slope[channel[i]]);
        UNROLL for (int r = 0; r < rows; r++) { /* lanes of row r: from r · pixels on */
            const int64_t at = channel[i] * tile.out_plane + r * (tile.out_pitch - pixels);
            const uint32_t mask = row << r * pixels;
            vec y = sum[i];
            if (tile.residual)
                y = vec_add(y, vec_load_lanes(tile.residual + at, mask));
            vec_store_lanes(tile.out + at, mask, ISA(finished)(&finish, y));
        }
    }
}

INLINE void ISA(dense)(int rows, int pixels, int vectors, const scnn_dense *dense, int64_t block,
                       scnn_dense_tile tile)
{
    const int width = vectors * LANES, all = rows * pixels;
    const float *bias = dense->bias + block * width;
    vec sum[2][16];
    UNROLL for (int v = 0; v < vectors; v++)
        UNROLL for (int p = 0; p < all; p++)
            sum[v][p] = vec_load(bias + v * LANES);
    const float *weight = dense->weight + dense->start[block] * width;
    const char *ahead = rows == 2 ? tile.ahead : NULL;
    for (int64_t e = dense->start[block]; e < dense->start[block + 1]; e++, weight += width) {
        const float *x = tile.in + dense->offset[e];
        vec w[2];
        UNROLL for (int v = 0; v < vectors; v++) {
            w[v] = vec_load(weight + v * LANES);
            vec_hold(w[v]);
            __builtin_prefetch(weight + (WEIGHTS_AHEAD * vectors + v) * LANES);
        }
        if (rows == 2) {
            __builtin_prefetch(ahead, 0, 2); /* into the second level */
            ahead += tile.step;
        }
        UNROLL for (int p = 0; p < all; p++) {
            const vec pixel = vec_set(p < pixels ? x[p] : x[tile.in_pitch + p - pixels]);
            UNROLL for (int v = 0; v < vectors; v++)
                sum[v][p] = vec_fma(w[v], pixel, sum[v][p]);
        }
    }
    UNROLL for (int v = 0; v < vectors; v++) {
        UNROLL for (int p = all; p < LANES; p++)
            sum[v][p] = vec_set(0.0f);
        ISA(store_channels)(rows, pixels, dense, dense->channel + block * width + v * LANES, sum[v],
                            tile);
    }
}

/* The kernel of one tile size; its name ends in <pixels>x<vectors>v__<isa>. */
#define ROWS_dense 1
#define ROWS_pair 2
#define SCNN_DENSE_TILE(op, P, V)                                              \
    void ISA(f32_##op##_##P##x##V##v)(const scnn_dense *dense, int64_t block,  \
                                      const scnn_dense_tile *tile)             \
    {                                                                          \
        ISA(dense)(ROWS_##op, P, V, dense, block, *tile);                      \
    }
