// Attention whose scores are never stored (Dao et al. 2022): a work-item has LANES rows of a tile of 64, queries or keys, and walks the
// tiles that they read. The text in front defines LANES (16 where a work-item is a thread's vector, 1 where it is a lane), DEPTH, WIDTH
// (the depth of values), SCALE and GRADIENTS (whether it wants the kernels of the gradients, or the one of attention itself).
//
// A tile is its first column and a mask (-1: all is read); `masks` holds two ints, 64 bits, for each column.

#if LANES == 16
#define V float16
#define MARTLET_READS(bits) (((int16)(bits) & ((int16)(1) << martlet_lanes)) != 0)
#define MARTLET_BITS(mask, column, row) \
    ((masks[2 * (64 * (mask) + (column)) + ((row) >> 5)] >> ((row) & 31)) & 0xffff)
#else
#define V float
#define MARTLET_READS(bits) ((bits) != 0)
#define MARTLET_BITS(mask, column, row) ((masks[2 * (64 * (mask) + (column)) + ((row) >> 5)] >> ((row) & 31)) & 1)
#endif

// LANES neighbours from `i` on, zeros behind `count`.
static inline V MARTLET_NAME(KERNEL, _load)(__global const float *p, int i, int count) {
#if LANES == 16
    if (i + 16 <= count) return vload16(0, p + i);
    float lanes[16];
    for (int l = 0; l < 16; l++) lanes[l] = i + l < count ? p[i + l] : 0.0f;
    return vload16(0, lanes);
#else
    return i < count ? p[i] : 0.0f;
#endif
}

static inline void MARTLET_NAME(KERNEL, _store)(__global float *p, int i, int count, V x) {
#if LANES == 16
    if (i + 16 <= count) {
        vstore16(x, 0, p + i);
        return;
    }
    float lanes[16];
    vstore16(x, 0, lanes);
    for (int l = 0; l < 16; l++) {
        if (i + l < count) p[i + l] = lanes[l];
    }
#else
    if (i < count) p[i] = x;
#endif
}

#if !GRADIENTS
// Columns whose scores are computed before their softmax.
#define CHUNK 8

__kernel void forward(
    __global const float *q, __global const float *k, __global const float *v, __global float *output,
    __global float *log_sum, __global const int *starts, __global const int *tiles, __global const int *masks, int queries,
    int keys) {
    const int row = get_global_id(0) * LANES, pair = get_global_id(1);
    if (row >= queries) return;
    k += pair * DEPTH * keys;
    v += pair * WIDTH * keys;
    V own[DEPTH], sums[WIDTH];
    for (int d = 0; d < DEPTH; d++) {
        own[d] = MARTLET_NAME(KERNEL, _load)(q + (pair * DEPTH + d) * queries, row, queries) * SCALE;
    }
    for (int d = 0; d < WIDTH; d++) sums[d] = (V)(0.0f);
    V best = (V)(-INFINITY), total = (V)(0.0f);
    for (int n = starts[row >> 6]; n < starts[(row >> 6) + 1]; n++) {
        const int first = tiles[2 * n], mask = tiles[2 * n + 1], count = min(64, keys - first);
        for (int j = 0; j < count; j += CHUNK) {
            V scores[CHUNK], most = best;
            for (int c = 0; c < CHUNK; c++) {
                const int column = min(j + c, count - 1);
                V score = (V)(0.0f);
                for (int d = 0; d < DEPTH; d++) score = fma(own[d], (V)(k[d * keys + first + column]), score);
                if (mask >= 0) {
                    const int bits = MARTLET_BITS(mask, column, row & 63);
                    score = martlet_select(MARTLET_READS(bits), score, (V)(-INFINITY));
                }
                if (j + c >= count) score = (V)(-INFINITY);
                scores[c] = score;
                most = martlet_select(score > most, score, most);
            }
            // A query that has read nothing yet has no greatest score.
            const V middle = martlet_select(most == -INFINITY, (V)(0.0f), most);
            const V factor = exp(best - middle);
            best = most;
            total *= factor;
            for (int c = 0; c < CHUNK; c++) {
                scores[c] = exp(scores[c] - middle);
                total += scores[c];
            }
            for (int d = 0; d < WIDTH; d++) {
                V sum = sums[d] * factor;
                for (int c = 0; c < CHUNK; c++) {
                    sum = fma(scores[c], (V)(v[d * keys + first + min(j + c, count - 1)]), sum);
                }
                sums[d] = sum;
            }
        }
    }
    const V share = martlet_select(total > 0.0f, 1.0f / total, (V)(0.0f));
    for (int d = 0; d < WIDTH; d++) {
        MARTLET_NAME(KERNEL, _store)(output + (pair * WIDTH + d) * queries, row, queries, sums[d] * share);
    }
    MARTLET_NAME(KERNEL, _store)(log_sum + pair * queries, row, queries, best + log(total));
}

#else
// The weight of a score, and the gradient of the score from that of the weight.
#define MARTLET_WEIGH(weight, change, score, product, sum, offset, reads) \
    const V weight = martlet_select(reads, exp((score) - (sum)), (V)(0.0f)); \
    const V change = weight * ((product) - (offset));

// The gradient of queries.
__kernel void queries_gradient(
    __global const float *q, __global const float *k, __global const float *v, __global const float *log_sum,
    __global const float *offset, __global const float *gradient, __global float *dq, __global const int *starts,
    __global const int *tiles, __global const int *masks, int queries, int keys) {
    const int row = get_global_id(0) * LANES, pair = get_global_id(1);
    if (row >= queries) return;
    k += pair * DEPTH * keys;
    v += pair * WIDTH * keys;
    V own[DEPTH], g[WIDTH], sums[DEPTH];
    for (int d = 0; d < DEPTH; d++) {
        own[d] = MARTLET_NAME(KERNEL, _load)(q + (pair * DEPTH + d) * queries, row, queries) * SCALE;
        sums[d] = (V)(0.0f);
    }
    for (int d = 0; d < WIDTH; d++) g[d] = MARTLET_NAME(KERNEL, _load)(gradient + (pair * WIDTH + d) * queries, row, queries);
    const V sum = MARTLET_NAME(KERNEL, _load)(log_sum + pair * queries, row, queries);
    const V less = MARTLET_NAME(KERNEL, _load)(offset + pair * queries, row, queries);
    for (int n = starts[row >> 6]; n < starts[(row >> 6) + 1]; n++) {
        const int first = tiles[2 * n], mask = tiles[2 * n + 1], count = min(64, keys - first);
        for (int j = 0; j < count; j++) {
            V score = (V)(0.0f), product = (V)(0.0f);
            for (int d = 0; d < DEPTH; d++) score = fma(own[d], (V)(k[d * keys + first + j]), score);
            for (int d = 0; d < WIDTH; d++) product = fma(g[d], (V)(v[d * keys + first + j]), product);
            const int bits = mask < 0 ? 0xffff : MARTLET_BITS(mask, j, row & 63);
            MARTLET_WEIGH(weight, change, score, product, sum, less, MARTLET_READS(bits))
            for (int d = 0; d < DEPTH; d++) sums[d] = fma(change, (V)(k[d * keys + first + j]), sums[d]);
        }
    }
    for (int d = 0; d < DEPTH; d++) {
        MARTLET_NAME(KERNEL, _store)(dq + (pair * DEPTH + d) * queries, row, queries, sums[d] * SCALE);
    }
}

// The gradients of keys and of values: rows are keys, columns queries.
__kernel void keys_gradient(
    __global const float *q, __global const float *k, __global const float *v, __global const float *log_sum,
    __global const float *offset, __global const float *gradient, __global float *dk, __global float *dv,
    __global const int *starts, __global const int *tiles, __global const int *masks, int queries, int keys) {
    const int row = get_global_id(0) * LANES, pair = get_global_id(1);
    if (row >= keys) return;
    q += pair * DEPTH * queries;
    gradient += pair * WIDTH * queries;
    V own[DEPTH], value[WIDTH], key_sums[DEPTH], value_sums[WIDTH];
    for (int d = 0; d < DEPTH; d++) {
        own[d] = MARTLET_NAME(KERNEL, _load)(k + (pair * DEPTH + d) * keys, row, keys) * SCALE;
        key_sums[d] = (V)(0.0f);
    }
    for (int d = 0; d < WIDTH; d++) {
        value[d] = MARTLET_NAME(KERNEL, _load)(v + (pair * WIDTH + d) * keys, row, keys);
        value_sums[d] = (V)(0.0f);
    }
    for (int n = starts[row >> 6]; n < starts[(row >> 6) + 1]; n++) {
        const int first = tiles[2 * n], mask = tiles[2 * n + 1], count = min(64, queries - first);
        for (int i = 0; i < count; i++) {
            V score = (V)(0.0f), product = (V)(0.0f);
            for (int d = 0; d < DEPTH; d++) score = fma(own[d], (V)(q[d * queries + first + i]), score);
            for (int d = 0; d < WIDTH; d++) product = fma(value[d], (V)(gradient[d * queries + first + i]), product);
            const int bits = mask < 0 ? 0xffff : MARTLET_BITS(mask, i, row & 63);
            const V sum = (V)(log_sum[pair * queries + first + i]), less = (V)(offset[pair * queries + first + i]);
            MARTLET_WEIGH(weight, change, score, product, sum, less, MARTLET_READS(bits))
            for (int d = 0; d < DEPTH; d++) key_sums[d] = fma(change, (V)(q[d * queries + first + i]), key_sums[d]);
            for (int d = 0; d < WIDTH; d++) {
                value_sums[d] = fma(weight, (V)(gradient[d * queries + first + i]), value_sums[d]);
            }
        }
    }
    for (int d = 0; d < DEPTH; d++) {
        MARTLET_NAME(KERNEL, _store)(dk + (pair * DEPTH + d) * keys, row, keys, key_sums[d] * SCALE);
    }
    for (int d = 0; d < WIDTH; d++) {
        MARTLET_NAME(KERNEL, _store)(dv + (pair * WIDTH + d) * keys, row, keys, value_sums[d]);
    }
}

#endif

#undef V
#undef MARTLET_READS
#undef MARTLET_BITS
#undef MARTLET_WEIGH
#undef CHUNK
