/* Probes of what one core can do; limits.py compiles this for the machine at hand.
 * GCC's vector extension: as wide as the processor's registers (WIDTH bytes). */
#include <stddef.h>

typedef float vec __attribute__((vector_size(WIDTH), aligned(WIDTH)));
typedef float anywhere __attribute__((vector_size(WIDTH), aligned(4)));
#define LANES (WIDTH / 4)
#define SUMS 12

/* Multiply-adds on registers: `rounds` times SUMS of them, each on its own chain. */
float fma_registers(long rounds)
{
    vec sum[SUMS], x, total = {0};
    _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++)
        sum[i] = (vec){0} + (float)i;
    x = (vec){0} + 1e-9f;
    for (long r = 0; r < rounds; r++)
        _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) {
            sum[i] = sum[i] * x + x;
            __asm__("" : "+v"(sum[i]));
        }
    _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++)
        total += sum[i];
    return total[0];
}

/* The same with one operand from memory: SUMS vectors in the first-level cache, which cross cache
 * lines if `data` is not aligned. */
float fma_memory(long rounds, const float *data)
{
    vec sum[SUMS], x, total = {0};
    _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++)
        sum[i] = (vec){0} + (float)i;
    x = (vec){0} + 1e-9f;
    for (long r = 0; r < rounds; r++)
        _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) {
            sum[i] = x * *(const volatile anywhere *)(data + i * LANES) + sum[i];
            __asm__("" : "+v"(sum[i]));
        }
    _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++)
        total += sum[i];
    return total[0];
}

/* Reads `size` floats `rounds` times. */
float read_floats(long rounds, const float *data, size_t size)
{
    vec sum[8] = {{0}}, total = {0};
    for (long r = 0; r < rounds; r++)
        for (size_t i = 0; i + 8 * LANES <= size; i += 8 * LANES)
            _Pragma("GCC unroll 8") for (int v = 0; v < 8; v++)
                sum[v] += *(const volatile vec *)(data + i + v * LANES);
    _Pragma("GCC unroll 8") for (int v = 0; v < 8; v++)
        total += sum[v];
    return total[0];
}
