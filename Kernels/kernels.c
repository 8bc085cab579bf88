#include "Kernels.h"

const char martlet_kernel_common[] = {
#embed "common.cl" suffix(, 0)
};
