#include "kernels.h"

martlet_isa martlet_best_isa(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd")) {
        return MARTLET_AVX512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return MARTLET_AVX2;
#endif
    return MARTLET_PORTABLE;
}

const martlet_isa_functions *martlet_isa_table(martlet_isa isa) {
#if defined(__x86_64__)
    if (isa == MARTLET_AVX512) return &martlet_avx512_functions;
    if (isa == MARTLET_AVX2) return &martlet_avx2_functions;
#endif
    return &martlet_portable_functions;
}
