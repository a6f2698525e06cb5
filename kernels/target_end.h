/* The end of what is compiled for more than the plain architecture. */
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
