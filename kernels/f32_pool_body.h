/* Max and average pooling of one plane with Caffe's windows: the window is clipped to the image;
 * an average divides by the window clipped to the padded image (pooling_layer.cpp). First the
 * rows of a window are combined, then the columns of every window inside. */
INLINE int ISA(least)(int a, int b) { return a < b ? a : b; }
INLINE int ISA(most)(int a, int b) { return a > b ? a : b; }

/* Output columns [*first, *last) whose windows lie wholly inside the image. */
INLINE void ISA(interior)(const scnn_pool *pool, int *first, int *last)
{
    const int room = pool->width - pool->kernel_w + pool->pad_w;
    *first = ISA(least)((pool->pad_w + pool->stride_w - 1) / pool->stride_w, pool->out_width);
    *last = room < 0 ? 0 : ISA(least)(room / pool->stride_w + 1, pool->out_width);
    *last = ISA(most)(*first, *last);
}

INLINE vec ISA(joined)(vec a, vec b, int max)
{
    return max ? vec_max(a, b) : vec_add(a, b);
}

/* LANES columns from `in` on, `height` rows combined. */
INLINE vec ISA(column_vector)(const float *in, int64_t pitch, int height, uint32_t mask, int max)
{
    vec sum = vec_load_lanes(in, mask);
    for (int i = 1; i < height; i++)
        sum = ISA(joined)(vec_load_lanes(in + i * pitch, mask), sum, max);
    return sum;
}

/* Combine `height` rows of the plane into `rows`, LANES columns at a time. */
INLINE void ISA(combine_rows)(const scnn_pool *pool, const float *in, int height, float *rows,
                              int max)
{
    for (int x = 0; x < pool->width; x += LANES)
        vec_store(rows + x, ISA(column_vector)(in + x, pool->in_pitch, height,
                                               ISA(lanes_left)(pool->width - x), max));
}

/* One window of any size; what lies inside the image begins at `in`. */
INLINE float ISA(window)(const float *in, int64_t pitch, int height, int width, int max)
{
    float sum = 0.0f, part[LANES];
    for (int x = 0; x < width; x += LANES) {
        const vec columns = ISA(column_vector)(in + x, pitch, height, ISA(lanes_left)(width - x), max);
        if (!max) { /* lanes behind the window are zero */
            sum += vec_sum(columns);
            continue;
        }
        vec_store(part, columns);
        sum = x == 0 || part[0] > sum ? part[0] : sum;
        for (int j = 1; j < LANES && j < width - x; j++)
            sum = part[j] > sum ? part[j] : sum;
    }
    return sum;
}

/* One column, in all lanes. */
INLINE vec ISA(column)(const float *in, int64_t pitch, int height, int max)
{
    vec sum = vec_set(*in);
    for (int i = 1; i < height; i++)
        sum = ISA(joined)(vec_set(in[i * pitch]), sum, max);
    return sum;
}

/* LANES whole columns. */
INLINE vec ISA(columns)(const float *in, int64_t pitch, int height, int max)
{
    vec sum = vec_load(in);
    for (int i = 1; i < height; i++)
        sum = ISA(joined)(vec_load(in + i * pitch), sum, max);
    return sum;
}

/* LANES windows of kw columns with a stride of 1 or 2. Nothing is read behind the last: every second column
 * from the third on are the odd ones from the second on. */
INLINE vec ISA(full_windows)(const float *at, int64_t pitch, int height, int kw, int stride, int max)
{
    vec sum = ISA(columns)(at, pitch, height, max);
    if (stride == 1) {
        UNROLL for (int j = 1; j < kw; j++)
            sum = ISA(joined)(ISA(columns)(at + j, pitch, height, max), sum, max);
        return sum;
    }
    const vec b = ISA(columns)(at + LANES, pitch, height, max);
    const vec odd = vec_odds(sum, b);
    sum = ISA(joined)(odd, vec_evens(sum, b), max);
    if (kw == 3) {
        const vec c = ISA(columns)(at + 1, pitch, height, max);
        const vec d = ISA(columns)(at + LANES + 1, pitch, height, max);
        sum = ISA(joined)(vec_odds(c, d), sum, max);
    }
    return vec_in_order(sum);
}

/* The windows [begin, end) of a row, all inside: columns are combined in registers, and those of the next taps
 * are moved on by one window. Where a part of a vector takes several instructions, rows have no parts, but a last
 * vector that overlaps the one before, if they fill one. */
INLINE void ISA(small_windows)(const scnn_pool *pool, const float *in, int height, float *result,
                               int begin, int end, int kw, int stride, float share, int max)
{
    const int64_t pitch = pool->in_pitch;
    if (!MASKS && end - begin >= LANES) {
        int x = begin;
        do {
            const vec sum = ISA(full_windows)(in + x * stride - pool->pad_w, pitch, height, kw, stride, max);
            vec_store(result + x, max ? sum : vec_mul(sum, vec_set(share)));
        } while (ISA(dw_next)(&x, end - LANES));
        return;
    }
    for (int x = begin; x < end; x += LANES) {
        const float *at = in + x * stride - pool->pad_w;
        const int more = end - x < LANES ? end - x : LANES;
        const int wide = (more - 1) * stride + kw; /* columns of these windows */
        vec tap[3];
        tap[0] = ISA(column_vector)(at, pitch, height, ISA(lanes_left)(wide), max);
        if (stride == 2) {
            const uint32_t mask = wide > LANES ? ISA(lanes_left)(wide - LANES) : 0;
            const vec b = ISA(column_vector)(at + LANES, pitch, height, mask, max);
            tap[1] = vec_odd(tap[0], b);
            tap[0] = vec_even(tap[0], b);
        }
        UNROLL for (int j = stride; j < kw; j++) {
            const int last = stride * LANES + j - stride; /* column of the last window, if it is full */
            const vec b = ISA(column)(at + (last < wide ? last : 0), pitch, height, max);
            tap[j] = vec_next(tap[j - stride], b);
        }
        vec sum = tap[0];
        UNROLL for (int j = 1; j < kw; j++)
            sum = ISA(joined)(tap[j], sum, max);
        vec_store_lanes(result + x, ISA(lanes_left)(more), max ? sum : vec_mul(sum, vec_set(share)));
    }
}

/* Combine the columns of the windows [begin, end), all inside, where the stride is 1 or 2. */
INLINE void ISA(combine_columns)(const scnn_pool *pool, const float *rows, float *result, int begin,
                                 int end, int stride, float share, int max)
{
    for (int x = begin; x < end; x += LANES) {
        const uint32_t mask = ISA(lanes_left)(end - x);
        const float *at = rows + x * stride - pool->pad_w;
        vec sum = ISA(load_apart)(at, stride);
        for (int j = 1; j < pool->kernel_w; j++) {
            const vec next = ISA(load_apart)(at + j, stride);
            sum = ISA(joined)(next, sum, max);
        }
        vec_store_lanes(result + x, mask, max ? sum : vec_mul(sum, vec_set(share)));
    }
}

/* The windows [begin, end) of a row, all inside; sizes that published nets use are known here. */
INLINE void ISA(whole_windows)(const scnn_pool *pool, const float *in, int height, float *rows,
                               float *result, int begin, int end, float share, int max)
{
    const int kw = pool->kernel_w, stride = pool->stride_w;
    if (kw == 3 && stride == 2 && height == 3)
        ISA(small_windows)(pool, in, 3, result, begin, end, 3, 2, share, max);
    else if (kw == 3 && stride == 1 && height == 3)
        ISA(small_windows)(pool, in, 3, result, begin, end, 3, 1, share, max);
    else if (kw == 2 && stride == 2 && height == 2)
        ISA(small_windows)(pool, in, 2, result, begin, end, 2, 2, share, max);
    else if (end - begin == 1) { /* as where the window is the image */
        const float sum = ISA(window)(in + begin * stride - pool->pad_w, pool->in_pitch, height, kw, max);
        result[begin] = max ? sum : sum * share;
    } else {
        ISA(combine_rows)(pool, in, height, rows, max);
        if (stride == 1)
            ISA(combine_columns)(pool, rows, result, begin, end, 1, share, max);
        else
            ISA(combine_columns)(pool, rows, result, begin, end, 2, share, max);
    }
}

/* Windows of three columns, of which the first and the last of a row reach a column beyond it: what lanes of columns
 * are moved to then. Outside lies what a maximum has anyway, and for an average zero. */
typedef struct {
    uint8_t before[LANES], after[LANES];
    vec_lanes inside_before, inside_after;
} ISA(edges);

INLINE void ISA(find_edges)(ISA(edges) *edges, int width, int max)
{
    const int last = ISA(least)(width, LANES) - 1;
    const uint32_t all = ~0u >> (32 - LANES);
    for (int i = 0; i < LANES; i++) {
        edges->before[i] = (uint8_t)ISA(most)(i - 1, 0);
        edges->after[i] = (uint8_t)ISA(least)(i + 1, last);
    }
    edges->inside_before = lanes_of(max ? all : all & ~1u);
    edges->inside_after = lanes_of(max ? all : all & ~(1u << last));
}

INLINE vec ISA(three)(vec a, vec b, vec c, float share, int max)
{
    const vec sum = ISA(joined)(c, ISA(joined)(b, a, max), max);
    return max ? sum : vec_mul(sum, vec_set(share));
}

/* A row of such windows; the last vector overlaps the one before. Narrower rows are stored with zeros behind them
 * where another row follows (`more`), which comes later. */
INLINE void ISA(same_windows)(const scnn_pool *pool, const float *in, int height, float *result,
                              const ISA(edges) *edges, int more, float share, int max)
{
    const int64_t pitch = pool->in_pitch;
    const int width = pool->width;
    if (width < LANES) {
        const uint32_t mask = ISA(lanes_left)(width);
        const vec here = ISA(column_vector)(in, pitch, height, mask, max);
        const vec before = vec_keep(edges->inside_before, vec_permute(edges->before, here));
        const vec after = vec_keep(edges->inside_after, vec_permute(edges->after, here));
        const vec sum = ISA(three)(before, here, after, share, max);
        if (more)
            vec_store(result, vec_keep(lanes_of(mask), sum));
        else
            vec_store_lanes(result, mask, sum);
        return;
    }
    int x = 0;
    do {
        const vec here = ISA(columns)(in + x, pitch, height, max);
        const vec before = x ? ISA(columns)(in + x - 1, pitch, height, max)
                             : vec_keep(edges->inside_before, vec_permute(edges->before, here));
        const vec after = x + LANES < width
                              ? ISA(columns)(in + x + 1, pitch, height, max)
                              : vec_keep(edges->inside_after, vec_permute(edges->after, here));
        vec_store(result + x, ISA(three)(before, here, after, share, max));
    } while (ISA(dw_next)(&x, width - LANES));
}

/* Where the windows of row y lie: rows of the image from `first` on, so many `inside`, of `height` with the padding. */
typedef struct {
    int first, inside, height;
} ISA(window_rows);

INLINE ISA(window_rows) ISA(rows_of)(const scnn_pool *pool, int y)
{
    const int top = y * pool->stride_h - pool->pad_h, first = ISA(most)(top, 0);
    const int bottom = ISA(least)(top + pool->kernel_h, pool->height + pool->pad_h);
    return (ISA(window_rows)){first, ISA(least)(bottom, pool->height) - first, bottom - top};
}

INLINE void ISA(same_pool)(const scnn_pool *pool, const float *in, float *out, int max)
{
    ISA(edges) edges;
    ISA(find_edges)(&edges, pool->width, max);
    for (int y = 0; y < pool->out_height; y++) {
        const ISA(window_rows) rows = ISA(rows_of)(pool, y);
        const float share = 1.0f / (float)(3 * rows.height), *window = in + rows.first * pool->in_pitch;
        float *result = out + y * pool->out_pitch;
        const int more = (pool->out_height - 1 - y) * pool->out_pitch + pool->out_width >= LANES;
        if (rows.inside == 3) /* a constant for the compiler */
            ISA(same_windows)(pool, window, 3, result, &edges, more, share, max);
        else
            ISA(same_windows)(pool, window, rows.inside, result, &edges, more, share, max);
    }
}

INLINE void ISA(pool)(const scnn_pool *pool, const float *in, float *out, float *scratch, int max)
{
    int begin, end;
    if (pool->kernel_w == 3 && pool->stride_w == 1 && pool->pad_w == 1 && pool->out_width == pool->width) {
        ISA(same_pool)(pool, in, out, max);
        return;
    }
    ISA(interior)(pool, &begin, &end);
    if (pool->stride_w > 2)
        begin = end = 0;
    for (int y = 0; y < pool->out_height; y++) {
        const ISA(window_rows) rows = ISA(rows_of)(pool, y);
        const float share = 1.0f / (float)(rows.height * pool->kernel_w);
        const float *window = in + rows.first * pool->in_pitch;
        float *result = out + y * pool->out_pitch;
        if (begin < end)
            ISA(whole_windows)(pool, window, rows.inside, scratch, result, begin, end, share, max);
        for (int x = begin ? 0 : end; x < pool->out_width; x = x + 1 == begin ? end : x + 1) {
            const int left = x * pool->stride_w - pool->pad_w, right = left + pool->kernel_w;
            const int from = ISA(most)(left, 0), to = ISA(least)(right, pool->width);
            const int width = ISA(least)(right, pool->width + pool->pad_w) - left;
            const float sum = ISA(window)(window + from, pool->in_pitch, rows.inside, to - from, max);
            result[x] = max ? sum : sum / (float)(rows.height * width);
        }
    }
}

void ISA(f32_maxpool)(const scnn_pool *pool, const float *in, float *out, float *scratch)
{
    ISA(pool)(pool, in, out, scratch, 1);
}

void ISA(f32_avepool)(const scnn_pool *pool, const float *in, float *out, float *scratch)
{
    ISA(pool)(pool, in, out, scratch, 0);
}
