// The sampler of GPUs. A group of MARTLET_GROUP work-items draws MARTLET_LANES examples, a power of two. The elements that a work has in a
// step, their lanes and the parts of their sums are tasks that all work-items share, so that a group is busy also with one example.
//
// How a sum is split into parts follows from its length alone, and parts are put together in their order, whoever makes them: what an
// example gives depends neither on the other examples nor on the size of groups.
//
// Two kernels do the same: martlet_sample has the loop over steps inside, one group for its examples; martlet_one_work is one work of one
// step by as many groups as it fills, for steps that are wide enough for the whole device.

// What the functions need beside the sampler.
typedef struct {
    int firstLane;
    // This group takes part `chunk` of `chunks` of each work's elements.
    int chunk, chunks;
    __local float *partials;
    int *registers;
} martlet_group;

// Part `part` of the anchor's sum, or largest or smallest number, for channel c at position e.
static inline float martlet_part(
    const martlet_sampler s, __global const martlet_work *w, const martlet_value a, const martlet_value b, int e, int c,
    int iteration, int lane, int part) {
    __global const int *T = s.T;
    const int parts = 1 << w->partShift, anchor = w->anchor, lanes = s.lanes;
    const int baseA = T[w->aBase + e] + c * w->aChannelStride + martlet_moved(T, w->aCursor, iteration);
    float result = martlet_nothing(anchor);
    if (anchor != MARTLET_PRODUCT) {
        for (int k = part; k < w->offsetCount; k += parts) {
            result = martlet_reduced(anchor, as_float(martlet_fetch(a, baseA + T[w->offsets + k], lanes, lane)), result);
        }
        return result;
    }
    const int baseB = T[w->bBase + e] + c * w->bChannelStride + martlet_moved(T, w->bCursor, iteration);
    const int row = T[w->row + e], aStride = w->aStride, bStride = w->bStride;
    const size_t aLanes = a.kind & 1 ? lanes : 1, bLanes = b.kind & 1 ? lanes : 1;
    __global const float *x = (__global const float *)a.p + (a.kind & 1 ? lane : 0);
    __global const float *y = (__global const float *)b.p + (b.kind & 1 ? lane : 0);
    // Terms are counted through all segments; neighbouring work-items take neighbouring terms.
    int before = 0;
    for (int r = T[w->rowStart + row]; r < T[w->rowStart + row + 1]; r++) {
        __global const int *segment = T + w->segments + 3 * r;
        const int ea = baseA + segment[0], eb = baseB + segment[1], length = segment[2];
        for (int j = (part - before) & (parts - 1); j < length; j += parts) {
            result = fma(x[(ea + j * aStride) * aLanes], y[(eb + j * bStride) * bLanes], result);
        }
        before += length;
    }
    return result;
}

// A work that is no attention: its elements `first` to `end` at a slot's positions.
static inline void martlet_elements(
    const martlet_sampler s, const martlet_group g, __global const martlet_work *w, int iteration, int positions, int first,
    int end) {
    __global const int *T = s.T;
    const int anchor = w->anchor, channels = w->channels, partShift = w->partShift, own = (int)get_local_id(0);
    const martlet_value a = martlet_find(s, w->a), b = martlet_find(s, w->b);
    // Where a sum's parts have no room, there are elements enough for every work-item to make all parts of its own.
    const bool shared = partShift > 0 && end - first <= (MARTLET_PARTIALS / MARTLET_LANES) >> partShift;
    if (shared) {
        for (int t = own; t < ((end - first) << partShift) * MARTLET_LANES; t += MARTLET_GROUP) {
            const int i = first + (t / MARTLET_LANES >> partShift), part = t / MARTLET_LANES & ((1 << partShift) - 1);
            g.partials[t] = martlet_part(
                s, w, a, b, T[positions + i / channels], i % channels, iteration, g.firstLane + t % MARTLET_LANES, part);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    for (int t = own; t < (end - first) * MARTLET_LANES; t += MARTLET_GROUP) {
        const int i = first + t / MARTLET_LANES, lane = g.firstLane + t % MARTLET_LANES;
        const int e = T[positions + i / channels], c = i % channels;
        if (anchor != MARTLET_PLAIN) {
            float result = martlet_nothing(anchor);
            for (int part = 0; part < 1 << partShift; part++) {
                const float y = shared ? g.partials[(((i - first) << partShift) + part) * MARTLET_LANES + t % MARTLET_LANES]
                                       : martlet_part(s, w, a, b, e, c, iteration, lane, part);
                result = part == 0 ? y : martlet_reduced(anchor, y, result);
            }
            g.registers[0] = as_int(result);
        }
        martlet_finish(s, w, e, c, iteration, lane, g.registers);
    }
}

#if MARTLET_ATTENDS
// Part `part` of what the query at position e finds: of every 2^partShift-th key from `part` on, the largest score, the sum of the weights
// beside it, and in each channel the weighted sum of the values. They are left in `found`, MARTLET_LANES floats apart; the weights are
// left in `scores` from `base` on.
static inline void martlet_query_part(
    const martlet_sampler s, __global const martlet_work *w, const martlet_value query, const martlet_value keys,
    const martlet_value values, const martlet_value scores, int base, int e, int lane, int part, __local float *found) {
    __global const int *T = s.T;
    const int parts = 1 << w->partShift, lanes = s.lanes, row = T[w->row + e];
    const int firstRun = T[w->rowStart + row], endRun = T[w->rowStart + row + 1];
    const int q = T[w->queryBase + e], k = T[w->aBase + e], v = T[w->bBase + e];
    float largest = -INFINITY, total = 0.0f;
    int before = 0;
    for (int r = firstRun; r < endRun; r++) {
        __global const int *segment = T + w->segments + 3 * r;
        for (int j = (part - before) & (parts - 1); j < segment[2]; j += parts) {
            const int key = k + segment[0] + j * w->aStride;
            float score = 0.0f;
            for (int d = 0; d < w->depth; d++) {
                score = fma(
                    martlet_word(query, q + d * w->queryStride, lanes, lane),
                    martlet_word(keys, key + d * w->aChannelStride, lanes, lane), score);
            }
            score *= as_float(w->scale);
            largest = MARTLET_MAXIMUM(score, largest);
            martlet_keep_word(score, scores, base + before + j, lanes, lane);
        }
        before += segment[2];
    }
    for (int j = part; j < before; j += parts) {
        const float weight = exp(martlet_word(scores, base + j, lanes, lane) - largest);
        martlet_keep_word(weight, scores, base + j, lanes, lane);
        total += weight;
    }
    found[0] = largest;
    found[MARTLET_LANES] = total;
    for (int c = 0; c < w->channels; c++) {
        float sum = 0.0f;
        before = 0;
        for (int r = firstRun; r < endRun; r++) {
            __global const int *segment = T + w->segments + 3 * r;
            for (int j = (part - before) & (parts - 1); j < segment[2]; j += parts) {
                const int value = v + segment[1] + j * w->bStride + c * w->bChannelStride;
                sum = fma(
                    martlet_word(scores, base + before + j, lanes, lane),
                    martlet_word(values, value, lanes, lane), sum);
            }
            before += segment[2];
        }
        found[(2 + c) * MARTLET_LANES] = sum;
    }
}

// The parts of a query put together in channel c; nothing where it reads nothing. A part without a key has a sum of zero.
static inline float martlet_answer(__local const float *found, int parts, int channels, int c) {
    float most = -INFINITY, result = 0.0f, total = 0.0f;
    for (int part = 0; part < parts; part++) {
        const float largest = found[part * (2 + channels) * MARTLET_LANES];
        most = MARTLET_MAXIMUM(largest, most);
    }
    for (int part = 0; part < parts; part++) {
        __local const float *p = found + part * (2 + channels) * MARTLET_LANES;
        if (p[MARTLET_LANES] == 0.0f) continue;
        const float factor = exp(p[0] - most);
        result = fma(p[(2 + c) * MARTLET_LANES], factor, result);
        total = fma(p[MARTLET_LANES], factor, total);
    }
    return total == 0.0f ? 0.0f : result / total;
}

// Attention: this group's part of the queries at a slot's positions, as many at a time as have room.
static inline void martlet_attention(
    const martlet_sampler s, const martlet_group g, __global const martlet_work *w, int iteration, int positions, int count) {
    __global const int *T = s.T;
    const int channels = w->channels, partShift = w->partShift, own = (int)get_local_id(0);
    const int size = ((2 + channels) << partShift) * MARTLET_LANES;
    const martlet_value query = martlet_find(s, w->query), scores = martlet_find(s, w->scores);
    const martlet_value keys = martlet_find(s, w->a), values = martlet_find(s, w->b);
    const int room = min(MARTLET_PARTIALS / size, w->scoreRows / g.chunks), ownRow = g.chunk * room;
    for (int q = ownRow; q < count; q += room * g.chunks) {
        const int here = min(room, count - q);
        for (int t = own; t < (here << partShift) * MARTLET_LANES; t += MARTLET_GROUP) {
            const int i = t / MARTLET_LANES >> partShift, part = t / MARTLET_LANES & ((1 << partShift) - 1);
            const int lane = t % MARTLET_LANES;
            martlet_query_part(
                s, w, query, keys, values, scores, (ownRow + i) * w->scoreKeys, T[positions + q + i], g.firstLane + lane, part,
                g.partials + i * size + part * (2 + channels) * MARTLET_LANES + lane);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int t = own; t < here * channels * MARTLET_LANES; t += MARTLET_GROUP) {
            const int i = t / MARTLET_LANES / channels, c = t / MARTLET_LANES % channels, lane = t % MARTLET_LANES;
            const float answer = martlet_answer(g.partials + i * size + lane, 1 << partShift, channels, c);
            g.registers[0] = as_int(answer);
            martlet_finish(s, w, T[positions + q + i], c, iteration, g.firstLane + lane, g.registers);
        }
        // The next queries' parts take the place of these.
        if (q + room * g.chunks < count) barrier(CLK_LOCAL_MEM_FENCE);
    }
}
#endif

// This group's part of a work for the positions of a slot.
static inline void martlet_run(
    const martlet_sampler s, const martlet_group g, __global const martlet_work *w, int iteration, int slot) {
    const int first = s.T[w->slotStart + slot], count = s.T[w->slotStart + slot + 1] - first;
    if (count == 0) return;
    martlet_set_constants(s, w, g.registers);
#if MARTLET_ATTENDS
    if (w->anchor == MARTLET_ATTENTION) {
        martlet_attention(s, g, w, iteration, w->order + first, count);
        return;
    }
#endif
    const long elements = (long)count * w->channels;
    martlet_elements(
        s, g, w, iteration, w->order + first, (int)(elements * g.chunk / g.chunks),
        (int)(elements * (g.chunk + 1) / g.chunks));
}

#define MARTLET_KERNEL __kernel __attribute__((reqd_work_group_size(MARTLET_GROUP, 1, 1)))

// Steps `first` to `end` for the examples of a group.
MARTLET_KERNEL void martlet_sample(
    __global uchar *memory, __global uchar *shared, __global const int *T, const int lanes, const int first, const int end) {
    __local float partials[MARTLET_PARTIALS];
    int registers[MARTLET_REGISTERS];
    const martlet_sampler s = {memory, shared, T, lanes};
    const martlet_group g = {(int)get_group_id(0) * MARTLET_LANES, 0, 1, partials, registers};
    __global const martlet_header *header = (__global const martlet_header *)T;
    const int own = (int)get_local_id(0);
    for (int step = first; step < end; step++) {
        for (int m = 0; m < header->sectionCount; m++) {
            __global const martlet_section *section = (__global const martlet_section *)(T + header->sections) + m;
            for (int r = T[section->passStart + step]; r < T[section->passStart + step + 1]; r++) {
                for (int k = section->firstWork; k < section->endWork; k++) {
                    __global const martlet_work *w = (__global const martlet_work *)(T + header->works) + k;
                    const int slot = T[section->passes + 2 * r + 1];
                    // The same for every work-item of the group.
                    if (T[w->slotStart + slot] == T[w->slotStart + slot + 1]) continue;
                    martlet_run(s, g, w, T[section->passes + 2 * r], slot);
                    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
                }
            }
        }
        martlet_draw(s, step, own / MARTLET_LANES, MARTLET_GROUP / MARTLET_LANES, g.firstLane + own % MARTLET_LANES);
        barrier(CLK_GLOBAL_MEM_FENCE);
    }
}

// One work in one pass, by get_num_groups(1) groups for the same examples.
MARTLET_KERNEL void martlet_one_work(
    __global uchar *memory, __global uchar *shared, __global const int *T, const int lanes, const int work, const int iteration,
    const int slot) {
    __local float partials[MARTLET_PARTIALS];
    int registers[MARTLET_REGISTERS];
    const martlet_sampler s = {memory, shared, T, lanes};
    const martlet_group g = {
        (int)get_group_id(0) * MARTLET_LANES, (int)get_group_id(1), (int)get_num_groups(1), partials, registers};
    __global const martlet_header *header = (__global const martlet_header *)T;
    martlet_run(s, g, (__global const martlet_work *)(T + header->works) + work, iteration, slot);
}

// What was drawn in a step.
MARTLET_KERNEL void martlet_draw_step(
    __global uchar *memory, __global uchar *shared, __global const int *T, const int lanes, const int step) {
    const martlet_sampler s = {memory, shared, T, lanes};
    const int own = (int)get_local_id(0), lane = (int)get_group_id(0) * MARTLET_LANES + own % MARTLET_LANES;
    martlet_draw(s, step, own / MARTLET_LANES, MARTLET_GROUP / MARTLET_LANES, lane);
}
