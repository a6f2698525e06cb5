/* The kernels for x86-64-v3 processors. The file is compiled for the plain architecture; only what stands
 * in the target region uses more, so that no flag is needed and nothing leaks out. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "scnn.h"
#include "prototypes.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2,lzcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,lzcnt")
#endif

#include "vector_avx2.h"
#include "bodies.h"
#include "f32_finish_body.h"

#define ONLY_scalar(...)
#define ONLY_avx2(...) __VA_ARGS__
#define ONLY_avx512(...)
#define SCNN_TILE(R, V, isa) ONLY_##isa(SCNN_SCONV(R, V))
#define SCNN_PANEL(R, C, isa) ONLY_##isa(SCNN_PANEL_TILE(R, C))
#define SCNN_WIDE(op, P, V, isa)
#define SCNN_ELL(C, isa) ONLY_##isa(SCNN_ELL_WINDOW(C))
#define SCNN_KERNEL(op, isa)
#include "registry.inc"

#include "target_end.h"
#endif
