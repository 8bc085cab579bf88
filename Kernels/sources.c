#include "KernelSources.h"

#define EMBEDDED(name) \
    const char *martlet_##name##_text(void) { return name; }

static const char kernel_common[] = {
#embed "common.cl" suffix(, 0)
};
EMBEDDED(kernel_common)

static const char kernel_mask[] = {
#embed "mask.cl" suffix(, 0)
};
EMBEDDED(kernel_mask)

static const char kernel_mask_end[] = {
#embed "mask_end.cl" suffix(, 0)
};
EMBEDDED(kernel_mask_end)

static const char kernel_degrees[] = {
#embed "degrees.cl" suffix(, 0)
};
EMBEDDED(kernel_degrees)

static const char kernel_pack[] = {
#embed "pack.cl" suffix(, 0)
};
EMBEDDED(kernel_pack)

static const char kernel_pack_b[] = {
#embed "pack_b.cl" suffix(, 0)
};
EMBEDDED(kernel_pack_b)

static const char kernel_product_cpu[] = {
#embed "product_cpu.cl" suffix(, 0)
};
EMBEDDED(kernel_product_cpu)

static const char kernel_product_finish[] = {
#embed "product_finish.cl" suffix(, 0)
};
EMBEDDED(kernel_product_finish)

static const char kernel_product_gpu[] = {
#embed "product_gpu.cl" suffix(, 0)
};
EMBEDDED(kernel_product_gpu)

static const char kernel_convolution_cpu[] = {
#embed "convolution_cpu.cl" suffix(, 0)
};
EMBEDDED(kernel_convolution_cpu)

static const char kernel_convolution_gpu[] = {
#embed "convolution_gpu.cl" suffix(, 0)
};
EMBEDDED(kernel_convolution_gpu)

static const char kernel_sampler[] = {
#embed "sampler.cl" suffix(, 0)
};
EMBEDDED(kernel_sampler)

static const char kernel_sampler_cpu[] = {
#embed "sampler_cpu.cl" suffix(, 0)
};
EMBEDDED(kernel_sampler_cpu)

static const char kernel_sampler_gpu[] = {
#embed "sampler_gpu.cl" suffix(, 0)
};
EMBEDDED(kernel_sampler_gpu)

static const char kernel_matrices[] = {
#embed "matrices.cl" suffix(, 0)
};
EMBEDDED(kernel_matrices)

static const char random[] = {
#embed "include/MartletRandom.h" suffix(, 0)
};
EMBEDDED(random)

static const char kernel_attention[] = {
#embed "attention.cl" suffix(, 0)
};
EMBEDDED(kernel_attention)
