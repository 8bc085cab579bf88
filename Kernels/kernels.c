#include "Kernels.h"

const char martlet_kernel_common[] = {
#embed "common.cl" suffix(, 0)
};

const char martlet_random_source[] = {
#embed "include/MartletRandom.h" suffix(, 0)
};

uint32_t martlet_philox_word0(uint32_t key0, uint32_t key1, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
    return martlet_philox(key0, key1, c0, c1, c2, c3).x;
}

void martlet_philox_block(const uint32_t key[2], const uint32_t counter[4], uint32_t words[4]) {
    martlet_words block = martlet_philox(key[0], key[1], counter[0], counter[1], counter[2], counter[3]);
    words[0] = block.x;
    words[1] = block.y;
    words[2] = block.z;
    words[3] = block.w;
}

float martlet_uniform_from_bits(uint32_t bits) { return martlet_uniform(bits); }

float martlet_normal_from_bits(uint32_t bits) { return martlet_normal(bits); }
