/* Sparse convolutions on panels: blocks of the map lie side by side in the lanes of vectors, so that no
 * load of pixels crosses a cache line (see scnn_patches). */

/* Columns [0, count) of a row of each block, as so many vectors: four or more. */
INLINE void ISA(load_columns)(const float *in, const int64_t *block, int count, float *out)
{
    for (int done = 0; done < count; done += 4) {
        const int c = done + 4 <= count ? done : count - 4;
        vec quad[4];
        UNROLL for (int i = 0; i < 4; i++)
            quad[i] = vec_load_quads(in + c, block + i);
        vec_transpose_quads(quad);
        UNROLL for (int i = 0; i < 4; i++)
            vec_store(out + (c + i) * LANES, quad[i]);
    }
}

/* The other way. */
INLINE void ISA(store_columns)(const vec *sum, const int64_t *place, int count, float *out)
{
    for (int done = 0; done < count; done += 4) {
        const int c = done + 4 <= count ? done : count - 4;
        vec quad[4];
        UNROLL for (int i = 0; i < 4; i++)
            quad[i] = sum[c + i];
        vec_transpose_quads(quad);
        UNROLL for (int i = 0; i < 4; i++)
            vec_store_quads(out + c, place + i, quad[i]);
    }
}

void ISA(f32_fill)(const scnn_patches *patches, const float *in, int32_t rows, float *out)
{
    for (int32_t i = 0; i < patches->patches; i++) {
        const float *x = in + patches->start[i];
        const int32_t lines = rows + patches->beyond[i];
        const int32_t columns = patches->columns + patches->across[i];
        float *y = out;
        for (int32_t r = 0; r < lines; r++, x += patches->pitch, y += patches->width * LANES)
            ISA(load_columns)(x, patches->block, columns, y);
        out += (int64_t)(patches->rows + patches->beyond[i]) * patches->width * LANES;
    }
}

/* The sums of one output channel; out of line, so that what it needs takes no registers from them. */
__attribute__((noinline)) static void ISA(store_blocks)(const scnn_matrix *matrix, int64_t block,
                                                        int rows, int columns, vec *sum,
                                                        const scnn_panel_tile *tile)
{
    const ISA(finish) finish = ISA(finish_of)(matrix, block);
    const int64_t plane = matrix->channel[block] * tile->plane;
    for (int r = 0; r < rows; r++, sum += columns) {
        const int64_t at = plane + r * tile->pitch;
        if (tile->residual) {
            float added[16 * LANES];
            ISA(load_columns)(tile->residual + at, tile->place, columns, added);
            for (int c = 0; c < columns; c++)
                sum[c] = vec_add(sum[c], vec_load(added + c * LANES));
        }
        for (int c = 0; c < columns; c++)
            sum[c] = ISA(finished)(&finish, sum[c]);
        ISA(store_columns)(sum, tile->place, columns, tile->out + at);
    }
}

INLINE void ISA(panel)(int rows, int columns, const scnn_matrix *given, int32_t block_begin,
                       int32_t block_end, const float *panel, int64_t width,
                       const scnn_panel_tile *tile, float *partial)
{
    const scnn_matrix matrix = *given; /* that no store can change */
    const int vectors = rows * columns;
    const uint64_t of_word = SCNN_WORD / sizeof(uint16_t);
    uint64_t e = matrix.start[block_begin];
    uint64_t word = ISA(word_at)(matrix.offset, e / of_word) >> e % of_word * 16;
    uint64_t next = ISA(word_at)(matrix.offset, e / of_word + (e % of_word > 0));
    panel += matrix.origin;
    for (int64_t b = block_begin; b < block_end; b++, partial += vectors * LANES) {
        vec sum[28];
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = matrix.first ? vec_set(matrix.bias[b]) : vec_load(partial + v * LANES);
        for (const uint64_t end = matrix.start[b + 1]; e < end; e++) {
            if (e % of_word == 0) {
                word = next;
                next = ISA(word_at)(matrix.offset, e / of_word + 1);
            }
            const float *x = panel + ((uint64_t)(uint16_t)word << matrix.unit);
            const vec w = vec_set(matrix.value[e]);
            word >>= 16;
            UNROLL for (int r = 0; r < rows; r++, x += width)
                UNROLL for (int c = 0; c < columns; c++)
                    sum[r * columns + c] =
                        vec_fma(w, vec_load(x + c * LANES), sum[r * columns + c]);
        }
        if (!matrix.last) {
            UNROLL for (int v = 0; v < vectors; v++)
                vec_store(partial + v * LANES, sum[v]);
            continue;
        }
        vec kept[28];
        UNROLL for (int v = 0; v < vectors; v++)
            kept[v] = sum[v];
        ISA(store_blocks)(given, b, rows, columns, kept, tile);
    }
}

/* The kernel of one tile size; its name ends in <rows>x<columns>v__<isa>. */
#define SCNN_PANEL_TILE(R, C)                                                                     \
    void ISA(f32_panel_##R##x##C##v)(const scnn_matrix *matrix, int32_t block_begin,              \
                                     int32_t block_end, const float *panel, int64_t width,        \
                                     const scnn_panel_tile *tile, float *partial)                 \
    {                                                                                             \
        ISA(panel)(R, C, matrix, block_begin, block_end, panel, width, tile, partial);            \
    }
