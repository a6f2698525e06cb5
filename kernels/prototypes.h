/* Prototypes of all kernels, made from the registry. */
#ifndef SCNN_PROTOTYPES_H
#define SCNN_PROTOTYPES_H
#include "scnn.h"

#define SCNN_TILE(R, V, isa) \
    extern __typeof__(*(scnn_sconv_fn)0) f32_sconv_##R##x##V##v__##isa;
#define SCNN_PANEL(R, C, isa) \
    extern __typeof__(*(scnn_panel_fn)0) f32_panel_##R##x##C##v__##isa;
#define SCNN_WIDE(op, P, V, isa) \
    extern __typeof__(*(scnn_dense_fn)0) f32_##op##_##P##x##V##v__##isa;
#define SCNN_ELL(C, isa) extern __typeof__(*(scnn_ell_fn)0) f32_ell__##isa;
#define SCNN_KERNEL(op, isa) extern __typeof__(*(scnn_##op##_fn)0) f32_##op##__##isa;
#include "registry.inc"
#undef SCNN_TILE
#undef SCNN_PANEL
#undef SCNN_WIDE
#undef SCNN_ELL
#undef SCNN_KERNEL

#endif
