// What the vector levels provide to the rest of the module.
#pragma once

#include <string.h>

#include "CPUKernels.h"

/// The functions that exist once for each vector level.
typedef struct {
    const martlet_kernel *float_kernels;
    const martlet_kernel *integer_kernels;
    /// The largest tile of the product that stays in registers.
    int32_t tile_rows;
    int32_t tile_columns;
    /// c[tile_rows][..] (=, or += when accumulating) a * b for packed panels a [k][rows] and b [k][tile_columns].
    void (*tile)(
        int64_t k, const float *a, int32_t rows, const float *b, int32_t columns, float *c, int64_t stride, int accumulate);
    /// target[k][height] = source at (k, i), with zeros where i >= live.
    void (*pack)(
        float *target, const float *source, int64_t k, int64_t k_stride, int32_t live, int64_t stride, int32_t height);
    /// The fixed trees of sums: 512 elements at most.
    float (*sum)(const float *source, int64_t count);
    void (*add_rows)(float *sums, const float *source, int64_t rows, int64_t stride, int64_t columns);
} martlet_level_functions;

extern const martlet_level_functions martlet_portable_functions;
extern const martlet_level_functions martlet_avx2_functions;
extern const martlet_level_functions martlet_avx512_functions;

const martlet_level_functions *martlet_level_table(martlet_level level);
