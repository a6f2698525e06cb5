/* Max and average pooling of one plane with Caffe's windows: the window is clipped to the image;
 * an average divides by the window clipped to the padded image (pooling_layer.cpp). First the
 * rows of a window are combined over the whole width, then the columns of every window inside. */
INLINE int ISA(least)(int a, int b) { return a < b ? a : b; }
INLINE int ISA(most)(int a, int b) { return a > b ? a : b; }

/* The columns of one window that lie inside the image. */
INLINE void ISA(columns)(const scnn_pool *pool, int x, int *left, int *right)
{
    const int begin = x * pool->stride_w - pool->pad_w;
    *left = ISA(most)(begin, 0);
    *right = ISA(least)(begin + pool->kernel_w, pool->width);
}

/* Output columns [*first, *last) whose windows lie wholly inside the image. */
INLINE void ISA(interior)(const scnn_pool *pool, int *first, int *last)
{
    const int room = pool->width - pool->kernel_w + pool->pad_w;
    *first = ISA(least)((pool->pad_w + pool->stride_w - 1) / pool->stride_w, pool->out_width);
    *last = room < 0 ? 0 : ISA(least)(room / pool->stride_w + 1, pool->out_width);
    *last = ISA(most)(*first, *last);
}

/* Combine rows [first, last) of the plane into `rows`, LANES columns at a time. */
INLINE void ISA(combine_rows)(const scnn_pool *pool, const float *in, int first, int last,
                              float *rows, int max)
{
    for (int x = 0; x < pool->width; x += LANES) {
        const uint32_t mask = ISA(lanes_left)(pool->width - x);
        const float *at = in + first * pool->in_pitch + x;
        vec sum = vec_load_lanes(at, mask);
        for (int i = first + 1; i < last; i++) {
            at += pool->in_pitch;
            sum = max ? vec_max(vec_load_lanes(at, mask), sum)
                      : vec_add(vec_load_lanes(at, mask), sum);
        }
        vec_store(rows + x, sum);
    }
}

/* The combined columns of a window that hangs over an edge. */
INLINE float ISA(edge)(const scnn_pool *pool, const float *rows, int x, int max)
{
    int left, right;
    ISA(columns)(pool, x, &left, &right);
    float sum = rows[left];
    for (int j = left + 1; j < right; j++)
        sum = !max ? sum + rows[j] : rows[j] > sum ? rows[j] : sum;
    return sum;
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
            sum = max ? vec_max(next, sum) : vec_add(next, sum);
        }
        vec_store_lanes(result + x, mask, max ? sum : vec_mul(sum, vec_set(share)));
    }
}

INLINE void ISA(pool)(const scnn_pool *pool, const float *in, float *out, float *rows, int max)
{
    int begin, end;
    ISA(interior)(pool, &begin, &end);
    if (pool->stride_w > 2)
        begin = end = 0;
    for (int y = 0; y < pool->out_height; y++) {
        const int top = y * pool->stride_h - pool->pad_h;
        const int height = ISA(least)(top + pool->kernel_h, pool->height + pool->pad_h) - top;
        const int last = ISA(least)(top + pool->kernel_h, pool->height);
        const float share = 1.0f / (float)(height * pool->kernel_w);
        float *result = out + y * pool->out_pitch;
        ISA(combine_rows)(pool, in, ISA(most)(top, 0), last, rows, max);
        if (pool->stride_w == 1)
            ISA(combine_columns)(pool, rows, result, begin, end, 1, share, max);
        else
            ISA(combine_columns)(pool, rows, result, begin, end, 2, share, max);
        for (int x = begin ? 0 : end; x < pool->out_width; x = x + 1 == begin ? end : x + 1) {
            const int left = x * pool->stride_w - pool->pad_w;
            const int width = ISA(least)(left + pool->kernel_w, pool->width + pool->pad_w) - left;
            const float sum = ISA(edge)(pool, rows, x, max);
            result[x] = max ? sum : sum / (float)(height * width);
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
