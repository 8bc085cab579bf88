#include "kernels.h"

int64_t martlet_attention_work(int64_t depth, int64_t value_depth) {
    return MARTLET_ATTENTION_TILE * (2 * (depth + value_depth) + 2 * MARTLET_ATTENTION_TILE + 4);
}

void martlet_attention_forward(const martlet_attention *attention, int64_t pair, int64_t block, float *work) {
    martlet_isa_table(attention->isa)->attention_forward(attention, pair, block, work);
}

void martlet_attention_queries(const martlet_attention *attention, int64_t pair, int64_t block, float *work) {
    martlet_isa_table(attention->isa)->attention_queries(attention, pair, block, work);
}

void martlet_attention_keys(const martlet_attention *attention, int64_t pair, int64_t block, float *work) {
    martlet_isa_table(attention->isa)->attention_keys(attention, pair, block, work);
}
