/* Direct convolution with sparse, block-sparse or dense weights on padded channel planes.
 *
 * A tile of `rows` output channels × `vectors` vectors of pixels stays in registers while the
 * stream of non-zeros passes (Liu 2015 §4, Park 2017 §3.1: the position of a weight becomes a
 * constant offset into the padded input, so neither im2col nor an index test is needed). Each
 * entry costs one broadcast a row, one load a vector, and rows × vectors multiply-adds.
 */
#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

/* What happens to a sum before it is stored; the limits are kept in registers. */
typedef struct {
    vec low, high, slope;
    int32_t bent;
} ISA(finish);

INLINE ISA(finish) ISA(finish_of)(const scnn_matrix *matrix, int64_t row)
{
    ISA(finish) finish = {vec_set(matrix->low), vec_set(matrix->high), vec_set(0.0f), 0};
    if (matrix->slope) {
        finish.slope = vec_set(matrix->slope[row]);
        finish.bent = 1;
    }
    return finish;
}

INLINE vec ISA(finished)(const ISA(finish) *finish, vec y)
{
    if (finish->bent)
        y = vec_if_negative(y, vec_mul(y, finish->slope), y);
    return vec_min(finish->high, vec_max(finish->low, y));
}

INLINE void ISA(store_pieces)(const ISA(finish) *finish, int32_t at, vec sum, float *out,
                              const float *residual, const scnn_store *store)
{
    const int32_t end = store->piece[at + 1];
    out += (int64_t)at * LANES;
    if (!residual) {
        const vec y = ISA(finished)(finish, sum);
        for (int32_t p = store->piece[at]; p < end; p++)
            vec_store_lanes(out + store->shift[p], store->mask[p], y);
        return;
    }
    residual += (int64_t)at * LANES;
    for (int32_t p = store->piece[at]; p < end; p++) {
        const vec y = vec_add(sum, vec_load_lanes(residual + store->shift[p], store->mask[p]));
        vec_store_lanes(out + store->shift[p], store->mask[p], ISA(finished)(finish, y));
    }
}

INLINE void ISA(store_row)(const scnn_matrix *matrix, int64_t row, int vectors, const vec *sum,
                           int32_t first, float *out, const float *residual,
                           const scnn_store *store)
{
    const ISA(finish) finish = ISA(finish_of)(matrix, row);
    if (store->mode == SCNN_WHOLE && first + vectors <= store->whole) {
        const int64_t begin = (int64_t)first * LANES;
        UNROLL for (int v = 0; v < vectors; v++) {
            vec y = sum[v];
            if (residual)
                y = vec_add(y, vec_load(residual + begin + v * LANES));
            vec_store(out + begin + v * LANES,
                      vec_keep(store->keep[first + v], ISA(finished)(&finish, y)));
        }
    } else if (store->mode == SCNN_PACKED && !residual) {
        const int32_t last = first + vectors - 1;
        const int32_t end = store->at[last] + __builtin_popcount(store->keep[last]);
        UNROLL for (int v = 0; v < vectors; v++) {
            const int32_t at = first + v;
            const vec y = vec_permute(store->order + (int64_t)at * LANES,
                                      ISA(finished)(&finish, sum[v]));
            if (store->at[at] + LANES <= end)
                vec_store(out + store->at[at], y);
            else
                vec_store_lanes(out + store->at[at],
                                (1u << __builtin_popcount(store->keep[at])) - 1, y);
        }
    } else {
        UNROLL for (int v = 0; v < vectors; v++)
            ISA(store_pieces)(&finish, first + v, sum[v], out, residual, store);
    }
}

#define AHEAD 128 /* entries */
#define SCONV_STREAM(DELTA)                                                     \
    for (int64_t e = matrix->start[b]; e < matrix->start[b + 1]; e++) {         \
        x += (int64_t)((const DELTA *)matrix->delta)[e] << unit;                \
        vec xs[16];                                                             \
        UNROLL for (int v = 0; v < vectors; v++) {                              \
            xs[v] = vec_load(x + v * LANES);                                    \
            if (rows > 1)                                                       \
                vec_hold(xs[v]);                                                \
        }                                                                       \
        if (rows > 2) /* dense weights come from far, once for each tile */     \
            __builtin_prefetch(matrix->value + (e + AHEAD) * rows);             \
        UNROLL for (int r = 0; r < rows; r++) {                                 \
            const vec w = vec_set(matrix->value[e * rows + r]);                 \
            UNROLL for (int v = 0; v < vectors; v++)                            \
                sum[r][v] = vec_fma(w, xs[v], sum[r][v]);                       \
        }                                                                       \
    }

INLINE void ISA(sconv)(int rows, int vectors, const scnn_matrix *matrix, int32_t block_begin,
                       int32_t block_end, const float *in, int32_t first, float *out,
                       const float *residual, int64_t out_plane, const scnn_store *store,
                       float *partial)
{
    for (int64_t b = block_begin; b < block_end; b++, partial += rows * vectors * LANES) {
        const int32_t unit = matrix->unit;
        vec sum[16][16];
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[r][v] = matrix->first ? vec_set(matrix->bias[b * rows + r])
                                          : vec_load(partial + (r * vectors + v) * LANES);
        const float *x = in + matrix->origin[b] + (int64_t)first * LANES;
        if (matrix->delta_bytes == 2)
            SCONV_STREAM(uint16_t)
        else
            SCONV_STREAM(uint32_t)
        if (!matrix->last) {
            UNROLL for (int r = 0; r < rows; r++)
                UNROLL for (int v = 0; v < vectors; v++)
                    vec_store(partial + (r * vectors + v) * LANES, sum[r][v]);
            continue;
        }
        UNROLL for (int r = 0; r < rows; r++) {
            const int64_t row = b * rows + r;
            const int64_t plane = matrix->channel[row] * out_plane;
            if (matrix->channel[row] >= 0)
                ISA(store_row)(matrix, row, vectors, sum[r], first, out + plane,
                               residual ? residual + plane : NULL, store);
        }
    }
}

/* The kernel of one tile size; its name ends in <rows>x<vectors>v__<isa>. */
#define SCNN_SCONV(R, V)                                                                      \
    void ISA(f32_sconv_##R##x##V##v)(                                                         \
        const scnn_matrix *matrix, int32_t block_begin, int32_t block_end, const float *in,   \
        int32_t first, float *out, const float *residual, int64_t out_plane,                  \
        const scnn_store *store, float *partial)                                              \
    {                                                                                         \
        ISA(sconv)(R, V, matrix, block_begin, block_end, in, first, out, residual, out_plane, \
                   store, partial);                                                           \
    }
