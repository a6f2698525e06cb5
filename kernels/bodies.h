/* Every kernel, for the ISA whose vocabulary was included before. */
#include "f32_sconv_body.h"

#include "f32_dwconv_body.h"
#include "f32_elementwise_body.h"
#include "f32_gemv_body.h"
#include "f32_lrn_body.h"
#include "f32_phase_body.h"
#include "f32_pool_body.h"
#include "f32_spmv_body.h"
#include "f32_spp_body.h"
#include "f32_winograd_body.h"
