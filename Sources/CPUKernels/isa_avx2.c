#include "kernels.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,lzcnt"))), apply_to = function)
#define WIDTH 8
#define FUSED 1
#define TILE_ROWS 6
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

const martlet_isa_functions martlet_avx2_functions = ISA_FUNCTIONS;
#pragma clang attribute pop
#endif
