#include "kernels.h"

#if defined(__x86_64__)
#pragma clang attribute push(                                                                                    \
    __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512cd,avx2,fma,bmi,bmi2,lzcnt"))), apply_to = function)
#define WIDTH 16
#define FUSED 1
// Taller tiles, up to 14, fit the registers but ran a fifth slower where this was measured.
#define TILE_ROWS 11
#define TILE_VECTORS 2
#include "vector.h"
#include "vector_math.h"
#include "elementwise_kernels.h"
#include "product_kernels.h"
#include "pack_kernels.h"
#include "reduction_kernels.h"
#include "lane_kernels.h"
#include "lane_attention.h"
#include "convolution_kernels.h"
#include "attention_kernels.h"

const martlet_isa_functions martlet_avx512_functions = ISA_FUNCTIONS;
#pragma clang attribute pop
#endif
