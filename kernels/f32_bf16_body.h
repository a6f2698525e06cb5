/* Convolution with dense weights on a matrix unit that multiplies bf16 numbers (AMX). Every float is the
 * sum of bf16 numbers: three hold all of its 24 bits, the first two 16. Of the products of the parts of
 * a weight and of a pixel those are added up, in floats, that matter: of two parts three (bf16x3, 2⁻¹⁵ off
 * at most), of three parts six (bf16x6, as exact as a product of floats). A register of the unit holds 16
 * lines of 64 bytes: of 16 pixels their 32 entries; of 16 pairs of entries the weights of 16 channels;
 * of sums, those of 16 pixels for 16 channels. So a tap moves by whole lines, none of which crosses a
 * cache line. */
#define TILE_BYTES 1024
#define LINE 64 /* bytes */
/* The first pass over a block's weights waits for memory. It reads so many lines so many steps ahead, for
 * the processor to fetch the others by itself; the later passes fetch lines of the next block, so many
 * a step: more would keep what they need themselves waiting. */
#define BEGUN 2
#define STEPS_AHEAD 3
#define MOST_FETCHED 6

/* All registers with 16 lines of 64 bytes. */
static inline void ISA(use_tiles)(void)
{
    struct {
        uint8_t palette, start_row, none[14];
        uint16_t line_bytes[16];
        uint8_t lines[16];
    } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.line_bytes[tile] = LINE;
        config.lines[tile] = 16;
    }
    _tile_loadconfig(&config);
}

/* Two vectors of floats as pairs of the nearest bf16 numbers, `first` in the lower halves. */
INLINE __m512i ISA(paired)(vec first, vec second)
{
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(0xffff0000);
    const __m512i x = _mm512_castps_si512(first), y = _mm512_castps_si512(second);
    /* what is no number must not overflow to zero */
    const __m512i a = _mm512_mask_add_epi32(x, _mm512_cmp_ps_mask(first, first, _CMP_ORD_Q), x, half);
    const __m512i b = _mm512_mask_add_epi32(y, _mm512_cmp_ps_mask(second, second, _CMP_ORD_Q), y, half);
    return _mm512_ternarylogic_epi32(_mm512_srli_epi32(a, 16), b, upper, 0xf8); /* a | b & upper */
}

INLINE vec ISA(entry)(const float *in, int32_t offset, uint32_t lanes)
{
    return offset < 0 ? vec_set(0.0f) : vec_load_lanes(in + offset, lanes);
}

/* What the bf16 number of a pair leaves of a float: exact. */
INLINE vec ISA(rest_of_first)(vec first, __m512i pair)
{
    return _mm512_sub_ps(first, _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)));
}

INLINE vec ISA(rest_of_second)(vec second, __m512i pair)
{
    const __m512i upper = _mm512_set1_epi32(0xffff0000);
    return _mm512_sub_ps(second, _mm512_castsi512_ps(_mm512_and_si512(pair, upper)));
}

/* The lines of one part of 32 entries at 16 positions. */
INLINE void ISA(split_lines)(int part, const int32_t *offset, const float *in, uint32_t lanes,
                             uint32_t *out)
{
    vec line[16];
    UNROLL for (int i = 0; i < 16; i++) {
        vec a = ISA(entry)(in, offset[2 * i], lanes), b = ISA(entry)(in, offset[2 * i + 1], lanes);
        __m512i pair = ISA(paired)(a, b);
        UNROLL for (int before = 0; before < part; before++) {
            a = ISA(rest_of_first)(a, pair);
            b = ISA(rest_of_second)(b, pair);
            pair = ISA(paired)(a, b);
        }
        line[i] = _mm512_castsi512_ps(pair);
    }
    vec_transpose(line);
    UNROLL for (int i = 0; i < 16; i++)
        _mm512_store_ps(out + i * LANES, line[i]);
}

void ISA(f32_split)(int32_t parts, const int32_t *offset, int64_t begin, int64_t end,
                    const float *in, int64_t size, uint32_t *lines, int64_t pitch, int64_t part)
{
    for (int64_t step = begin; step < end; step++)
        for (int64_t at = 0; at < size; at += LANES) {
            const uint32_t lanes = size - at < LANES ? (1u << (size - at)) - 1 : 0xffff;
            uint32_t *line = lines + (step * pitch + at) * LANES;
            ISA(split_lines)(0, offset + step * 32, in + at, lanes, line);
            ISA(split_lines)(1, offset + step * 32, in + at, lanes, line + part);
            if (parts == 3)
                ISA(split_lines)(2, offset + step * 32, in + at, lanes, line + 2 * part);
        }
}

/* One step: 32 entries of one or two tiles of pixels × one or two of channels. The registers 0 to 3
 * hold sums, 4 and 5 pixels, 6 and 7 weights. */
#define MULTIPLY(vectors, halves)                \
    do {                                         \
        _tile_dpbf16ps(0, 4, 6);                 \
        if (halves == 2)                         \
            _tile_dpbf16ps(1, 4, 7);             \
        if (vectors == 2)                        \
            _tile_dpbf16ps(2, 5, 6);             \
        if (halves == 2 && vectors == 2)         \
            _tile_dpbf16ps(3, 5, 7);             \
    } while (0)
#define LOAD_PIXELS(vectors, part)                                  \
    do {                                                            \
        _tile_loadd(4, x + part * of_part, LINE);                   \
        if (vectors == 2)                                           \
            _tile_loadd(5, x + part * of_part + 16 * LANES, LINE);  \
    } while (0)
#define LOAD_WEIGHTS(halves, part)                                           \
    do {                                                                     \
        _tile_loadd(6, weight + part * halves * TILE_BYTES, LINE);           \
        if (halves == 2)                                                     \
            _tile_loadd(7, weight + (part * halves + 1) * TILE_BYTES, LINE); \
    } while (0)

/* Finish and store the sums of one vector of pixels, number `first` of the run, for rows
 * [row, row + 16) of the matrix. */
static void ISA(store_tile)(const scnn_matrix *matrix, int64_t row, const float *sums, int32_t first,
                            const scnn_bf16_run *run)
{
    const ISA(layout) layout = ISA(layout_of)(run->store, first, 1);
    const uint32_t keep = layout == ISA(GAPS) ? run->store->keep[first] : 0xffff;
    const uint32_t tail = ISA(tail_of)(run->store, first, 1);
    const int64_t begin = (int64_t)first * LANES;
    const int32_t *channel = matrix->channel + row;
    ISA(finish) finish = ISA(finish_of)(matrix, row);
    vec sum[16];
    UNROLL for (int i = 0; i < 16; i++)
        sum[i] = vec_load(sums + i * LANES);
    vec_transpose(sum);
    if (layout == ISA(ELSEWHERE)) {
        ISA(store_elsewhere)(matrix, row, 16, 1, sum, first, run->out, run->residual,
                             run->out_plane, run->store);
        return;
    }
    UNROLL for (int i = 0; i < 16; i++) {
        const int64_t plane = channel[i] * run->out_plane;
        const float *residual = run->residual ? run->residual + plane : NULL;
        vec y = sum[i];
        if (channel[i] < 0)
            continue;
        if (residual)
            y = vec_add(y, vec_load_lanes(residual + begin, tail));
        if (finish.bent)
            finish.slope = vec_set(matrix->slope[row + i]);
        y = vec_keep(lanes_of(keep), ISA(finished)(&finish, y));
        vec_store_lanes(run->out + plane + begin, tail, y);
    }
}

/* Sums that wait until they are stored: `vectors` tiles of pixels for each of `halves` of channels. */
typedef struct {
    const scnn_matrix *matrix;
    const scnn_bf16_run *run;
    const float *sums;
    int64_t row;
    int32_t first;
    int vectors, tiles, stored;
} ISA(waiting);

INLINE void ISA(store_next)(ISA(waiting) *waiting)
{
    const int half = waiting->stored / waiting->vectors, v = waiting->stored % waiting->vectors;
    ISA(store_tile)(waiting->matrix, waiting->row + half * 16, waiting->sums + half * 512 + v * 256,
                    waiting->first + v, waiting->run);
    waiting->stored++;
}

/* The sums of one or two vectors of pixels × one or two tiles of channels. Of the weights of each step
 * `fetched` lines of the next block's, which begin with `next`, come into the second-level cache.
 * While the matrix unit multiplies, the vector units store the sums before these. */
INLINE void ISA(multiply)(int parts, int vectors, int halves, const scnn_bf16 *conv,
                          const float *bias, const char *weight, const char *next, int fetched,
                          const uint32_t *lines, int64_t pitch, int64_t of_part,
                          ISA(waiting) *waiting, float *sums)
{
    const int every = conv->steps * conv->taps / 4; /* steps: a tile is stored */
    int since = 0;
    const int64_t step_bytes = parts * halves * TILE_BYTES;
    _tile_loadd(0, bias, 0); /* every pixel begins with it */
    if (halves == 2)
        _tile_loadd(1, bias + LANES, 0);
    if (vectors == 2)
        _tile_loadd(2, bias, 0);
    if (halves == 2 && vectors == 2)
        _tile_loadd(3, bias + LANES, 0);
    for (int step = 0; step < conv->steps; step++)
        for (int tap = 0; tap < conv->taps; tap++) {
            const uint32_t *x = lines + (step * pitch + conv->shift[tap]) * LANES;
            for (int i = 0; i < BEGUN; i++)
                __builtin_prefetch(weight + STEPS_AHEAD * step_bytes + i * LINE, 0, 2);
            for (int i = 0; i < fetched; i++)
                __builtin_prefetch(next + i * LINE, 0, 2);
            LOAD_WEIGHTS(halves, 0);
            if (parts == 3) {
                LOAD_PIXELS(vectors, 2);
                MULTIPLY(vectors, halves);
            }
            LOAD_PIXELS(vectors, 1);
            MULTIPLY(vectors, halves);
            LOAD_PIXELS(vectors, 0);
            MULTIPLY(vectors, halves);
            if (parts == 3) {
                LOAD_WEIGHTS(halves, 2);
                MULTIPLY(vectors, halves);
            }
            LOAD_WEIGHTS(halves, 1);
            MULTIPLY(vectors, halves);
            if (parts == 3) {
                LOAD_PIXELS(vectors, 1);
                MULTIPLY(vectors, halves);
            }
            weight += step_bytes;
            next += step_bytes;
            if (++since >= every && waiting->stored < waiting->tiles) {
                ISA(store_next)(waiting);
                since = 0;
            }
        }
    while (waiting->stored < waiting->tiles)
        ISA(store_next)(waiting);
    _tile_stored(0, sums, LINE);
    if (halves == 2)
        _tile_stored(1, sums + 512, LINE);
    if (vectors == 2)
        _tile_stored(2, sums + 256, LINE);
    if (halves == 2 && vectors == 2)
        _tile_stored(3, sums + 768, LINE);
}

INLINE void ISA(bf16)(int parts, const scnn_bf16 *conv, const scnn_matrix *matrix, int64_t block,
                      const scnn_bf16_run *run)
{
    const int64_t row = conv->row[block];
    const int rows = (int)(conv->row[block + 1] - row);
    const char *weight = (const char *)(conv->weight + conv->start[block]);
    const float *bias = matrix->bias + row;
    const uint32_t *lines = run->lines + conv->source[block] * run->pitch * LANES;
    const char *next = weight + (int64_t)rows * conv->steps * conv->taps * parts * LINE;
    const int later = (run->count - 1) / 2; /* passes */
    const int fair = later ? (rows * parts - 1) / later + 1 : 0;
    const int share = fair < MOST_FETCHED ? fair : MOST_FETCHED;
    float sums[4 * 256] __attribute__((aligned(64)));
    ISA(waiting) waiting = {matrix, run, sums, row, 0, 1, 0, 0};
    ISA(use_tiles)();
    for (int32_t v = 0; v < run->count; v += 2, lines += 32 * LANES) {
        const int vectors = run->count - v < 2 ? 1 : 2, begun = (v / 2 - 1) * share;
        const int fetched = v && begun < rows * parts ? share : 0;
        for (int r = 0; r < rows; r++) { /* the places of the results come from afar */
            const int64_t channel = matrix->channel[row + r];
            const float *place = run->out + channel * run->out_plane + (run->first + v) * LANES;
            __builtin_prefetch(place, 1);
            __builtin_prefetch(place + LANES, 1);
        }
#define PASS(vectors, halves)                                                              \
    ISA(multiply)(parts, vectors, halves, conv, bias, weight, next + begun * LINE, fetched, \
                  lines, run->pitch, run->part, &waiting, sums)
        if (rows > 16 && vectors == 2)
            PASS(2, 2);
        else if (rows > 16)
            PASS(1, 2);
        else if (vectors == 2)
            PASS(2, 1);
        else
            PASS(1, 1);
        waiting.first = run->first + v, waiting.vectors = vectors;
        waiting.tiles = rows / 16 * vectors, waiting.stored = 0;
    }
    while (waiting.stored < waiting.tiles)
        ISA(store_next)(&waiting);
    _tile_release();
}

void ISA(f32_bf16x3)(const scnn_bf16 *conv, const scnn_matrix *matrix, int64_t block,
                     const scnn_bf16_run *run)
{
    ISA(bf16)(2, conv, matrix, block, run);
}

void ISA(f32_bf16x6)(const scnn_bf16 *conv, const scnn_matrix *matrix, int64_t block,
                     const scnn_bf16_run *run)
{
    ISA(bf16)(3, conv, matrix, block, run);
}
