/* How a processor treats denormal numbers, those below 2^-126. Intel's computes with them in
 * microcode, for some 150 cycles; trained weights that decayed are full of them. */
#ifndef SCNN_DENORMALS_H
#define SCNN_DENORMALS_H
#include <stdint.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
#define scnn_float_mode() _mm_getcsr()
#define scnn_set_own_float_mode(mode) _mm_setcsr(mode)
#define SCNN_FLUSH 0x8040u /* results become zero, operands count as zero */
#else
#define scnn_float_mode() 0u
#define scnn_set_own_float_mode(mode) ((void)(mode))
#define SCNN_FLUSH 0u
#endif

/* Set the mode of this thread and of the others that share its work. */
static inline void scnn_set_float_mode(uint32_t mode, int threads)
{
    if (threads == 1) {
        scnn_set_own_float_mode(mode);
        return;
    }
#pragma omp parallel num_threads(threads)
    scnn_set_own_float_mode(mode);
}
#endif
