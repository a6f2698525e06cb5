/* The kernels in plain C, for any processor. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "scnn.h"
#include "prototypes.h"
#include "vector_scalar.h"
#include "bodies.h"

#define ONLY_scalar(...) __VA_ARGS__
#define ONLY_avx2(...)
#define ONLY_avx512(...)
#define SCNN_TILE(R, V, isa) ONLY_##isa(SCNN_SCONV(R, V))
#define SCNN_PANEL(R, C, isa) ONLY_##isa(SCNN_PANEL_TILE(R, C))
#define SCNN_WIDE(op, P, V, isa)
#define SCNN_ELL(C, isa) ONLY_##isa(SCNN_ELL_WINDOW(C))
#define SCNN_KERNEL(op, isa)
#include "registry.inc"
