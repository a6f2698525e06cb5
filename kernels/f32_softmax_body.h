/* y = exp(x − max) / Σ over values that lie side by side. */
void ISA(f32_softmax)(const float *x, float *y, int64_t size)
{
    float max = x[0];
    double sum = 0;
    for (int64_t i = 1; i < size; i++)
        max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < size; i++) {
        y[i] = expf(x[i] - max);
        sum += y[i];
    }
    for (int64_t i = 0; i < size; i++)
        y[i] = (float)(y[i] / sum);
}
