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

/// The sums of `rows` channels from `channel` on at one position, each with the same tree: four partial sums by place in a
/// segment.
static void sums_of_products(
    const martlet_sampler *s, const martlet_lane_work *w, int64_t p, int64_t channel, int64_t rows, int64_t first,
    int64_t count, float *result) {
    const martlet_level_functions *f = martlet_level_table(s->level);
    int32_t a = w->a, b = w->b;
    int64_t aBase = w->aBase[p] + channel * w->aChannelStride, bBase = w->bBase[p] + channel * w->bChannelStride;
    int64_t aStride = w->aStride, bStride = w->bStride, aNext = w->aChannelStride, bNext = w->bChannelStride;
    const int isSwapped = s->values[a].isShared && !s->values[b].isShared;
    if (isSwapped) {
        int32_t value = a;
        a = b;
        b = value;
        int64_t t = aBase;
        aBase = bBase;
        bBase = t;
        t = aStride;
        aStride = bStride;
        bStride = t;
        t = aNext;
        aNext = bNext;
        bNext = t;
    }
    const int isShared = s->values[a].isShared, otherIsShared = s->values[b].isShared;
    const int32_t row = w->row[p];
    const martlet_lane_segment *from = w->segments + w->rowStart[row], *to = w->segments + w->rowStart[row + 1];
    // Channels that read the same lanes go four at a time.
    const int64_t together = !isShared && otherIsShared && aNext == 0 ? 4 : 1;
    for (int64_t r = 0; r < rows;) {
        const int64_t taken = rows - r >= together ? together : 1;
        for (int64_t lane = 0; lane < count; lane += MARTLET_LANE_WIDTH) {
            float sums[4 * 4 * 16] = {0};
            for (const martlet_lane_segment *g = from; g < to; g++) {
                const int64_t ea = aBase + r * aNext + (isSwapped ? g->b : g->a), eb = bBase + r * bNext + (isSwapped ? g->a : g->b);
                const float *x = (const float *)at(s, a, ea, first + lane);
                const float *y = (const float *)at(s, b, eb, first + lane);
                if (isShared) {
                    for (int64_t j = 0; j < g->count; j++) {
                        const float product = x[j * aStride] * y[j * bStride];
                        for (int l = 0; l < 16; l++) sums[(j & 3) * 16 + l] += product;
                    }
                } else if (!otherIsShared) {
                    f->add_lane_products(sums, x, aStride * s->lanes, y, bStride * s->lanes, g->count);
                } else if (taken == 4) {
                    f->add_shared_products_of_four(sums, x, aStride * s->lanes, y, bStride, bNext, g->count);
                } else {
                    f->add_shared_products(sums, x, aStride * s->lanes, y, bStride, g->count);
                }
            }
            for (int64_t k = 0; k < taken; k++) {
                const float *own = sums + 64 * k;
                float *target = result + (r + k) * count + lane;
                for (int l = 0; l < 16; l++) target[l] = (own[l] + own[16 + l]) + (own[32 + l] + own[48 + l]);
            }
        }
        r += taken;
    }
}

static void reduce(
    const martlet_sampler *s, const martlet_lane_work *w, int64_t base, int64_t first, int64_t count, float *result) {
    const float start = w->anchor == MARTLET_LANES_SUM ? 0.0f : w->anchor == MARTLET_LANES_MAXIMUM ? -INFINITY : INFINITY;
    for (int64_t l = 0; l < count; l++) result[l] = start;
    const int isShared = s->values[w->a].isShared;
    for (int32_t i = 0; i < w->offsetCount; i++) {
        const float *x = (const float *)at(s, w->a, base + w->offsets[i], first);
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

/// `rows` rows: positions that advance evenly, or channels from `channel` on of the first position.
static void run_rows(
    const martlet_sampler *s, const martlet_lane_work *w, int64_t first, int64_t count, const int32_t *positions,
    int64_t channel, int64_t rows, float *anchor, char *work) {
    martlet_block inputs[MARTLET_MAXIMUM_PORTS], outputs[MARTLET_MAXIMUM_PORTS];
    int32_t port = 0;
    const int64_t p = positions[0];
    const int byChannel = w->channels > 1;
    if (w->anchor != MARTLET_LANES_PLAIN) {
        if (w->anchor == MARTLET_LANES_PRODUCT && byChannel) {
            sums_of_products(s, w, p, channel, rows, first, count, anchor);
        } else {
            for (int64_t r = 0; r < rows; r++) {
                const int64_t q = byChannel ? p : positions[r], c = byChannel ? channel + r : 0;
                if (w->anchor == MARTLET_LANES_PRODUCT) {
                    sums_of_products(s, w, q, c, 1, first, count, anchor + r * count);
                } else {
                    reduce(s, w, w->aBase[q] + c * w->aChannelStride, first, count, anchor + r * count);
                }
            }
        }
        inputs[port++] = (martlet_block){(char *)anchor, 0, count, 1};
    }
    for (int32_t i = 0; i < w->operandCount; i++) {
        const martlet_lane_operand *o = &w->operands[i];
        const int64_t step = byChannel ? o->channelStride : rows > 1 ? o->table[positions[1]] - o->table[p] : 0;
        const int64_t e = o->table[p] + channel * o->channelStride;
        if (o->value < 0) {
            inputs[port++] = (martlet_block){NULL, e + o->batchStride * first, step, o->batchStride};
        } else {
            const int isShared = s->values[o->value].isShared;
            inputs[port++] = (martlet_block){at(s, o->value, e, first), 0, isShared ? step : step * s->lanes, !isShared};
        }
    }
    const int64_t step = byChannel ? w->targetChannelStride : rows > 1 ? w->target[positions[1]] - w->target[p] : 0;
    const int64_t e = w->target[p] + channel * w->targetChannelStride;
    for (int32_t i = 0; i < w->outputCount; i++) {
        outputs[i] = (martlet_block){at(s, w->outputs[i], e, first), 0, step * s->lanes, 1};
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
        for (int32_t k = 0; k < s->workCount; k++) {
            const martlet_lane_work *w = &s->works[k];
            for (int32_t r = w->runStart[step]; r < w->runStart[step + 1]; r++) {
                const martlet_lane_run run = w->runs[r];
                for (int64_t done = 0; done < run.count; done += most) {
                    if (w->channels > 1) break;
                    const int64_t rows = run.count - done < most ? run.count - done : most;
                    run_rows(s, w, first, count, w->order + run.first + done, 0, rows, anchor, work);
                }
                for (int64_t i = 0; i < run.count && w->channels > 1; i++) {
                    for (int64_t c = 0; c < w->channels; c += most) {
                        const int64_t rows = w->channels - c < most ? w->channels - c : most;
                        run_rows(s, w, first, count, w->order + run.first + i, c, rows, anchor, work);
                    }
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
