/* The table of kernels and of ISA tiers. */
#include "scnn.h"
#include "prototypes.h"

#define LANES_avx512 16
#define LANES_avx2 8
#define LANES_scalar 4

const scnn_kernel scnn_kernels[] = {
#define SCNN_TILE(R, V, isa)                                                 \
    {"f32_sconv_" #R "x" #V "v__" #isa, "sconv", #isa, R, V, LANES_##isa,    \
     (void (*)(void))f32_sconv_##R##x##V##v__##isa},
#define SCNN_WIDE(op, P, V, isa)                                             \
    {"f32_" #op "_" #P "x" #V "v__" #isa, #op, #isa, P, V, LANES_##isa,      \
     (void (*)(void))f32_##op##_##P##x##V##v__##isa},
#define SCNN_KERNEL(op, isa) \
    {"f32_" #op "__" #isa, #op, #isa, 0, 0, LANES_##isa, (void (*)(void))f32_##op##__##isa},
#include "registry.inc"
#undef SCNN_TILE
#undef SCNN_WIDE
#undef SCNN_KERNEL
};
const int32_t scnn_kernel_count = sizeof scnn_kernels / sizeof *scnn_kernels;

#define SCNN_ISA(name, condition) #name,
const char *const scnn_isas[] = {
#include "isa.inc"
};
#undef SCNN_ISA
const int32_t scnn_isa_count = sizeof scnn_isas / sizeof *scnn_isas;

int32_t scnn_isa_supported(int32_t isa)
{
    int32_t index = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
#define SCNN_ISA(name, condition) \
    if (isa == index++)           \
        return (condition) ? 1 : 0;
#include "isa.inc"
#undef SCNN_ISA
    return 0;
}
