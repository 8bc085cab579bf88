// Runs samplers. Slices of the lanes go through all steps on their own, a thread each; where there are fewer slices than
// threads and steps are long, one thread goes through the steps of a slice and all share the channels of its long works.
#include <math.h>
#include <string.h>

#include "kernels.h"

typedef struct {
    const martlet_sampler *sampler;
    int64_t slice;
    int64_t lanes;
    /// Shares the works of a slice, or NULL.
    martlet_pool *pool;
} sampler_job;

/// The address of (element, lane).
static inline char *at(const martlet_sampler *s, int32_t value, int64_t element, int64_t lane) {
    const martlet_lane_value *v = &s->values[value];
    return v->base + (v->isShared ? element : element * s->lanes + lane) * v->size;
}

/// How much further elements lie in an iteration.
static inline int64_t moved(const int32_t *cursor, int32_t iteration) { return cursor ? cursor[iteration] : 0; }

static inline float total(const float *s, int64_t stride) { return (s[0] + s[stride]) + (s[2 * stride] + s[3 * stride]); }

/// The sums of a work whose weights are packed, with vectors of channels: `channel` begins a block.
static void packed_sums(
    const martlet_sampler *s, const martlet_lane_work *w, int32_t iteration, int64_t p, int64_t channel, int64_t rows, int64_t first,
    int64_t count, float *result) {
    const martlet_isa_functions *f = martlet_isa_table(s->isa);
    const martlet_lane_segment *from = w->segments + w->rowStart[w->row[p]], *to = w->segments + w->rowStart[w->row[p] + 1];
    const int64_t aBase = w->aBase[p] + moved(w->aCursor, iteration);
    enum { BLOCKS = 2, CHANNELS = BLOCKS * MARTLET_LANE_BLOCK };
    for (int64_t r = 0; r < rows; r += CHANNELS) {
        const int64_t taken = rows - r < CHANNELS ? rows - r : CHANNELS;
        const int64_t blocks = (taken + MARTLET_LANE_BLOCK - 1) / MARTLET_LANE_BLOCK;
        for (int64_t lane = 0; lane < count; lane++) {
            float sums[BLOCKS * 4 * MARTLET_LANE_BLOCK] = {0};
            for (const martlet_lane_segment *g = from; g < to; g++) {
                const float *x = (const float *)at(s, w->a, aBase + g->a, first + lane);
                f->add_packed_products(
                    sums, x, w->aStride * s->lanes, s->packed + g->packed + (channel + r) * g->count, g->count, blocks);
            }
            float totals[CHANNELS];
            for (int64_t k = 0; k < blocks; k++)
                for (int64_t c = 0; c < MARTLET_LANE_BLOCK; c++)
                    totals[k * MARTLET_LANE_BLOCK + c] = total(sums + 4 * k * MARTLET_LANE_BLOCK + c, MARTLET_LANE_BLOCK);
            for (int64_t k = 0; k < taken; k++) result[(r + k) * count + lane] = totals[k];
        }
    }
}

/// The sums of `rows` channels from `channel` on at one position, each with the same tree: four partial sums by place in a
/// segment.
static void sums_of_products(
    const martlet_sampler *s, const martlet_lane_work *w, int32_t iteration, int64_t p, int64_t channel, int64_t rows, int64_t first,
    int64_t count, float *result) {
    if (w->isPacked && s->isFew) {
        packed_sums(s, w, iteration, p, channel, rows, first, count, result);
        return;
    }
    const martlet_isa_functions *f = martlet_isa_table(s->isa);
    int32_t a = w->a, b = w->b;
    int64_t aBase = w->aBase[p] + channel * w->aChannelStride + moved(w->aCursor, iteration);
    int64_t bBase = w->bBase[p] + channel * w->bChannelStride + moved(w->bCursor, iteration);
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
    const int64_t width = s->isFew ? 1 : MARTLET_LANE_WIDTH;
    for (int64_t r = 0; r < rows;) {
        const int64_t taken = width > 1 && rows - r >= together ? together : 1;
        for (int64_t lane = 0; lane < count; lane += width) {
            float sums[4 * 4 * 16] = {0};
            for (const martlet_lane_segment *g = from; g < to; g++) {
                const int64_t ea = aBase + r * aNext + (isSwapped ? g->b : g->a), eb = bBase + r * bNext + (isSwapped ? g->a : g->b);
                const float *x = (const float *)at(s, a, ea, first + lane);
                const float *y = (const float *)at(s, b, eb, first + lane);
                int64_t yStride = otherIsShared ? bStride : bStride * s->lanes, yNext = bNext;
                if (w->isPacked) {
                    const int64_t c = channel + r;
                    y = s->packed + g->packed + c / MARTLET_LANE_BLOCK * MARTLET_LANE_BLOCK * g->count + c % MARTLET_LANE_BLOCK;
                    yStride = MARTLET_LANE_BLOCK;
                    yNext = 1;
                }
                if (isShared) {
                    for (int64_t j = 0; j < g->count; j++) {
                        const float product = x[j * aStride] * y[j * bStride];
                        for (int l = 0; l < width; l++) sums[(j & 3) * width + l] += product;
                    }
                } else if (width == 1) {
                    f->add_products(sums, x, aStride * s->lanes, y, yStride, g->count);
                } else if (!otherIsShared) {
                    f->add_lane_products(sums, x, aStride * s->lanes, y, yStride, g->count);
                } else if (taken == 4) {
                    f->add_shared_products_of_four(sums, x, aStride * s->lanes, y, yStride, yNext, g->count);
                } else {
                    f->add_shared_products(sums, x, aStride * s->lanes, y, yStride, g->count);
                }
            }
            for (int64_t k = 0; k < taken; k++) {
                float *target = result + (r + k) * count + lane;
                for (int l = 0; l < width; l++) target[l] = total(sums + 4 * width * k + l, width);
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
    const martlet_sampler *s, const martlet_lane_work *w, int32_t iteration, int64_t first, int64_t count, const int32_t *positions,
    int64_t channel, int64_t rows, float *anchor, char *work) {
    martlet_block inputs[MARTLET_MAXIMUM_PORTS], outputs[MARTLET_MAXIMUM_PORTS];
    int32_t port = 0;
    const int64_t p = positions[0];
    const int byChannel = w->channels > 1;
    if (w->anchor != MARTLET_LANES_PLAIN) {
        if (w->anchor == MARTLET_LANES_PRODUCT && byChannel) {
            sums_of_products(s, w, iteration, p, channel, rows, first, count, anchor);
        } else {
            for (int64_t r = 0; r < rows; r++) {
                const int64_t q = byChannel ? p : positions[r], c = byChannel ? channel + r : 0;
                if (w->anchor == MARTLET_LANES_PRODUCT) {
                    sums_of_products(s, w, iteration, q, c, 1, first, count, anchor + r * count);
                } else {
                    reduce(s, w, w->aBase[q] + c * w->aChannelStride + moved(w->aCursor, iteration), first, count, anchor + r * count);
                }
            }
        }
        inputs[port++] = (martlet_block){(char *)anchor, 0, count, 1};
    }
    for (int32_t i = 0; i < w->operandCount; i++) {
        const martlet_lane_operand *o = &w->operands[i];
        const int64_t step = byChannel ? o->channelStride : rows > 1 ? o->table[positions[1]] - o->table[p] : 0;
        const int64_t e = o->table[p] + channel * o->channelStride + moved(o->cursor, iteration);
        if (o->value < 0) {
            inputs[port++] = (martlet_block){NULL, e + o->batchStride * first, step, o->batchStride};
        } else {
            const int isShared = s->values[o->value].isShared;
            inputs[port++] = (martlet_block){at(s, o->value, e, first), 0, isShared ? step : step * s->lanes, !isShared};
        }
    }
    for (int32_t i = 0; i < w->outputCount; i++) {
        const martlet_lane_operand *o = &w->outputs[i];
        const int64_t step = byChannel ? o->channelStride : rows > 1 ? o->table[positions[1]] - o->table[p] : 0;
        const int64_t e = o->table[p] + channel * o->channelStride + moved(o->cursor, iteration);
        outputs[i] = (martlet_block){at(s, o->value, e, first), 0, step * s->lanes, 1};
    }
    martlet_program_run(w->program, inputs, outputs, rows, count, work);
}

/// The query at a position of attention.
static void attend(
    const martlet_sampler *s, const martlet_lane_work *w, int64_t p, int64_t first, int64_t count, float *work) {
    const martlet_lane_operand *result = &w->outputs[0], *query = w->queries;
    const int32_t row = w->row[p];
    martlet_lane_attention t = {
        .queryDepth = query->channelStride * s->lanes,
        .keyDepth = w->aChannelStride * s->lanes,
        .valueDepth = w->bChannelStride * s->lanes,
        .resultDepth = result->channelStride * s->lanes,
        .segments = w->segments + w->rowStart[row],
        .segmentCount = w->rowStart[row + 1] - w->rowStart[row],
        .keyStride = w->aStride,
        .valueStride = w->bStride,
        .element = s->lanes,
        .depth = w->depth,
        .width = w->channels,
        .scale = w->scale,
        .lanes = s->isFew ? s->lanes : MARTLET_LANE_WIDTH,
        .work = work,
    };
    for (int64_t lane = 0; lane < count; lane += t.lanes) {
        t.query = (const float *)at(s, w->query, query->table[p], first + lane);
        t.keys = (const float *)at(s, w->a, w->aBase[p], first + lane);
        t.values = (const float *)at(s, w->b, w->bBase[p], first + lane);
        t.result = (float *)at(s, result->value, result->table[p], first + lane);
        t.live = minimum(t.lanes, count - lane);
        martlet_isa_table(s->isa)->lane_attention(&t);
    }
}

/// The blocks of channels that threads may share at each position.
static int64_t block_count(const martlet_lane_work *w) {
    return w->anchor == MARTLET_LANES_ATTENTION ? 1 : (w->channels + MARTLET_LANE_BLOCK - 1) / MARTLET_LANE_BLOCK;
}

/// The rows of one member's part of a work: from item `from` to item `to`, where an item is a block of channels of a position, or
/// a position of a work of one channel or of attention.
static void run_items(
    const martlet_sampler *s, const martlet_lane_work *w, martlet_lane_pass pass, int64_t from, int64_t to, int64_t first, int64_t count,
    char *scratch) {
    float *anchor = (float *)scratch;
    char *work = (char *)(anchor + MARTLET_LANE_CHUNK);
    const int64_t blocks = block_count(w);
    // Whole blocks of channels.
    const int64_t most = MARTLET_LANE_CHUNK / count / MARTLET_LANE_BLOCK * MARTLET_LANE_BLOCK;
    int64_t before = 0;
    for (int32_t r = w->runStart[pass.slot]; r < w->runStart[pass.slot + 1] && before < to; r++) {
        const martlet_lane_run run = w->runs[r];
        const int64_t items = run.count * blocks;
        const int64_t end = to - before < items ? to - before : items;
        for (int64_t i = from > before ? from - before : 0; i < end;) {
            if (w->anchor == MARTLET_LANES_ATTENTION) {
                attend(s, w, w->order[run.first + i], first, count, anchor);
                i++;
                continue;
            }
            if (w->channels == 1) {
                const int64_t rows = end - i < most ? end - i : most;
                run_rows(s, w, pass.iteration, first, count, w->order + run.first + i, 0, rows, anchor, work);
                i += rows;
                continue;
            }
            const int64_t block = i % blocks, taken = end - i < blocks - block ? end - i : blocks - block;
            const int64_t last = (block + taken) * MARTLET_LANE_BLOCK < w->channels ? (block + taken) * MARTLET_LANE_BLOCK : w->channels;
            for (int64_t c = block * MARTLET_LANE_BLOCK; c < last; c += most) {
                run_rows(
                    s, w, pass.iteration, first, count, w->order + run.first + i / blocks, c, last - c < most ? last - c : most,
                    anchor, work);
            }
            i += taken;
        }
        before += items;
    }
}

static int64_t position_count(const martlet_lane_work *w, int32_t slot) {
    int64_t count = 0;
    for (int32_t r = w->runStart[slot]; r < w->runStart[slot + 1]; r++) count += w->runs[r].count;
    return count;
}

/// A long work, in as many parts as there are threads.
typedef struct {
    const martlet_sampler *sampler;
    const martlet_lane_work *work;
    martlet_lane_pass pass;
    int64_t items, parts;
    int64_t first, count;
} shared_work;

static void run_part(void *context, int64_t index, int32_t worker) {
    const shared_work *p = context;
    run_items(
        p->sampler, p->work, p->pass, p->items * index / p->parts, p->items * (index + 1) / p->parts, p->first, p->count,
        p->sampler->work + worker * p->sampler->workBytes);
}

static void run_pass(
    const sampler_job *job, const martlet_lane_section *section, martlet_lane_pass pass, int64_t first, int64_t count,
    char *scratch) {
    const martlet_sampler *s = job->sampler;
    for (int32_t k = section->firstWork; k < section->endWork; k++) {
        const martlet_lane_work *w = &s->works[k];
        const int64_t positions = position_count(w, pass.slot);
        if (positions == 0) continue;
        const int64_t items = positions * block_count(w);
        if (job->pool != NULL && positions * w->cost * count >= MARTLET_SHARED_WORK) {
            shared_work shared = {s, w, pass, items, martlet_pool_threads(job->pool), first, count};
            martlet_pool_run(job->pool, shared.parts, run_part, &shared);
        } else {
            run_items(s, w, pass, 0, items, first, count, scratch);
        }
    }
}

static void run_slice(void *context, int64_t index, int32_t worker) {
    const sampler_job *job = context;
    const martlet_sampler *s = job->sampler;
    const int64_t first = index * job->slice;
    const int64_t count = job->lanes - first < job->slice ? job->lanes - first : job->slice;
    char *scratch = s->work + worker * s->workBytes;
    for (int32_t step = 0; step < s->stepCount; step++) {
        for (int32_t k = 0; k < s->sectionCount; k++) {
            const martlet_lane_section *section = &s->sections[k];
            for (int32_t i = section->passStart[step]; i < section->passStart[step + 1]; i++) {
                run_pass(job, section, section->passes[i], first, count, scratch);
            }
        }
        for (int32_t g = s->groupStart[step]; g < s->groupStart[step + 1]; g++) {
            const int32_t v = s->group[g];
            memcpy(at(s, s->variable, v, first), at(s, s->drawn, v, first), (size_t)(count * s->values[s->variable].size));
        }
    }
}

static void pack(void *context, int64_t index, int32_t worker) {
    const martlet_sampler *s = context;
    const martlet_lane_pack *k = &s->packs[index];
    const float *source = (const float *)s->values[k->value].base + k->start;
    for (int64_t c = 0; c < k->channels; c++) {
        float *target = s->packed + k->target + c / MARTLET_LANE_BLOCK * MARTLET_LANE_BLOCK * k->count + c % MARTLET_LANE_BLOCK;
        for (int64_t j = 0; j < k->count; j++) target[j * MARTLET_LANE_BLOCK] = source[c * k->channelStride + j * k->stride];
    }
    (void)worker;
}

void martlet_sampler_run(const martlet_sampler *sampler, martlet_pool *pool, int64_t lanes) {
    martlet_pool_run(pool, sampler->packCount, pack, (void *)sampler);
    const int64_t threads = martlet_pool_threads(pool);
    const int64_t width = sampler->isFew ? lanes : MARTLET_LANE_WIDTH;
    lanes = (lanes + width - 1) / width * width;
    int64_t slice = ((lanes + threads - 1) / threads + width - 1) / width * width;
    if (slice > MARTLET_LANE_SLICE) slice = MARTLET_LANE_SLICE;
    const int64_t slices = (lanes + slice - 1) / slice;
    if (2 * slices <= threads && sampler->stepCost * lanes >= MARTLET_SHARED_STEP) {
        sampler_job job = {sampler, MARTLET_LANE_SLICE, lanes, pool};
        for (int64_t i = 0; i * MARTLET_LANE_SLICE < lanes; i++) run_slice(&job, i, 0);
        return;
    }
    sampler_job job = {sampler, slice, lanes, NULL};
    martlet_pool_run(pool, slices, run_slice, &job);
}

#define MOVE(type)                                                                                         \
    for (int64_t b = 0; b < batch; b++)                                                                    \
        for (int64_t e = 0; e < elements; e++) TO(type);

void martlet_to_lanes(char *target, const char *source, int64_t elements, int64_t batch, int64_t lanes, int32_t size) {
#define TO(type) ((type *)target)[e * lanes + b] = ((const type *)source)[b * elements + e]
    if (size == 4) { MOVE(uint32_t) } else if (size == 8) { MOVE(uint64_t) } else { MOVE(uint8_t) }
#undef TO
}

void martlet_from_lanes(
    char *target, const char *source, const int32_t *places, int64_t elements, int64_t batch, int64_t lanes, int32_t size) {
#define TO(type) ((type *)target)[b * elements + e] = ((const type *)source)[(places ? places[e] : e) * lanes + b]
    if (size == 4) { MOVE(uint32_t) } else if (size == 8) { MOVE(uint64_t) } else { MOVE(uint8_t) }
#undef TO
}
