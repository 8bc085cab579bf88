// Products of float64, a row at a time. Nothing here is fast.
#include "product.h"

typedef struct {
    const martlet_product *p;
    const martlet_plain_mask *mask;
    const martlet_context *context;
    int64_t *counts;
} job;

static int reads(const martlet_plain_mask *mask, int64_t output, int64_t input) {
    if (mask->bits) return (int)(mask->bits[output * mask->wordsPerRow + (input >> 6)] >> (input & 63) & 1);
    const int32_t i = mask->inputDegrees[input], o = mask->outputDegrees[output];
    return mask->strict ? i < o : i <= o;
}

static int is_live(const job *j, int64_t m, int64_t n, int64_t k) {
    if (!j->mask) return 1;
    if (j->p->role == MARTLET_FORWARD) return reads(j->mask, n, k);
    return j->p->role == MARTLET_INPUT_GRADIENT ? reads(j->mask, k, n) : reads(j->mask, m, n);
}

// Row m of the product; returns the multiply-adds.
static int64_t multiply_row(const job *j, int64_t batch, int64_t m, double *line) {
    const martlet_product *p = j->p;
    const int32_t rank = p->batchRank;
    char *const *values = j->context->values;
    const double *a = (const double *)(void *)values[p->a.source] + martlet_batch_offset(p, &p->a, batch) +
                      m * p->a.strides[rank];
    const double *b = (const double *)(void *)values[p->b.source] + martlet_batch_offset(p, &p->b, batch);
    int64_t executed = 0;
    for (int64_t n = 0; n < p->n; n++) line[n] = 0;
    for (int64_t k = 0; k < p->k; k++) {
        const double x = a[k * p->a.strides[rank + 1]];
        const double *row = b + k * p->b.strides[rank];
        for (int64_t n = 0; n < p->n; n++) {
            if (!is_live(j, m, n, k)) continue;
            line[n] += x * row[n * p->b.strides[rank + 1]];
            executed++;
        }
    }
    return executed;
}

static void run_row(void *argument, int64_t index, int32_t worker) {
    const job *j = argument;
    const martlet_product *p = j->p;
    const int64_t m = index % p->m, batch = index / p->m;
    char *work = j->context->work + worker * j->context->workBytes;
    j->counts[8 * worker] += multiply_row(j, batch, m, (double *)(void *)work);
    martlet_block blocks[2][MARTLET_MAXIMUM_PORTS];
    martlet_locate_epilogue(p, j->context, batch, m, 0, blocks);
    blocks[0][0] = (martlet_block){work, 0, p->n, 1};
    martlet_program_run(p->epilogue, blocks[0], blocks[1], 1, p->n, work + round_up(p->n * 8, 64));
}

int64_t martlet_double_product_work(const martlet_product *p) {
    return round_up(p->n * 8, 64) + (int64_t)p->epilogue->slotCount * p->epilogue->slotBytes;
}

void martlet_double_product_run(
    const martlet_product *p, const martlet_plain_mask *mask, const martlet_context *context, int64_t *counts) {
    job j = {p, mask, context, counts};
    if (p->n > 0) martlet_pool_run(context->pool, martlet_product_batches(p) * p->m, run_row, &j);
}
