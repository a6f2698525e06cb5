/* The vector vocabulary in plain C: four lanes, which a compiler may or may not vectorise. */
#define LANES 4
#define MASKS 0 /* whether it costs little to keep or store some lanes */
#define FMA_ROWS 0 /* whether there is vec_fma_row */
#define ISA(name) name##__scalar
typedef struct {
    float lane[4];
} vec;
#define vec_hold(a) ((void)(a))
#define VEC_EACH(expression)                    \
    do {                                        \
        vec result;                             \
        for (int i = 0; i < 4; i++)             \
            result.lane[i] = (expression);      \
        return result;                          \
    } while (0)

static inline vec vec_load(const float *p) { VEC_EACH(p[i]); }
static inline void vec_store(float *p, vec a)
{
    for (int i = 0; i < 4; i++)
        p[i] = a.lane[i];
}
static inline vec vec_set(float x) { VEC_EACH(x); }
static inline vec vec_fma(vec a, vec b, vec c) { VEC_EACH(a.lane[i] * b.lane[i] + c.lane[i]); }
static inline vec vec_add(vec a, vec b) { VEC_EACH(a.lane[i] + b.lane[i]); }
static inline vec vec_mul(vec a, vec b) { VEC_EACH(a.lane[i] * b.lane[i]); }
static inline vec vec_rsqrt(vec a) { VEC_EACH(1.0f / sqrtf(a.lane[i])); }
static inline vec vec_max(vec a, vec b) { VEC_EACH(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
static inline vec vec_min(vec a, vec b) { VEC_EACH(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
static inline vec vec_if_negative(vec x, vec a, vec b)
{
    VEC_EACH(x.lane[i] < 0 ? a.lane[i] : b.lane[i]);
}
static inline float vec_sum(vec a) { return (a.lane[0] + a.lane[1]) + (a.lane[2] + a.lane[3]); }
static inline void vec_store_lanes(float *p, uint32_t mask, vec a)
{
    for (int i = 0; i < 4; i++)
        if (mask >> i & 1)
            p[i] = a.lane[i];
}
static inline vec vec_load_lanes(const float *p, uint32_t mask)
{
    VEC_EACH(mask >> i & 1 ? p[i] : 0.0f);
}
static inline vec vec_gather_u16(const float *x, const uint16_t *index) { VEC_EACH(x[index[i]]); }
typedef const float *vec_window;
#define vec_window_at(values, count) (values)
static inline vec vec_pick(vec_window x, int count, const uint8_t *index) { VEC_EACH(x[index[i]]); }
typedef uint32_t vec_lanes;
#define lanes_of(mask) (mask)
static inline vec vec_keep(vec_lanes mask, vec a) { VEC_EACH(mask >> i & 1 ? a.lane[i] : 0.0f); }
static inline vec vec_permute(const uint8_t *order, vec a) { VEC_EACH(a.lane[order[i]]); }
static inline vec vec_load_quads(const float *p, const int64_t *at) { return vec_load(p + at[0]); }
static inline void vec_store_quads(float *p, const int64_t *at, vec a) { vec_store(p + at[0], a); }
static inline void vec_transpose_quads(vec r[4])
{
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++) {
            const float kept = r[i].lane[j];
            r[i].lane[j] = r[j].lane[i];
            r[j].lane[i] = kept;
        }
}
static inline vec vec_even(vec a, vec b) { VEC_EACH(i < 2 ? a.lane[2 * i] : b.lane[2 * i - 4]); }
static inline vec vec_odd(vec a, vec b)
{
    VEC_EACH(i < 2 ? a.lane[2 * i + 1] : b.lane[2 * i - 3]);
}
#define vec_evens(a, b) vec_even(a, b)
#define vec_odds(a, b) vec_odd(a, b)
#define vec_in_order(a) (a)
static inline vec vec_next(vec a, vec b) { VEC_EACH(i < 3 ? a.lane[i + 1] : b.lane[0]); }
static inline vec vec_zip_low(vec a, vec b) { VEC_EACH(i % 2 ? b.lane[i / 2] : a.lane[i / 2]); }
static inline vec vec_zip_high(vec a, vec b)
{
    VEC_EACH(i % 2 ? b.lane[2 + i / 2] : a.lane[2 + i / 2]);
}
