// The OpenCL C sources, embedded at build time so that a binary can be moved, and the random numbers that every backend
// shares.
#pragma once

#include <stdint.h>

#include "KernelSources.h"
#include "MartletRandom.h"

extern const char martlet_kernel_common[];
/// The text of MartletRandom.h, for the head of generated programs.
extern const char martlet_random_source[];

/// Word 0 of the Philox 4x32-10 block of counter (c0, c1, c2, c3) = (variable, example, step, stream).
uint32_t martlet_philox_word0(uint32_t key0, uint32_t key1, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3);
/// All four words of the block.
void martlet_philox_block(const uint32_t key[2], const uint32_t counter[4], uint32_t words[4]);
/// The upper 24 bits over 2^24.
float martlet_uniform_from_bits(uint32_t bits);
/// The standard normal quantile of (2 bits + 1) / 2^33.
float martlet_normal_from_bits(uint32_t bits);
