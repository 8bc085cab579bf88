// The sampler of processors: a work-item runs the whole draw for sixteen lanes.

// The sum of products of channel c at position e, in four partial sums by position in a segment.
static inline float16 martlet_sum(
    const martlet_sampler s, __global const martlet_work *w, const martlet_value a, const martlet_value b, int e, int c,
    int iteration, int lane) {
    __global const int *T = s.T;
    const int row = T[w->row + e], aStride = w->aStride, bStride = w->bStride, lanes = s.lanes;
    const int baseA = T[w->aBase + e] + c * w->aChannelStride + martlet_moved(T, w->aCursor, iteration);
    const int baseB = T[w->bBase + e] + c * w->bChannelStride + martlet_moved(T, w->bCursor, iteration);
    float16 s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    for (int r = T[w->rowStart + row]; r < T[w->rowStart + row + 1]; r++) {
        __global const int *segment = T + w->segments + 3 * r;
        const int ea = baseA + segment[0], eb = baseB + segment[1], length = segment[2];
        if (a.kind == MARTLET_LANE_WORDS && b.kind == MARTLET_SHARED_WORDS) {
            __global const float *x = (__global const float *)a.p + (size_t)ea * lanes + lane;
            __global const float *y = (__global const float *)b.p + eb;
#define MARTLET_X(j) vload16(0, x + (size_t)((j) * aStride) * lanes)
#define MARTLET_Y(j) (float16)(y[(j) * bStride])
            int j = 0;
            for (; j + 4 <= length; j += 4) {
                s0 = fma(MARTLET_X(j), MARTLET_Y(j), s0);
                s1 = fma(MARTLET_X(j + 1), MARTLET_Y(j + 1), s1);
                s2 = fma(MARTLET_X(j + 2), MARTLET_Y(j + 2), s2);
                s3 = fma(MARTLET_X(j + 3), MARTLET_Y(j + 3), s3);
            }
            if (j < length) s0 = fma(MARTLET_X(j), MARTLET_Y(j), s0);
            if (j + 1 < length) s1 = fma(MARTLET_X(j + 1), MARTLET_Y(j + 1), s1);
            if (j + 2 < length) s2 = fma(MARTLET_X(j + 2), MARTLET_Y(j + 2), s2);
        } else {
            for (int j = 0; j < length; j++) {
                const float16 x = as_float16(martlet_fetch(a, ea + j * aStride, lanes, lane));
                const float16 y = as_float16(martlet_fetch(b, eb + j * bStride, lanes, lane));
                switch (j & 3) {
                    case 0: s0 = fma(x, y, s0); break;
                    case 1: s1 = fma(x, y, s1); break;
                    case 2: s2 = fma(x, y, s2); break;
                    default: s3 = fma(x, y, s3);
                }
            }
        }
    }
    return (s0 + s1) + (s2 + s3);
}

static inline float16 martlet_reduction(
    const martlet_sampler s, __global const martlet_work *w, const martlet_value a, int e, int c, int iteration, int lane) {
    const int base = s.T[w->aBase + e] + c * w->aChannelStride + martlet_moved(s.T, w->aCursor, iteration);
    float16 result = martlet_nothing(w->anchor);
    for (int k = 0; k < w->offsetCount; k++) {
        const float16 y = as_float16(martlet_fetch(a, base + s.T[w->offsets + k], s.lanes, lane));
        result = martlet_reduced(w->anchor, y, result);
    }
    return result;
}

#if MARTLET_ATTENDS
// The softmax's weights of the query at position e, left in `scores`, and their sum.
static inline float16 martlet_weights(
    const martlet_sampler s, __global const martlet_work *w, const martlet_value keys, const martlet_value scores, int e,
    int lane) {
    __global const int *T = s.T;
    const martlet_value query = martlet_find(s, w->query);
    const int row = T[w->row + e], q = T[w->queryBase + e], k = T[w->aBase + e], lanes = s.lanes;
    const float scale = as_float(w->scale);
    int count = 0;
    float16 most = -INFINITY, sum = 0.0f;
    for (int r = T[w->rowStart + row]; r < T[w->rowStart + row + 1]; r++) {
        __global const int *segment = T + w->segments + 3 * r;
        for (int j = 0; j < segment[2]; j++, count++) {
            const int key = k + segment[0] + j * w->aStride;
            float16 score = 0.0f;
            for (int d = 0; d < w->depth; d++) {
                score = fma(
                    martlet_word(query, q + d * w->queryStride, lanes, lane),
                    martlet_word(keys, key + d * w->aChannelStride, lanes, lane), score);
            }
            score = score * scale;
            most = MARTLET_MAXIMUM(score, most);
            martlet_keep_word(score, scores, count, lanes, lane);
        }
    }
    for (int j = 0; j < count; j++) {
        const float16 weight = exp(martlet_word(scores, j, lanes, lane) - most);
        martlet_keep_word(weight, scores, j, lanes, lane);
        sum += weight;
    }
    return sum;
}

// What that query finds in channel c; nothing where it reads nothing.
static inline float16 martlet_answer(
    const martlet_sampler s, __global const martlet_work *w, const martlet_value found, const martlet_value scores, float16 sum,
    int e, int c, int lane) {
    __global const int *T = s.T;
    const int row = T[w->row + e], base = T[w->bBase + e] + c * w->bChannelStride;
    float16 result = 0.0f;
    int count = 0;
    for (int r = T[w->rowStart + row]; r < T[w->rowStart + row + 1]; r++) {
        __global const int *segment = T + w->segments + 3 * r;
        for (int j = 0; j < segment[2]; j++, count++) {
            result = fma(
                martlet_word(scores, count, s.lanes, lane),
                martlet_word(found, base + segment[1] + j * w->bStride, s.lanes, lane), result);
        }
    }
    return count > 0 ? result / sum : result;
}
#endif

// A work for the positions of a slot.
static inline void martlet_run(
    const martlet_sampler s, __global const martlet_work *w, int iteration, int slot, int lane, int *registers) {
    __global const int *T = s.T;
    const int anchor = w->anchor, channels = w->channels;
    const int firstPosition = T[w->slotStart + slot], endPosition = T[w->slotStart + slot + 1];
    if (firstPosition == endPosition) return;
    const martlet_value a = martlet_find(s, w->a), b = martlet_find(s, w->b);
    martlet_set_constants(s, w, registers);
    for (int i = firstPosition; i < endPosition; i++) {
        const int e = T[w->order + i];
#if MARTLET_ATTENDS
        float16 weight = 0.0f;
        if (anchor == MARTLET_ATTENTION) weight = martlet_weights(s, w, a, martlet_find(s, w->scores), e, lane);
#endif
        for (int c = 0; c < channels; c++) {
            if (anchor == MARTLET_PRODUCT) {
                MARTLET_SET(0, as_int16(martlet_sum(s, w, a, b, e, c, iteration, lane)));
#if MARTLET_ATTENDS
            } else if (anchor == MARTLET_ATTENTION) {
                MARTLET_SET(0, as_int16(martlet_answer(s, w, b, martlet_find(s, w->scores), weight, e, c, lane)));
#endif
            } else if (anchor != MARTLET_PLAIN) {
                MARTLET_SET(0, as_int16(martlet_reduction(s, w, a, e, c, iteration, lane)));
            }
            martlet_finish(s, w, e, c, iteration, lane, registers);
        }
    }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void martlet_sample(
    __global uchar *memory, __global uchar *shared, __global const int *T, const int lanes, const int first, const int end) {
    const martlet_sampler s = {memory, shared, T, lanes};
    __global const martlet_header *header = (__global const martlet_header *)T;
    int registers[MARTLET_REGISTERS * MARTLET_WIDTH];
    const int lane = (int)get_group_id(0) * 16;
    for (int step = first; step < end; step++) {
        for (int m = 0; m < header->sectionCount; m++) {
            __global const martlet_section *section = (__global const martlet_section *)(T + header->sections) + m;
            for (int r = T[section->passStart + step]; r < T[section->passStart + step + 1]; r++) {
                for (int k = section->firstWork; k < section->endWork; k++) {
                    martlet_run(
                        s, (__global const martlet_work *)(T + header->works) + k, T[section->passes + 2 * r],
                        T[section->passes + 2 * r + 1], lane, registers);
                }
            }
        }
        martlet_draw(s, step, 0, 1, lane);
    }
}
