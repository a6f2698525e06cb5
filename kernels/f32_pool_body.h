/* Max and average pooling of one plane with Caffe's windows: the window is clipped to the image;
 * an average divides by the window clipped to the padded image (pooling_layer.cpp). First the
 * rows of a window are combined over the whole width, which vectorises for any stride; then the
 * columns of the combined row. */
INLINE int ISA(least)(int a, int b) { return a < b ? a : b; }
INLINE int ISA(most)(int a, int b) { return a > b ? a : b; }

void ISA(f32_maxpool)(const scnn_pool *pool, const float *in, float *out, float *scratch)
{
    const int width = pool->width;
    for (int y = 0; y < pool->out_height; y++) {
        const int top = y * pool->stride_h - pool->pad_h;
        const int first = ISA(most)(top, 0);
        const int last = ISA(least)(top + pool->kernel_h, pool->height);
        const float *row = in + first * pool->in_pitch;
        for (int x = 0; x < width; x++)
            scratch[x] = row[x];
        for (int i = first + 1; i < last; i++) {
            row = in + i * pool->in_pitch;
            for (int x = 0; x < width; x++)
                scratch[x] = row[x] > scratch[x] ? row[x] : scratch[x];
        }
        float *result = out + y * pool->out_pitch;
        for (int x = 0; x < pool->out_width; x++) {
            const int left = x * pool->stride_w - pool->pad_w;
            const int right = ISA(least)(left + pool->kernel_w, width);
            float best = scratch[ISA(most)(left, 0)];
            for (int j = ISA(most)(left, 0) + 1; j < right; j++)
                best = scratch[j] > best ? scratch[j] : best;
            result[x] = best;
        }
    }
}

void ISA(f32_avepool)(const scnn_pool *pool, const float *in, float *out, float *scratch)
{
    const int width = pool->width;
    for (int y = 0; y < pool->out_height; y++) {
        const int top = y * pool->stride_h - pool->pad_h;
        const int rows = ISA(least)(top + pool->kernel_h, pool->height + pool->pad_h) - top;
        const int last = ISA(least)(top + pool->kernel_h, pool->height);
        for (int x = 0; x < width; x++)
            scratch[x] = 0.0f;
        for (int i = ISA(most)(top, 0); i < last; i++)
            for (int x = 0; x < width; x++)
                scratch[x] += in[i * pool->in_pitch + x];
        float *result = out + y * pool->out_pitch;
        for (int x = 0; x < pool->out_width; x++) {
            const int left = x * pool->stride_w - pool->pad_w;
            const int columns = ISA(least)(left + pool->kernel_w, width + pool->pad_w) - left;
            const int right = ISA(least)(left + pool->kernel_w, width);
            float sum = 0.0f;
            for (int j = ISA(most)(left, 0); j < right; j++)
                sum += scratch[j];
            result[x] = sum / (float)(rows * columns);
        }
    }
}
