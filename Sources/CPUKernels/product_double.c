// Products of float64, a row at a time. Nothing here is fast.
#include "kernels.h"

typedef struct {
    const martlet_product *p;
    const martlet_plain_mask *mask;
    const martlet_context *context;
    int64_t *counts;
} job;

static int is_live(const martlet_plain_mask *mask, int64_t output, int64_t input) {
    if (mask->bits) return (int)(mask->bits[output * mask->wordsPerRow + (input >> 6)] >> (input & 63) & 1);
    const int32_t i = mask->inputDegrees[input], o = mask->outputDegrees[output];
    return mask->strict ? i < o : i <= o;
}

static int64_t batch_offset(const martlet_product *p, const martlet_operand *operand, int64_t batch) {
    int64_t offset = operand->offset;
    for (int32_t axis = p->batchRank - 1; axis >= 0; axis--) {
        offset += batch % p->batchExtents[axis] * operand->strides[axis];
        batch /= p->batchExtents[axis];
    }
    return offset;
}

static void run_row(void *argument, int64_t index, int32_t worker) {
    const job *j = argument;
    const martlet_product *p = j->p;
    const int64_t m = index % p->m, batch = index / p->m;
    const int32_t rank = p->batchRank;
    char *work = j->context->work + worker * j->context->workBytes;
    double *line = (double *)(void *)work;
    char *rest = work + (p->n * 8 + 63) / 64 * 64;
    const double *a = (const double *)(void *)j->context->values[p->a.source] + batch_offset(p, &p->a, batch) +
                      m * p->a.strides[rank];
    const double *b = (const double *)(void *)j->context->values[p->b.source] + batch_offset(p, &p->b, batch);
    int64_t executed = 0;
    for (int64_t n = 0; n < p->n; n++) line[n] = 0;
    for (int64_t k = 0; k < p->k; k++) {
        const double x = a[k * p->a.strides[rank + 1]];
        const double *row = b + k * p->b.strides[rank];
        for (int64_t n = 0; n < p->n; n++) {
            if (j->mask) {
                const int live = p->role == MARTLET_FORWARD          ? is_live(j->mask, n, k)
                                 : p->role == MARTLET_INPUT_GRADIENT ? is_live(j->mask, k, n)
                                                                     : is_live(j->mask, m, n);
                if (!live) continue;
            }
            line[n] += x * row[n * p->b.strides[rank + 1]];
            executed++;
        }
    }
    j->counts[8 * worker] += executed;
    martlet_block blocks[2][MARTLET_MAXIMUM_PORTS];
    for (int32_t side = 0; side < 2; side++) {
        const int32_t count = side ? p->epilogue->outputCount : p->epilogue->inputCount;
        const martlet_operand *operands = side ? p->outputs : p->inputs;
        for (int32_t i = 0; i < count; i++) {
            martlet_block *block = &blocks[side][i];
            if (side == 0 && i == 0) {
                *block = (martlet_block){work, 0, p->n, 1};
                continue;
            }
            const martlet_operand *operand = &operands[i];
            const int64_t offset = batch_offset(p, operand, batch) + m * operand->strides[rank];
            block->rowStride = operand->strides[rank];
            block->columnStride = operand->strides[rank + 1];
            block->start = offset;
            block->base = operand->source == MARTLET_SOURCE_POSITION
                              ? NULL
                              : j->context->values[operand->source] + offset * martlet_element_size(operand->element);
        }
    }
    martlet_program_run(p->epilogue, blocks[0], blocks[1], 1, p->n, rest);
}

int64_t martlet_double_product_work(const martlet_product *p) {
    return (p->n * 8 + 63) / 64 * 64 + (int64_t)p->epilogue->slotCount * p->epilogue->slotBytes;
}

void martlet_double_product_run(
    const martlet_product *p, const martlet_plain_mask *mask, const martlet_context *context, int64_t *counts) {
    job j = {p, mask, context, counts};
    int64_t rows = p->m;
    for (int32_t axis = 0; axis < p->batchRank; axis++) rows *= p->batchExtents[axis];
    if (p->n > 0) martlet_pool_run(context->pool, rows, run_row, &j);
}
