/* The table of kernels and of ISA tiers. */
#define _DEFAULT_SOURCE /* syscall */
#include "scnn.h"
#include "prototypes.h"

#if SCNN_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define LANES_amx 16
#define LANES_avx512 16
#define LANES_avx2 8
#define LANES_scalar 4

const scnn_kernel scnn_kernels[] = {
#define SCNN_TILE(R, V, isa)                                                 \
    {"f32_sconv_" #R "x" #V "v__" #isa, "sconv", #isa, R, V, LANES_##isa,    \
     (void (*)(void))f32_sconv_##R##x##V##v__##isa},
#define SCNN_PANEL(R, C, isa)                                                \
    {"f32_panel_" #R "x" #C "v__" #isa, "panel", #isa, R, C, LANES_##isa,    \
     (void (*)(void))f32_panel_##R##x##C##v__##isa},
#define SCNN_WIDE(op, P, V, isa)                                             \
    {"f32_" #op "_" #P "x" #V "v__" #isa, #op, #isa, P, V, LANES_##isa,      \
     (void (*)(void))f32_##op##_##P##x##V##v__##isa},
#define SCNN_ELL(C, isa)                                                     \
    {"f32_ell__" #isa, "ell", #isa, SCNN_ELL_ROWS, C, LANES_##isa, (void (*)(void))f32_ell__##isa},
#define SCNN_KERNEL(op, isa) \
    {"f32_" #op "__" #isa, #op, #isa, 0, 0, LANES_##isa, (void (*)(void))f32_##op##__##isa},
#include "registry.inc"
#undef SCNN_TILE
#undef SCNN_PANEL
#undef SCNN_WIDE
#undef SCNN_ELL
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

#if SCNN_AMX
#define ASK_FOR_STATE 0x1023 /* ARCH_REQ_XCOMP_PERM of arch_prctl */
#define TILE_STATE 18

int32_t scnn_amx_supported(void)
{
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512bw") || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    const unsigned needed = 1u << 22 | 1u << 24; /* AMX-BF16, AMX-TILE */
    return (d & needed) == needed && syscall(SYS_arch_prctl, ASK_FOR_STATE, TILE_STATE) == 0;
}
#else
int32_t scnn_amx_supported(void)
{
    return 0;
}
#endif
