// Convolutions of float64, a channel of the result at a time. Nothing here is fast.
#include "convolution.h"

// Where position m of a tap lies in a plane of the source, or `outside`.
static const int64_t outside = INT64_MIN;
static int64_t find(const martlet_convolution *c, const martlet_tap *tap, const int64_t *m) {
    int64_t offset = 0;
    for (int a = 0; a < 3; a++) {
        const int64_t at = (m[a] + tap->shift[a]) * c->sourceStep[a] + tap->phase[a];
        if (at < 0 || at >= c->source[a]) return outside;
        offset += at * c->planesIn.strides[2 + a];
    }
    return offset;
}

static const double *values(const convolution_job *j, const martlet_operand *operand) {
    return (const double *)(void *)j->context->values[operand->source] + operand->offset;
}

#define FOR_POSITIONS(m, counts)                    \
    for (m[0] = 0; m[0] < (counts)[0]; m[0]++)      \
        for (m[1] = 0; m[1] < (counts)[1]; m[1]++)  \
            for (m[2] = 0; m[2] < (counts)[2]; m[2]++)

// The block of a pass that a row belongs to.
static const martlet_convolution_block *block_of(
    const martlet_convolution *c, const martlet_convolution_pass *pass, int64_t row) {
    const martlet_convolution_block *b = &c->blocks[pass->firstBlock];
    while (b->first + b->rows <= row) b++;
    return b;
}

// One channel of the result.
static void sum_plane(const convolution_job *j, int64_t image, int64_t row, int64_t count, double *line, int32_t worker) {
    const martlet_convolution *c = j->c;
    const double *weight = values(j, &c->weight);
    for (int64_t i = 0; i < count; i++) line[i] = 0;
    for (int64_t p = 0; p < c->passCount; p++) {
        const martlet_convolution_pass *pass = &c->passes[p];
        const martlet_convolution_block *b = block_of(c, pass, row);
        const int64_t r = row - b->first;
        for (int64_t k = 0; k < b->stepCount; k++) {
            const martlet_convolution_step *s = &c->steps[b->firstStep + k];
            const martlet_tap *tap = &c->taps[s->tap];
            if (!(s->live >> r & 1)) continue;
            const double x =
                weight[b->weight + r * c->weightRow + s->plane % c->planeModulus * c->weightPlane + tap->weight];
            const double *plane = values(j, &c->planesIn) + image * c->planesIn.strides[0] + s->plane * c->planesIn.strides[1];
            int64_t m[3];
            FOR_POSITIONS(m, pass->counts) {
                const int64_t from = find(c, tap, m);
                int64_t to = 0;
                for (int a = 0; a < 3; a++) to = to * c->result[a] + m[a] * c->resultStep[a] + pass->phase[a];
                if (from != outside) line[to] += x * plane[from];
            }
            j->counts[8 * worker] += pass->counts[0] * pass->counts[1] * pass->counts[2];
        }
    }
}

static void run_plane(void *argument, int64_t index, int32_t worker) {
    const convolution_job *j = argument;
    const martlet_convolution *c = j->c;
    const int64_t rows = c->rows / c->sections, image = index / rows, row = index % rows;
    const int64_t count = c->result[0] * c->result[1] * c->result[2];
    char *work = j->context->work + worker * j->context->workBytes;
    double *line = (double *)(void *)work;
    for (int32_t s = 0; s < c->sections; s++) sum_plane(j, image, row + s * rows, count, line + s * count, worker);
    martlet_convolution_epilogue(j, image, row, 1, 0, count, work, count, work + round_up(c->sections * count * 8, 64));
}

static void run_gradient_row(void *argument, int64_t row, int32_t worker) {
    const convolution_job *j = argument;
    const martlet_convolution *c = j->c;
    char *work = j->context->work + worker * j->context->workBytes;
    double *line = (double *)(void *)work;
    const martlet_convolution_block *b = block_of(c, &c->passes[0], row);
    for (int64_t i = 0; i < c->rowLength; i++) line[i] = 0;
    for (int64_t k = 0; k < b->stepCount; k++) {
        const martlet_convolution_step *s = &c->steps[b->firstStep + k];
        if (!(s->live >> (row - b->first) & 1)) continue;
        double sum = 0;
        for (int64_t image = 0; image < c->images; image++) {
            const double *plane = values(j, &c->planesIn) + image * c->planesIn.strides[0] + s->plane * c->planesIn.strides[1];
            const double *gradient = values(j, &c->rowsIn) + image * c->rowsIn.strides[0] + row * c->rowsIn.strides[1];
            int64_t m[3];
            FOR_POSITIONS(m, c->passes[0].counts) {
                const int64_t from = find(c, &c->taps[s->tap], m);
                if (from == outside) continue;
                sum += plane[from] * gradient[m[0] * c->rowsIn.strides[2] + m[1] * c->rowsIn.strides[3] + m[2] * c->rowsIn.strides[4]];
            }
        }
        line[s->plane % (c->planes / c->groups) * c->kernelTaps + c->taps[s->tap].index] = sum;
        j->counts[8 * worker] += c->images * c->result[0] * c->result[1] * c->result[2];
    }
    martlet_convolution_epilogue(
        j, 0, row, 1, 0, c->rowLength, work, c->rowLength, work + round_up(c->rowLength * 8, 64));
}

void martlet_convolution_double_run(const convolution_job *j) {
    const martlet_convolution *c = j->c;
    if (c->isWeightGradient) martlet_pool_run(j->context->pool, c->rows, run_gradient_row, (void *)(uintptr_t)j);
    else martlet_pool_run(j->context->pool, c->images * (c->rows / c->sections), run_plane, (void *)(uintptr_t)j);
}
