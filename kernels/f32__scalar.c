/* The kernels in plain C, for any processor. */
#include <math.h>
#include <string.h>

#include "scnn.h"
#include "prototypes.h"
#include "vector_scalar.h"
#include "bodies.h"

#define TILE_scalar(R, V) SCNN_SCONV(R, V)
#define TILE_avx2(R, V)
#define TILE_avx512(R, V)
#define SCNN_TILE(R, V, isa) TILE_##isa(R, V)
#define SCNN_WIDE(op, P, V, isa)
#define SCNN_KERNEL(op, isa)
#include "registry.inc"
