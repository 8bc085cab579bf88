// For any processor: the compiler's own choice for vectors of four floats.
#include "kernels.h"

#define WIDTH 4
#define FUSED 0
#define TILE_ROWS 4
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

const martlet_isa_functions martlet_portable_functions = ISA_FUNCTIONS;
