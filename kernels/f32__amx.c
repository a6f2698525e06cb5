/* The kernels for processors with a matrix unit for bf16 numbers (AMX), besides those of x86-64-v4. */
#include "scnn.h"
#if SCNN_AMX
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "prototypes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("amx-tile,amx-bf16,avx512f,avx512cd,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2,lzcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512f,avx512cd,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2,lzcnt")
#endif

#include "vector_avx512.h"
#undef ISA
#define ISA(name) name##__amx
#include "f32_sconv_body.h"
#include "f32_bf16_body.h"

#include "target_end.h"
#endif
