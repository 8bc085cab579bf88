// Runs samplers: every slice of the lanes goes through all steps on its own.
#include <math.h>
#include <string.h>

#include "kernels.h"

typedef struct {
    const martlet_sampler *sampler;
    int64_t slice;
    int64_t lanes;
} sampler_job;

/// The address of (element, lane).
static inline char *at(const martlet_sampler *s, int32_t value, int64_t element, int64_t lane) {
    const martlet_lane_value *v = &s->values[value];
    return v->base + (v->isShared ? element : element * s->lanes + lane) * v->size;
}

static void sum_of_products(
    const martlet_sampler *s, const martlet_lane_work *w, int64_t e, int64_t first, int64_t count, float *result) {
    const martlet_level_functions *f = martlet_level_table(s->level);
    int32_t a = w->a, b = w->b;
    int64_t aBase = w->aBase[e], bBase = w->bBase[e], aStride = w->aStride, bStride = w->bStride;
    if (s->values[a].isShared && !s->values[b].isShared) {
        int32_t value = a;
        a = b;
        b = value;
        int64_t t = aBase;
        aBase = bBase;
        bBase = t;
        t = aStride;
        aStride = bStride;
        bStride = t;
    }
    const int isShared = s->values[a].isShared, otherIsShared = s->values[b].isShared;
    const int32_t row = w->row[e];
    for (int64_t lane = 0; lane < count; lane += MARTLET_LANE_WIDTH) {
        float sums[4 * 16] = {0};
        for (int32_t r = w->rangeStart[row]; r < w->rangeStart[row + 1]; r++) {
            const int64_t from = w->ranges[2 * r], length = w->ranges[2 * r + 1] - from;
            const float *x = (const float *)at(s, a, aBase + from * aStride, first + lane);
            const float *y = (const float *)at(s, b, bBase + from * bStride, first + lane);
            if (isShared) {
                for (int64_t j = 0; j < length; j++) {
                    const float product = x[j * aStride] * y[j * bStride];
                    for (int l = 0; l < 16; l++) sums[(j & 3) * 16 + l] += product;
                }
            } else if (otherIsShared) {
                f->add_shared_products(sums, x, aStride * s->lanes, y, bStride, length);
            } else {
                f->add_lane_products(sums, x, aStride * s->lanes, y, bStride * s->lanes, length);
            }
        }
        for (int l = 0; l < 16; l++) result[lane + l] = (sums[l] + sums[16 + l]) + (sums[32 + l] + sums[48 + l]);
    }
}

static void reduce(
    const martlet_sampler *s, const martlet_lane_work *w, int64_t e, int64_t first, int64_t count, float *result) {
    const float start = w->anchor == MARTLET_LANES_SUM ? 0.0f : w->anchor == MARTLET_LANES_MAXIMUM ? -INFINITY : INFINITY;
    for (int64_t l = 0; l < count; l++) result[l] = start;
    const int isShared = s->values[w->a].isShared;
    for (int32_t i = w->listStart[e]; i < w->listStart[e + 1]; i++) {
        const float *x = (const float *)at(s, w->a, w->list[i], first);
        for (int64_t l = 0; l < count; l++) {
            const float value = isShared ? *x : x[l];
            if (w->anchor == MARTLET_LANES_SUM) {
                result[l] += value;
            } else if (value != value || (w->anchor == MARTLET_LANES_MAXIMUM ? value > result[l] : value < result[l])) {
                // A NaN stays: nothing compares greater or less than it.
                result[l] = value;
            }
        }
    }
}

static void run_entries(
    const martlet_sampler *s, const martlet_lane_work *w, int64_t first, int64_t count, const int32_t *entries, int64_t rows,
    float *anchor, char *work) {
    martlet_block inputs[MARTLET_MAXIMUM_PORTS], outputs[MARTLET_MAXIMUM_PORTS];
    int32_t port = 0;
    const int64_t e = entries[0];
    if (w->anchor != MARTLET_LANES_PLAIN) {
        for (int64_t r = 0; r < rows; r++) {
            if (w->anchor == MARTLET_LANES_PRODUCT) {
                sum_of_products(s, w, entries[r], first, count, anchor + r * count);
            } else {
                reduce(s, w, entries[r], first, count, anchor + r * count);
            }
        }
        inputs[port++] = (martlet_block){(char *)anchor, 0, count, 1};
    }
    for (int32_t i = 0; i < w->operandCount; i++) {
        const martlet_lane_operand *o = &w->operands[i];
        const int64_t step = rows > 1 ? o->table[entries[1]] - o->table[e] : 0;
        if (o->value < 0) {
            inputs[port++] = (martlet_block){NULL, o->table[e] + o->batchStride * first, step, o->batchStride};
        } else {
            const int isShared = s->values[o->value].isShared;
            inputs[port++] = (martlet_block){at(s, o->value, o->table[e], first), 0, isShared ? step : step * s->lanes, !isShared};
        }
    }
    for (int32_t i = 0; i < w->outputCount; i++) {
        const int64_t step = rows > 1 ? w->target[entries[1]] - w->target[e] : 0;
        outputs[i] = (martlet_block){at(s, w->outputs[i], w->target[e], first), 0, step * s->lanes, 1};
    }
    martlet_program_run(w->program, inputs, outputs, rows, count, work);
}

static void run_slice(void *context, int64_t index, int32_t worker) {
    const sampler_job *job = context;
    const martlet_sampler *s = job->sampler;
    const int64_t first = index * job->slice;
    const int64_t count = job->lanes - first < job->slice ? job->lanes - first : job->slice;
    float *anchor = (float *)(s->work + worker * s->workBytes);
    char *work = (char *)(anchor + MARTLET_LANE_CHUNK);
    const int64_t most = MARTLET_LANE_CHUNK / count;
    for (int32_t step = 0; step < s->stepCount; step++) {
        for (int32_t i = 0; i < s->workCount; i++) {
            const martlet_lane_work *w = &s->works[i];
            for (int32_t r = w->runStart[step]; r < w->runStart[step + 1]; r++) {
                const martlet_lane_run run = w->runs[r];
                for (int64_t done = 0; done < run.count; done += most) {
                    const int64_t rows = run.count - done < most ? run.count - done : most;
                    run_entries(s, w, first, count, w->order + run.first + done, rows, anchor, work);
                }
            }
        }
        for (int32_t g = s->groupStart[step]; g < s->groupStart[step + 1]; g++) {
            const int32_t v = s->group[g];
            memcpy(at(s, s->variable, v, first), at(s, s->drawn, v, first), (size_t)(count * s->values[s->variable].size));
        }
    }
}

void martlet_sampler_run(const martlet_sampler *sampler, martlet_pool *pool, int64_t lanes) {
    lanes = (lanes + MARTLET_LANE_WIDTH - 1) / MARTLET_LANE_WIDTH * MARTLET_LANE_WIDTH;
    const int64_t threads = martlet_pool_threads(pool);
    int64_t slice = ((lanes + threads - 1) / threads + MARTLET_LANE_WIDTH - 1) / MARTLET_LANE_WIDTH * MARTLET_LANE_WIDTH;
    if (slice > MARTLET_LANE_SLICE) slice = MARTLET_LANE_SLICE;
    sampler_job job = {sampler, slice, lanes};
    martlet_pool_run(pool, (lanes + slice - 1) / slice, run_slice, &job);
}

#define MOVE(type)                                                                                         \
    for (int64_t b = 0; b < batch; b++)                                                                    \
        for (int64_t e = 0; e < elements; e++) TO(type);

void martlet_to_lanes(char *target, const char *source, int64_t elements, int64_t batch, int64_t lanes, int32_t size) {
#define TO(type) ((type *)target)[e * lanes + b] = ((const type *)source)[b * elements + e]
    if (size == 4) { MOVE(uint32_t) } else if (size == 8) { MOVE(uint64_t) } else { MOVE(uint8_t) }
#undef TO
}

void martlet_from_lanes(char *target, const char *source, int64_t elements, int64_t batch, int64_t lanes, int32_t size) {
#define TO(type) ((type *)target)[b * elements + e] = ((const type *)source)[e * lanes + b]
    if (size == 4) { MOVE(uint32_t) } else if (size == 8) { MOVE(uint64_t) } else { MOVE(uint8_t) }
#undef TO
}
