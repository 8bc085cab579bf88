// The text of the OpenCL C kernels in this folder, one function a file.
#pragma once

const char *martlet_kernel_common_text(void);
const char *martlet_kernel_attention_text(void);
const char *martlet_kernel_matrices_text(void);
const char *martlet_kernel_mask_text(void);
const char *martlet_kernel_mask_end_text(void);
const char *martlet_kernel_degrees_text(void);
const char *martlet_kernel_pack_text(void);
const char *martlet_kernel_pack_b_text(void);
const char *martlet_kernel_product_cpu_text(void);
const char *martlet_kernel_product_finish_text(void);
const char *martlet_kernel_product_gpu_text(void);
const char *martlet_kernel_convolution_cpu_text(void);
const char *martlet_kernel_convolution_gpu_text(void);
const char *martlet_kernel_sampler_text(void);
const char *martlet_kernel_sampler_cpu_text(void);
const char *martlet_kernel_sampler_gpu_text(void);
/// The text of MartletRandom.h.
const char *martlet_random_text(void);
