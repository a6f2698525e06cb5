/* Direct convolution with sparse, block-sparse or dense weights on padded channel planes.
 *
 * A tile of `rows` output channels × `vectors` vectors of pixels stays in registers while the
 * stream of non-zeros passes (Liu 2015 §4, Park 2017 §3.1: the position of a weight becomes a
 * constant offset into the padded input, so neither im2col nor an index test is needed). Each
 * entry costs one broadcast a row, one load a vector, and rows × vectors multiply-adds.
 */
#define UNROLL _Pragma("GCC unroll 32")
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

/* Rows that do not lie in the output as they lie in the run: sum holds `vectors` vectors of each. Out
 * of line, so that what it needs takes no registers from the rest. */
__attribute__((noinline)) static void ISA(store_elsewhere)(
    const scnn_matrix *matrix, int64_t row, int rows, int vectors, const vec *sum, int32_t first,
    float *out, const float *residual, int64_t out_plane, const scnn_store *given)
{
    const scnn_store store = *given; /* that no store can change */
    const int32_t *channel = matrix->channel + row;
    const float *slope = matrix->slope ? matrix->slope + row : NULL;
    ISA(finish) finish = ISA(finish_of)(matrix, row);
    const int32_t begin = store.piece[first], behind = store.piece[first + vectors];
    const int64_t end = begin < behind ? store.place[behind - 1] + __builtin_popcount(store.lane[behind - 1]) : 0;
    for (int32_t p = begin; p < behind; p++) {
        const vec *from = sum + (store.vector[p] - first);
        const uint32_t lane = store.lane[p];
        const int64_t place = store.place[p];
        const int whole = place + LANES <= end;
        for (int r = 0; r < rows; r++, from += vectors) {
            const int64_t at = channel[r] * out_plane + place;
            if (channel[r] < 0)
                continue;
            vec y = vec_permute(store.order + (int64_t)p * LANES, *from);
            if (residual)
                y = vec_add(y, vec_load_lanes(residual + at, lane));
            if (slope)
                finish.slope = vec_set(slope[r]);
            y = ISA(finished)(&finish, y);
            if (whole)
                vec_store(out + at, vec_keep(lanes_of(lane), y));
            else
                vec_store_lanes(out + at, lane, y);
        }
    }
}

/* How the rows of one tile lie in the output: elsewhere, in place with gaps, in place. */
typedef enum { ISA(ELSEWHERE), ISA(GAPS), ISA(IN_PLACE) } ISA(layout);

INLINE ISA(layout) ISA(layout_of)(const scnn_store *store, int32_t first, int vectors)
{
    const uint32_t all = ~0u >> (32 - LANES);
    uint32_t keep = all;
    if (!store->whole)
        return ISA(ELSEWHERE);
    for (int v = 0; v < vectors; v++)
        keep &= store->keep[first + v];
    return keep == all ? ISA(IN_PLACE) : ISA(GAPS);
}

/* Lanes of the last vector of a tile that belong to the run. */
INLINE uint32_t ISA(tail_of)(const scnn_store *store, int32_t first, int vectors)
{
    return first + vectors > store->last ? store->tail : ~0u >> (32 - LANES);
}

/* The gaps of a tile: its lanes that are kept, and those of its last vector that belong to the run. */
typedef struct {
    vec_lanes keep[16];
    uint32_t tail;
} ISA(gaps);

INLINE void ISA(find_gaps)(ISA(gaps) *gaps, const scnn_store *store, int32_t first, int vectors)
{
    gaps->tail = ISA(tail_of)(store, first, vectors);
    for (int v = 0; v < vectors; v++)
        gaps->keep[v] = lanes_of(store->keep[first + v]);
}

/* Gaps (NULL: there are none) become zero; behind the run nothing is written. */
INLINE void ISA(store_row)(const ISA(finish) *finish, int vectors, vec *sum,
                           float *out, const float *residual, const ISA(gaps) *gaps)
{
    const int last = vectors - 1;
    if (residual) {
        UNROLL for (int v = 0; v < last; v++)
            sum[v] = vec_add(sum[v], vec_load(residual + v * LANES));
        sum[last] = vec_add(sum[last], gaps ? vec_load_lanes(residual + last * LANES, gaps->tail)
                                            : vec_load(residual + last * LANES));
    }
    UNROLL for (int v = 0; v < vectors; v++)
        sum[v] = ISA(finished)(finish, sum[v]);
    if (gaps)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = vec_keep(gaps->keep[v], sum[v]);
    UNROLL for (int v = 0; v < last; v++)
        vec_store(out + v * LANES, sum[v]);
    if (gaps)
        vec_store_lanes(out + last * LANES, gaps->tail, sum[last]);
    else
        vec_store(out + last * LANES, sum[last]);
}

INLINE void ISA(store_block)(const scnn_matrix *matrix, int64_t block, int rows, int vectors,
                             ISA(finish) finish, vec (*sum)[16], float *out,
                             const float *residual, int64_t out_plane, const ISA(gaps) *gaps)
{
    UNROLL for (int r = 0; r < rows; r++) {
        const int64_t row = block * rows + r, plane = matrix->channel[row] * out_plane;
        if (matrix->channel[row] < 0)
            continue;
        if (finish.bent)
            finish.slope = vec_set(matrix->slope[row]);
        ISA(store_row)(&finish, vectors, sum[r], out + plane, residual ? residual + plane : NULL, gaps);
    }
}

/* Word number `word` of the offsets, however they lie in memory. */
INLINE uint64_t ISA(word_at)(const void *offset, uint64_t word)
{
    uint64_t found;
    memcpy(&found, (const char *)offset + word * SCNN_WORD, SCNN_WORD);
    return found;
}

#define FETCH 128 /* dense weights come from far, once for each tile: so many entries ahead */
#define OF_LINE (64 / (int)sizeof(float))

/* sum[v] += *w · x[v] */
INLINE void ISA(add_products)(int rows, int vectors, const float *w, const vec *x, vec *sum)
{
#if FMA_ROWS
    if (rows > 1 && vectors > 1) {
        vec_fma_row(vectors, w, x, sum);
        return;
    }
#endif
    const vec spread = vec_set(*w);
    UNROLL for (int v = 0; v < vectors; v++)
        sum[v] = vec_fma(spread, x[v], sum[v]);
}

/* An entry of a block of rows: its weights, and the pixels they read. */
INLINE void ISA(add_entry)(int rows, int vectors, const float *w, const float *x, vec (*sum)[16])
{
    vec xs[16];
    UNROLL for (int v = 0; v < vectors; v++) {
        xs[v] = vec_load(x + v * LANES);
        if (rows > 1)
            vec_hold(xs[v]);
    }
    UNROLL for (int r = 0; r < rows; r++)
        ISA(add_products)(rows, vectors, w + r, xs, sum[r]);
}

/* Offsets of single rows are read by words, a word ahead of their use and on across the ends of
 * blocks: the loads of pixels keep the load ports busy, and what is read behind them comes too late. */
#define SCONV_SINGLE(OFFSET)                                           \
    for (; e < end; e++) {                                             \
        const uint64_t of_word = SCNN_WORD / sizeof(OFFSET);           \
        if (e % of_word == 0) {                                        \
            word = next;                                               \
            next = ISA(word_at)(matrix.offset, e / of_word + 1);       \
        }                                                              \
        const float *x = in + ((uint64_t)(OFFSET)word << matrix.unit); \
        word >>= 8 * sizeof(OFFSET);                                   \
        ISA(add_entry)(rows, vectors, matrix.value + e, x, sum);       \
    }

/* Blocks of rows; AT(i): where entry e + i reads. Instructions are what these loops run short of where another
 * thread shares the core: four entries at a time ask for each line of weights once. */
#define SCONV_BLOCK(AT)                                                     \
    do {                                                                    \
        const float *w = matrix.value + e * rows, *x = in;                  \
        for (; e + 4 <= end; e += 4) {                                      \
            if (rows > 1)                                                   \
                UNROLL for (int i = 0; i < 4 * rows; i += OF_LINE)          \
                    __builtin_prefetch(w + FETCH * rows + i);               \
            UNROLL for (int i = 0; i < 4; i++, w += rows, x += matrix.step) \
                ISA(add_entry)(rows, vectors, w, AT(i), sum);               \
        }                                                                   \
        for (; e < end; e++, w += rows, x += matrix.step)                   \
            ISA(add_entry)(rows, vectors, w, AT(0), sum);                   \
    } while (0)
#define AT_STEP(i) x
#define AT_SHORT(i) (in + ((uint64_t)((const uint16_t *)matrix.offset)[e + (i)] << matrix.unit))
#define AT_LONG(i) (in + ((uint64_t)((const uint32_t *)matrix.offset)[e + (i)] << matrix.unit))

/* What becomes of the sums of a block, the most frequent first: fewer instructions between two blocks are up
 * to a tenth of a layer with few input channels. */
typedef enum {
    ISA(CLAMPED),
    ISA(CLAMPED_WITH_GAPS),
    ISA(PARTIAL),
    ISA(FINISHED), /* also bent, or with a residual */
    ISA(MOVED)
} ISA(outcome);

INLINE ISA(outcome) ISA(outcome_of)(const scnn_matrix *matrix, ISA(layout) layout, const float *residual)
{
    if (!matrix->last)
        return ISA(PARTIAL);
    if (layout == ISA(ELSEWHERE))
        return ISA(MOVED);
    if (residual || matrix->slope)
        return ISA(FINISHED);
    return layout == ISA(GAPS) ? ISA(CLAMPED_WITH_GAPS) : ISA(CLAMPED);
}

INLINE void ISA(sconv)(int rows, int vectors, const scnn_matrix *given, int32_t block_begin,
                       int32_t block_end, const float *in, int32_t first, float *out,
                       const float *residual, int64_t out_plane, const scnn_store *store,
                       float *partial)
{
    const scnn_matrix matrix = *given; /* that no store can change */
    const int64_t begin = (int64_t)first * LANES;
    const ISA(layout) layout = ISA(layout_of)(store, first, vectors);
    ISA(gaps) found, *gaps = layout == ISA(GAPS) ? &found : NULL;
    if (gaps)
        ISA(find_gaps)(gaps, store, first, vectors);
    const ISA(finish) finish = ISA(finish_of)(&matrix, 0);
    const ISA(finish) limits = {finish.low, finish.high, finish.low, 0};
    const ISA(outcome) outcome = ISA(outcome_of)(&matrix, layout, residual);
    uint64_t e = matrix.start[block_begin];
    const uint64_t bytes = e * matrix.offset_bytes, inside = bytes % SCNN_WORD;
    uint64_t word = ISA(word_at)(matrix.offset, bytes / SCNN_WORD) >> 8 * inside;
    uint64_t next = ISA(word_at)(matrix.offset, bytes / SCNN_WORD + (inside > 0));
    in += matrix.origin;
    for (int64_t b = block_begin; b < block_end; b++, partial += rows * vectors * LANES) {
        vec sum[16][16];
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[r][v] = matrix.first ? vec_set(matrix.bias[b * rows + r])
                                         : vec_load(partial + (r * vectors + v) * LANES);
        const uint64_t end = matrix.start[b + 1];
        if (rows == 1 && matrix.offset_bytes == 2)
            SCONV_SINGLE(uint16_t)
        else if (rows == 1)
            SCONV_SINGLE(uint32_t)
        else if (rows > 1 && matrix.step) /* offsets that rise evenly are not read at all */
            SCONV_BLOCK(AT_STEP);
        else if (matrix.offset_bytes == 2)
            SCONV_BLOCK(AT_SHORT);
        else
            SCONV_BLOCK(AT_LONG);
        if (outcome == ISA(CLAMPED)) {
            ISA(store_block)(&matrix, b, rows, vectors, limits, sum, out + begin, NULL, out_plane, NULL);
        } else if (outcome == ISA(CLAMPED_WITH_GAPS)) {
            ISA(store_block)(&matrix, b, rows, vectors, limits, sum, out + begin, NULL, out_plane, gaps);
        } else if (outcome == ISA(PARTIAL)) {
            UNROLL for (int r = 0; r < rows; r++)
                UNROLL for (int v = 0; v < vectors; v++)
                    vec_store(partial + (r * vectors + v) * LANES, sum[r][v]);
        } else if (outcome == ISA(FINISHED)) {
            ISA(store_block)(&matrix, b, rows, vectors, finish, sum, out + begin,
                             residual ? residual + begin : NULL, out_plane, gaps);
        } else {
            vec kept[16 * 16];
            UNROLL for (int r = 0; r < rows; r++)
                UNROLL for (int v = 0; v < vectors; v++)
                    kept[r * vectors + v] = sum[r][v];
            ISA(store_elsewhere)(given, b * rows, rows, vectors, kept, first, out, residual,
                                 out_plane, store);
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
