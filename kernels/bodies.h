/* Every kernel, for the ISA whose vocabulary was included before. */
#include "f32_sconv_body.h"

/* The lanes of a vector that begins `left` values before the end of a row. */
INLINE uint32_t ISA(lanes_left)(int left)
{
    return left >= LANES ? ~0u >> (32 - LANES) : (1u << left) - 1;
}

#include "f32_dwconv_body.h"
#include "f32_elementwise_body.h"
#include "f32_ell_body.h"
#include "f32_gemv_body.h"
#include "f32_lrn_body.h"
#include "f32_panel_body.h"
#include "f32_phase_body.h"
#include "f32_pool_body.h"
#include "f32_rows_body.h"
#include "f32_softmax_body.h"
#include "f32_spmv_body.h"
#include "f32_spp_body.h"
#include "f32_winograd_body.h"
