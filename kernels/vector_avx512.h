/* The vector vocabulary for AVX-512 (x86-64-v4). Include inside a target region. */
#define LANES 16
#define MASKS 1 /* whether it costs little to keep or store some lanes */
#define FMA_ROWS 0 /* whether there is vec_fma_row */
#define ISA(name) name##__avx512
typedef __m512 vec;
#define vec_load(p) _mm512_loadu_ps(p)
#define vec_store(p, a) _mm512_storeu_ps(p, a)
/* Hold a value in a register: without it a compiler may load it again for every use. */
#define vec_hold(a) __asm__("" : "+v"(a))
#define vec_set(x) _mm512_set1_ps(x)
#define vec_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vec_add(a, b) _mm512_add_ps(a, b)
#define vec_mul(a, b) _mm512_mul_ps(a, b)
#define vec_rsqrt(a) _mm512_rsqrt14_ps(a)
/* max(a, b) and min(a, b) give b where either is NaN: keep the data in b. */
#define vec_max(a, b) _mm512_max_ps(a, b)
#define vec_min(a, b) _mm512_min_ps(a, b)
#define vec_sum(a) _mm512_reduce_add_ps(a)
/* a where x is negative, else b */
#define vec_if_negative(x, a, b) \
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), b, a)
#define vec_store_lanes(p, mask, a) _mm512_mask_storeu_ps(p, (__mmask16)(mask), a)
#define vec_load_lanes(p, mask) _mm512_maskz_loadu_ps((__mmask16)(mask), p)
#define vec_gather_u16(x, index) \
    _mm512_i32gather_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(index))), x, 4)
/* Some lanes, zero elsewhere. */
typedef __mmask16 vec_lanes;
#define lanes_of(mask) ((__mmask16)(mask))
#define vec_keep(lanes, a) _mm512_maskz_mov_ps(lanes, a)
/* Lane i becomes lane order[i]; order: LANES bytes. */
#define vec_permute(order, a) \
    _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(order))), a)

/* Up to 128 values that lie side by side, and a vector of some: lane i is number index[i] of them. */
typedef struct {
    __m512 part[8];
} vec_window;
static inline __attribute__((always_inline)) vec_window vec_window_at(const float *values, int count)
{
    vec_window window;
    _Pragma("GCC unroll 8") for (int v = 0; v < count / LANES; v++)
        window.part[v] = vec_load(values + v * LANES);
    return window;
}
static inline __attribute__((always_inline)) __m512 vec_pick(vec_window window, int count,
                                                             const uint8_t *index)
{
    const __m512 *from = window.part;
    const __m512i at = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)index));
    const __m512i pair = _mm512_srli_epi32(at, 5);
    __m512 found = _mm512_permutex2var_ps(from[0], at, from[1]);
    _Pragma("GCC unroll 8") for (int v = 2; v < count / LANES; v += 2)
        found = _mm512_mask_mov_ps(found, _mm512_cmpeq_epi32_mask(pair, _mm512_set1_epi32(v / 2)),
                                   _mm512_permutex2var_ps(from[v], at, from[v + 1]));
    return found;
}

/* Four values each of LANES / 4 places: at p + at[0], at[4], at[8], ... */
static inline __attribute__((always_inline)) __m512 vec_load_quads(const float *p, const int64_t *at)
{
    __m512 a = _mm512_castps128_ps512(_mm_loadu_ps(p + at[0]));
    a = _mm512_insertf32x4(a, _mm_loadu_ps(p + at[4]), 1);
    a = _mm512_insertf32x4(a, _mm_loadu_ps(p + at[8]), 2);
    return _mm512_insertf32x4(a, _mm_loadu_ps(p + at[12]), 3);
}
static inline __attribute__((always_inline)) void vec_store_quads(float *p, const int64_t *at,
                                                                  __m512 a)
{
    _mm_storeu_ps(p + at[0], _mm512_castps512_ps128(a));
    _mm_storeu_ps(p + at[4], _mm512_extractf32x4_ps(a, 1));
    _mm_storeu_ps(p + at[8], _mm512_extractf32x4_ps(a, 2));
    _mm_storeu_ps(p + at[12], _mm512_extractf32x4_ps(a, 3));
}

/* In each four lanes: lane i of row j becomes lane j of row i. */
static inline __attribute__((always_inline)) void vec_transpose_quads(__m512 r[4])
{
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
    r[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
}

/* Every second lane of a and then of b. */
static inline __m512 vec_even(__m512 a, __m512 b)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, even, b);
}

/* Every other lane of a and then of b. */
static inline __m512 vec_odd(__m512 a, __m512 b)
{
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(a, odd, b);
}

/* The same in the order that takes the fewest instructions, which vec_in_order undoes. */
#define vec_evens(a, b) vec_even(a, b)
#define vec_odds(a, b) vec_odd(a, b)
#define vec_in_order(a) (a)

/* The lanes of a but for the first, and then the first of b. */
static inline __m512 vec_next(__m512 a, __m512 b)
{
    return _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(b), _mm512_castps_si512(a), 1));
}

/* The lanes of a and b by turns: the first half of them, and the second. */
static inline __m512 vec_zip_low(__m512 a, __m512 b)
{
    const __m512i turns = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, turns, b);
}
static inline __m512 vec_zip_high(__m512 a, __m512 b)
{
    const __m512i turns =
        _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, turns, b);
}

/* Lane i of row j becomes lane j of row i. */
static inline void vec_transpose(__m512 r[16])
{
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            const __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    for (int j = 0; j < 4; j++) { /* quarter q of row 4i + j holds rows 4i … of column 4q + j */
        t[j] = _mm512_shuffle_f32x4(r[j], r[j + 4], 0x88);
        t[j + 4] = _mm512_shuffle_f32x4(r[j], r[j + 4], 0xdd);
        t[j + 8] = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0x88);
        t[j + 12] = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0xdd);
    }
    for (int j = 0; j < 4; j++) {
        r[j] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0x88);
        r[j + 8] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0xdd);
        r[j + 4] = _mm512_shuffle_f32x4(t[j + 4], t[j + 12], 0x88);
        r[j + 12] = _mm512_shuffle_f32x4(t[j + 4], t[j + 12], 0xdd);
    }
}
