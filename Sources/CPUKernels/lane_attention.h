// Attention in samplers: one query of as many lanes as fit sixteen floats, of keys and values whose depths lie one after another. Of
// L lanes (a power of two up to sixteen) sixteen floats hold 16/L depths. Every lane has the same tree, whatever L: a score is sixteen
// partial sums by depth modulo sixteen, folded in halves; keys are taken 64 at a time, in order.

enum { LANE_FLOATS = 16 };

#if WIDTH == 16
#define SHUFFLED(x, a) __builtin_shufflevector(x, x, 0 ^ a, 1 ^ a, 2 ^ a, 3 ^ a, 4 ^ a, 5 ^ a, 6 ^ a, 7 ^ a, 8 ^ a, 9 ^ a, \
        10 ^ a, 11 ^ a, 12 ^ a, 13 ^ a, 14 ^ a, 15 ^ a)
#elif WIDTH == 8
#define SHUFFLED(x, a) __builtin_shufflevector(x, x, 0 ^ a, 1 ^ a, 2 ^ a, 3 ^ a, 4 ^ a, 5 ^ a, 6 ^ a, 7 ^ a)
#else
#define SHUFFLED(x, a) __builtin_shufflevector(x, x, 0 ^ a, 1 ^ a, 2 ^ a, 3 ^ a)
#endif

// x[i] += x[i ^ distance], so that both of a pair hold their sum.
INLINE void fold(vf *x, const int distance) {
    if (distance >= WIDTH) {
        for (int v = 0; v < LANE_VECTORS; v++) {
            const int other = v ^ (distance / WIDTH);
            if (other > v) x[v] = x[other] = x[v] + x[other];
        }
        return;
    }
    for (int v = 0; v < LANE_VECTORS; v++) {
        switch (distance) {
#if WIDTH == 16
        case 8: x[v] += SHUFFLED(x[v], 8); break;
#endif
#if WIDTH >= 8
        case 4: x[v] += SHUFFLED(x[v], 4); break;
#endif
        case 2: x[v] += SHUFFLED(x[v], 2); break;
        default: x[v] += SHUFFLED(x[v], 1); break;
        }
    }
}

// The score of a key for each lane, repeated for all depths that sixteen floats hold.
INLINE void lane_score(const int lanes, float *score, const float *q, const float *key, int64_t stride, int64_t chunks) {
    vf sums[LANE_FLOATS][LANE_VECTORS];
#pragma clang loop unroll(full)
    for (int m = 0; m < lanes; m++)
        for (int v = 0; v < LANE_VECTORS; v++) sums[m][v] = splat(0);
    int64_t c = 0;
    for (; c + lanes <= chunks; c += lanes) {
#pragma clang loop unroll(full)
        for (int m = 0; m < lanes; m++)
            for (int v = 0; v < LANE_VECTORS; v++)
                sums[m][v] = FMA(
                    *(const vf_at *)(q + (c + m) * LANE_FLOATS + v * WIDTH), *(const vf_at *)(key + (c + m) * stride + v * WIDTH),
                    sums[m][v]);
    }
    const int64_t left = chunks - c;
#pragma clang loop unroll(full)
    for (int m = 0; m < lanes; m++) {
        if (m >= left) break;
        for (int v = 0; v < LANE_VECTORS; v++)
            sums[m][v] = FMA(
                *(const vf_at *)(q + (c + m) * LANE_FLOATS + v * WIDTH), *(const vf_at *)(key + (c + m) * stride + v * WIDTH),
                sums[m][v]);
    }
    for (int half = lanes / 2; half >= 1; half /= 2)
        for (int m = 0; m < half; m++)
            for (int v = 0; v < LANE_VECTORS; v++) sums[m][v] += sums[m + half][v];
    for (int distance = LANE_FLOATS / 2; distance >= lanes; distance /= 2) fold(sums[0], distance);
    for (int v = 0; v < LANE_VECTORS; v++) *(vf_at *)(score + v * WIDTH) = sums[0][v];
}

// target[chunk] += over keys of weights[key] * values[key][chunk], for some neighbouring chunks.
INLINE void lane_values(
    const int chunks, float *target, const float *weights, const float *const *values, int64_t stride, int64_t first, int64_t count) {
    vf sums[8][LANE_VECTORS];
#pragma clang loop unroll(full)
    for (int m = 0; m < chunks; m++)
        for (int v = 0; v < LANE_VECTORS; v++) sums[m][v] = *(const vf_at *)(target + m * LANE_FLOATS + v * WIDTH);
    for (int64_t j = 0; j < count; j++) {
        const float *value = values[j] + first * stride;
        for (int v = 0; v < LANE_VECTORS; v++) {
            const vf weight = *(const vf_at *)(weights + j * LANE_FLOATS + v * WIDTH);
#pragma clang loop unroll(full)
            for (int m = 0; m < chunks; m++) sums[m][v] = FMA(weight, *(const vf_at *)(value + m * stride + v * WIDTH), sums[m][v]);
        }
    }
#pragma clang loop unroll(full)
    for (int m = 0; m < chunks; m++)
        for (int v = 0; v < LANE_VECTORS; v++) *(vf_at *)(target + m * LANE_FLOATS + v * WIDTH) = sums[m][v];
}

// The rows of keys (or values) in sixteens of floats, zeros behind the last depth: where they lie, if they are whole there, or copied.
INLINE int64_t lane_rows(
    const float **rows, float *copies, const float *const *source, int64_t count, int64_t depth, int64_t stride, int64_t lanes) {
    if (lanes == LANE_FLOATS || (stride == lanes && depth * lanes % LANE_FLOATS == 0)) {
        memcpy(rows, source, (size_t)count * sizeof(*rows));
        return lanes == LANE_FLOATS ? stride : LANE_FLOATS;
    }
    const int64_t row = (depth * lanes + LANE_FLOATS - 1) / LANE_FLOATS * LANE_FLOATS;
    for (int64_t j = 0; j < count; j++) {
        float *target = copies + j * row;
        for (int64_t d = 0; d < depth; d++) memcpy(target + d * lanes, source[j] + d * stride, (size_t)lanes * sizeof(float));
        for (int64_t i = depth * lanes; i < row; i++) target[i] = 0;
        rows[j] = target;
    }
    return LANE_FLOATS;
}

// Another 64 keys, or fewer, with their values.
INLINE void lane_attention_block(const martlet_lane_attention *t, const float *const *keys, const float *const *values, int64_t count) {
    const int64_t chunks = (t->depth * t->lanes + LANE_FLOATS - 1) / LANE_FLOATS;
    const int64_t valueChunks = (t->width * t->lanes + LANE_FLOATS - 1) / LANE_FLOATS;
    float *q = t->work, *weights = q + chunks * LANE_FLOATS, *sums = weights + MARTLET_LANE_KEYS * LANE_FLOATS;
    float *best = sums + valueChunks * LANE_FLOATS, *total = best + LANE_FLOATS, *copies = total + LANE_FLOATS;
    const float *rows[MARTLET_LANE_KEYS];
    int64_t stride = lane_rows(rows, copies, keys, count, t->depth, t->keyDepth, t->lanes);
    for (int64_t j = 0; j < count; j++) {
        float *score = weights + j * LANE_FLOATS;
        switch (t->lanes) {
        case 1: lane_score(1, score, q, rows[j], stride, chunks); break;
        case 2: lane_score(2, score, q, rows[j], stride, chunks); break;
        case 4: lane_score(4, score, q, rows[j], stride, chunks); break;
        case 8: lane_score(8, score, q, rows[j], stride, chunks); break;
        default: lane_score(16, score, q, rows[j], stride, chunks); break;
        }
    }
    for (int v = 0; v < LANE_VECTORS; v++) {
        const vf before = *(const vf_at *)(best + v * WIDTH);
        vf most = before;
        for (int64_t j = 0; j < count; j++) {
            const vf score = *(const vf_at *)(weights + j * LANE_FLOATS + v * WIDTH);
            most = choose(score > most, score, most);
        }
        // What has been summed up so far is relative to the greatest score so far.
        const vf scale = vector_exp(before - most);
        vf sum = *(const vf_at *)(total + v * WIDTH) * scale;
        for (int64_t j = 0; j < count; j++) {
            vf_at *const weight = (vf_at *)(weights + j * LANE_FLOATS + v * WIDTH);
            *weight = vector_exp(*weight - most);
            sum += *weight;
        }
        *(vf_at *)(best + v * WIDTH) = most;
        *(vf_at *)(total + v * WIDTH) = sum;
        for (int64_t c = 0; c < valueChunks; c++) *(vf_at *)(sums + c * LANE_FLOATS + v * WIDTH) *= scale;
    }
    stride = lane_rows(rows, copies, values, count, t->width, t->valueDepth, t->lanes);
    enum { TOGETHER = LANE_VECTORS == 1 ? 8 : 4 };
    int64_t c = 0;
    for (; c + TOGETHER <= valueChunks; c += TOGETHER) lane_values(TOGETHER, sums + c * LANE_FLOATS, weights, rows, stride, c, count);
    for (; c < valueChunks; c++) lane_values(1, sums + c * LANE_FLOATS, weights, rows, stride, c, count);
}

static void lane_attention(const martlet_lane_attention *t) {
    const int64_t chunks = (t->depth * t->lanes + LANE_FLOATS - 1) / LANE_FLOATS;
    const int64_t valueChunks = (t->width * t->lanes + LANE_FLOATS - 1) / LANE_FLOATS;
    float *q = t->work, *sums = q + (chunks + MARTLET_LANE_KEYS) * LANE_FLOATS;
    float *best = sums + valueChunks * LANE_FLOATS, *total = best + LANE_FLOATS;
    memset(q, 0, (size_t)chunks * LANE_FLOATS * sizeof(float));
    for (int64_t d = 0; d < t->depth; d++)
        for (int64_t l = 0; l < t->lanes; l++) q[d * t->lanes + l] = t->scale * t->query[d * t->queryDepth + l];
    memset(sums, 0, (size_t)valueChunks * LANE_FLOATS * sizeof(float));
    for (int i = 0; i < LANE_FLOATS; i++) best[i] = -__builtin_inff(), total[i] = 0;
    const float *keys[MARTLET_LANE_KEYS], *values[MARTLET_LANE_KEYS];
    int64_t count = 0;
    for (int32_t s = 0; s < t->segmentCount; s++) {
        const martlet_lane_segment *g = t->segments + s;
        for (int64_t j = 0; j < g->count; j++) {
            keys[count] = t->keys + (g->a + j * t->keyStride) * t->element;
            values[count] = t->values + (g->b + j * t->valueStride) * t->element;
            if (++count == MARTLET_LANE_KEYS) {
                lane_attention_block(t, keys, values, count);
                count = 0;
            }
        }
    }
    if (count > 0) lane_attention_block(t, keys, values, count);
    for (int64_t l = 0; l < t->live; l++) {
        // A query that reads nothing finds nothing.
        const float factor = t->segmentCount > 0 ? 1.0f / total[l] : 0.0f;
        for (int64_t d = 0; d < t->width; d++) t->result[d * t->resultDepth + l] = sums[d * t->lanes + l] * factor;
    }
}
