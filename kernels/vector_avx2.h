/* The vector vocabulary for AVX2 with FMA (x86-64-v3). Include inside a target region. */
#define LANES 8
#define MASKS 0 /* whether it costs little to keep or store some lanes */
#define FMA_ROWS 1 /* whether there is vec_fma_row */
#define ISA(name) name##__avx2
typedef __m256 vec;
#define vec_load(p) _mm256_loadu_ps(p)
#define vec_store(p, a) _mm256_storeu_ps(p, a)
/* Hold a value in a register: without it a compiler may load it again for every use. */
#define vec_hold(a) __asm__("" : "+x"(a))
#define vec_set(x) _mm256_set1_ps(x)
#define vec_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vec_add(a, b) _mm256_add_ps(a, b)
#define vec_mul(a, b) _mm256_mul_ps(a, b)
#define vec_rsqrt(a) _mm256_rsqrt_ps(a)  /* 1/√a, at least 11 bits of it */
#define vec_max(a, b) _mm256_max_ps(a, b)
#define vec_min(a, b) _mm256_min_ps(a, b)
#define vec_if_negative(x, a, b) \
    _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ))

/* sum[v] += *w · x[v] for two to five vectors, in this order: compilers mix the sums of one entry with those of
 * the next, put them where weights were, and then move twelve of them about among sixteen registers. */
static inline __attribute__((always_inline)) void vec_fma_row(int vectors, const float *w,
                                                              const __m256 *x, __m256 *sum)
{
    __m256 spread;
    if (vectors == 2)
        __asm__("vbroadcastss %3, %2\n\t"
                "vfmadd231ps %4, %2, %0\n\t"
                "vfmadd231ps %5, %2, %1"
                : "+x"(sum[0]), "+x"(sum[1]), "=&x"(spread)
                : "m"(*w), "x"(x[0]), "x"(x[1]));
    else if (vectors == 3)
        __asm__("vbroadcastss %4, %3\n\t"
                "vfmadd231ps %5, %3, %0\n\t"
                "vfmadd231ps %6, %3, %1\n\t"
                "vfmadd231ps %7, %3, %2"
                : "+x"(sum[0]), "+x"(sum[1]), "+x"(sum[2]), "=&x"(spread)
                : "m"(*w), "x"(x[0]), "x"(x[1]), "x"(x[2]));
    else if (vectors == 4)
        __asm__("vbroadcastss %5, %4\n\t"
                "vfmadd231ps %6, %4, %0\n\t"
                "vfmadd231ps %7, %4, %1\n\t"
                "vfmadd231ps %8, %4, %2\n\t"
                "vfmadd231ps %9, %4, %3"
                : "+x"(sum[0]), "+x"(sum[1]), "+x"(sum[2]), "+x"(sum[3]), "=&x"(spread)
                : "m"(*w), "x"(x[0]), "x"(x[1]), "x"(x[2]), "x"(x[3]));
    else
        __asm__("vbroadcastss %6, %5\n\t"
                "vfmadd231ps %7, %5, %0\n\t"
                "vfmadd231ps %8, %5, %1\n\t"
                "vfmadd231ps %9, %5, %2\n\t"
                "vfmadd231ps %10, %5, %3\n\t"
                "vfmadd231ps %11, %5, %4"
                : "+x"(sum[0]), "+x"(sum[1]), "+x"(sum[2]), "+x"(sum[3]), "+x"(sum[4]), "=&x"(spread)
                : "m"(*w), "x"(x[0]), "x"(x[1]), "x"(x[2]), "x"(x[3]), "x"(x[4]));
}

static inline float vec_sum(__m256 a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

typedef __m256i vec_lanes;
static inline vec_lanes lanes_of(uint32_t mask)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)mask), bit), bit);
}

/* The first lanes, as many as the mask has bits, which are its low ones: a masked store would take a
 * dozen cycles on several processors. */
static inline void vec_store_lanes(float *p, uint32_t mask, __m256 a)
{
    if (mask == 0xff) {
        _mm256_storeu_ps(p, a);
        return;
    }
    __m128 part = _mm256_castps256_ps128(a);
    if (mask & 8) {
        _mm_storeu_ps(p, part);
        part = _mm256_extractf128_ps(a, 1);
        p += 4, mask >>= 4;
    }
    if (mask & 2) {
        _mm_storel_pi((__m64 *)p, part);
        part = _mm_movehl_ps(part, part);
        p += 2, mask >>= 2;
    }
    if (mask & 1)
        _mm_store_ss(p, part);
}
#define vec_load_lanes(p, mask) _mm256_maskload_ps(p, lanes_of(mask))

/* Four of some values: those whose numbers lie in the word, so many bits each. */
static inline __attribute__((always_inline)) __m128 vec_four(const float *values, uint64_t word, int bits)
{
    const uint64_t one = (1u << bits) - 1;
    __m128 found = _mm_load_ss(values + (word & one));
    found = _mm_insert_ps(found, _mm_load_ss(values + (word >> bits & one)), 0x10);
    found = _mm_insert_ps(found, _mm_load_ss(values + (word >> 2 * bits & one)), 0x20);
    return _mm_insert_ps(found, _mm_load_ss(values + (word >> 3 * bits & one)), 0x30);
}

/* Lane i is number index[i] of some values. One load and one insertion for each: a gather takes 1.7 times as long on
 * AMD's processors. */
static inline __attribute__((always_inline)) __m256 vec_numbered(const float *values, const void *index, int bits)
{
    uint64_t low = 0, high = 0;
    memcpy(&low, index, bits / 2);
    memcpy(&high, (const char *)index + bits / 2, bits / 2);
    const __m256 half = _mm256_castps128_ps256(vec_four(values, low, bits));
    return _mm256_insertf128_ps(half, vec_four(values, high, bits), 1);
}
#define vec_gather_u16(values, index) vec_numbered(values, index, 16)

/* Any values that lie side by side, and a vector of some. */
typedef const float *vec_window;
#define vec_window_at(values, count) (values)
#define vec_pick(window, count, index) vec_numbered(window, index, 8)
#define vec_keep(lanes, a) _mm256_and_ps(a, _mm256_castsi256_ps(lanes))
#define vec_permute(order, a)      \
    _mm256_permutevar8x32_ps(a, _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(order))))

/* Four values each of LANES / 4 places: at p + at[0] and at[4]. */
static inline __attribute__((always_inline)) __m256 vec_load_quads(const float *p, const int64_t *at)
{
    const __m256 a = _mm256_castps128_ps256(_mm_loadu_ps(p + at[0]));
    return _mm256_insertf128_ps(a, _mm_loadu_ps(p + at[4]), 1);
}
static inline __attribute__((always_inline)) void vec_store_quads(float *p, const int64_t *at,
                                                                  __m256 a)
{
    _mm_storeu_ps(p + at[0], _mm256_castps256_ps128(a));
    _mm_storeu_ps(p + at[4], _mm256_extractf128_ps(a, 1));
}

/* In each four lanes: lane i of row j becomes lane j of row i. */
static inline __attribute__((always_inline)) void vec_transpose_quads(__m256 r[4])
{
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[0], r[1]));
    const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(r[0], r[1]));
    const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(r[2], r[3]));
    const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(r[2], r[3]));
    r[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    r[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    r[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    r[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
}

/* Every other lane of a and then of b, in the order that takes the fewest instructions; vec_in_order
 * brings such lanes, or sums of them, into the order of the memory. */
#define vec_evens(a, b) _mm256_shuffle_ps(a, b, 0x88)
#define vec_odds(a, b) _mm256_shuffle_ps(a, b, 0xdd)
#define vec_in_order(a) \
    _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(a), 0xd8))
#define vec_even(a, b) vec_in_order(vec_evens(a, b))
#define vec_odd(a, b) vec_in_order(vec_odds(a, b))

/* The lanes of a but for the first, and then the first of b. */
static inline __m256 vec_next(__m256 a, __m256 b)
{
    const __m256i next = _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 0);
    return _mm256_permutevar8x32_ps(_mm256_blend_ps(a, b, 1), next);
}

/* The lanes of a and b by turns: the first half of them, and the second. */
static inline __m256 vec_zip_low(__m256 a, __m256 b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}
static inline __m256 vec_zip_high(__m256 a, __m256 b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}
