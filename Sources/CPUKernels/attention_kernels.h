// Attention, tile by tile. Lanes are rows of a tile (queries; keys in the gradient of keys), so that the softmax is over registers and no
// lane ever meets another.

#define TILE_LANES MARTLET_ATTENTION_TILE
#if WIDTH == 16
#define STRIP_VECTORS 4
#else
#define STRIP_VECTORS 2
#endif
#define STRIP_ROWS 6

// c[rows][64] (+)= sum over k of a[row * a_row + p * a_step] * b[p][64].
INLINE void attention_strip(
    const int rows, float *c, const float *a, int64_t a_row, int64_t a_step, int64_t k, const float *b, int adds) {
    for (int64_t first = 0; first < TILE_LANES; first += STRIP_VECTORS * WIDTH) {
        vf sums[STRIP_ROWS][STRIP_VECTORS];
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
            for (int v = 0; v < STRIP_VECTORS; v++) {
                sums[r][v] = adds ? *(const vf_at *)(c + r * TILE_LANES + first + v * WIDTH) : splat(0);
            }
        }
        for (int64_t p = 0; p < k; p++) {
            vf lanes[STRIP_VECTORS];
#pragma clang loop unroll(full)
            for (int v = 0; v < STRIP_VECTORS; v++) {
                lanes[v] = *(const vf_at *)(b + p * TILE_LANES + first + v * WIDTH);
            }
#pragma clang loop unroll(full)
            for (int r = 0; r < rows; r++) {
                const vf x = splat(a[r * a_row + p * a_step]);
#pragma clang loop unroll(full)
                for (int v = 0; v < STRIP_VECTORS; v++) sums[r][v] = FMA(x, lanes[v], sums[r][v]);
            }
        }
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
            for (int v = 0; v < STRIP_VECTORS; v++) {
                *(vf_at *)(c + r * TILE_LANES + first + v * WIDTH) = sums[r][v];
            }
        }
    }
}

static void attention_product(
    int64_t rows, float *c, const float *a, int64_t a_row, int64_t a_step, int64_t k, const float *b, int adds) {
    for (; rows >= STRIP_ROWS; rows -= STRIP_ROWS, c += STRIP_ROWS * TILE_LANES, a += STRIP_ROWS * a_row) {
        attention_strip(STRIP_ROWS, c, a, a_row, a_step, k, b, adds);
    }
    switch (rows) {
    case 5: attention_strip(5, c, a, a_row, a_step, k, b, adds); break;
    case 4: attention_strip(4, c, a, a_row, a_step, k, b, adds); break;
    case 3: attention_strip(3, c, a, a_row, a_step, k, b, adds); break;
    case 2: attention_strip(2, c, a, a_row, a_step, k, b, adds); break;
    case 1: attention_strip(1, c, a, a_row, a_step, k, b, adds); break;
    default: break;
    }
}

// target[row][64] = factor * source[row * stride], zeros behind the live lanes.
static void attention_pack(
    float *target, const float *source, int64_t rows, int64_t stride, int64_t live, float factor) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t first = 0; first < TILE_LANES; first += WIDTH) {
            const int64_t left = minimum(maximum(live - first, 0), WIDTH);
            *(vf_at *)(target + r * TILE_LANES + first) = load_first(source + r * stride + first, left) * factor;
        }
    }
}

static void attention_store(
    float *target, const float *source, int64_t rows, int64_t stride, int64_t live, const float *factors) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t first = 0; first < live; first += WIDTH) {
            const vf x = *(const vf_at *)(source + r * TILE_LANES + first) * *(const vf_at *)(factors + first);
            store_first(target + r * stride + first, minimum(live - first, WIDTH), x);
        }
    }
}

// Lanes whose bit is set, counted from `first`.
INLINE vi attention_reads(uint64_t bits, int64_t first) {
    vi lane;
#pragma clang loop unroll(full)
    for (int i = 0; i < WIDTH; i++) lane[i] = (int32_t)(1u << i);
    return ((vi)(int32_t)(uint32_t)(bits >> first) & lane) != 0;
}

static void attention_forward(const martlet_attention *t, int64_t pair, int64_t block, float *work) {
    const int64_t start = block * TILE_LANES, live = minimum(t->queries - start, TILE_LANES);
    const float *const keys = t->k + pair * t->depth * t->keys, *const values = t->v + pair * t->valueDepth * t->keys;
    float *const q = work, *const scores = q + t->depth * TILE_LANES, *const sums = scores + TILE_LANES * TILE_LANES;
    float *const best = sums + t->valueDepth * TILE_LANES, *const total = best + TILE_LANES, *const factor = total + TILE_LANES;
    attention_pack(q, t->q + pair * t->depth * t->queries + start, t->depth, t->queries, live, t->scale);
    memset(sums, 0, (size_t)(t->valueDepth * TILE_LANES) * sizeof(float));
    for (int64_t i = 0; i < TILE_LANES; i++) best[i] = -__builtin_inff(), total[i] = 0;
    for (int32_t n = t->byQueries.starts[block]; n < t->byQueries.starts[block + 1]; n++) {
        const int64_t key = t->byQueries.tiles[2 * n], rows = minimum(t->keys - key, TILE_LANES);
        const int32_t mask = t->byQueries.tiles[2 * n + 1];
        attention_product(rows, scores, keys + key, 1, t->keys, t->depth, q, 0);
        int moved = 0;
        for (int64_t first = 0; first < TILE_LANES; first += WIDTH) {
            const vf before = *(const vf_at *)(best + first);
            vf most = before;
            for (int64_t j = 0; j < rows; j++) {
                vf_at *const score = (vf_at *)(scores + j * TILE_LANES + first);
                if (mask >= 0) {
                    const uint64_t bits = t->byQueries.masks[(int64_t)mask * TILE_LANES + j];
                    *score = choose(attention_reads(bits, first), *score, splat(-__builtin_inff()));
                }
                most = choose(*score > most, *score, most);
            }
            // A query that has read nothing yet has no greatest score.
            const vf middle = choose(most == -__builtin_inff(), splat(0), most);
            const vf scale = vector_exp(before - middle);
            vf sum = *(const vf_at *)(total + first) * scale;
            for (int64_t j = 0; j < rows; j++) {
                vf_at *const score = (vf_at *)(scores + j * TILE_LANES + first);
                *score = vector_exp(*score - middle);
                sum += *score;
            }
            *(vf_at *)(best + first) = most;
            *(vf_at *)(total + first) = sum;
            *(vf_at *)(factor + first) = scale;
            const vi same = before == most;
            for (int i = 0; i < WIDTH; i++) moved |= !same[i];
        }
        if (moved) {
            for (int64_t d = 0; d < t->valueDepth; d++) {
                for (int64_t first = 0; first < TILE_LANES; first += WIDTH) {
                    *(vf_at *)(sums + d * TILE_LANES + first) *= *(const vf_at *)(factor + first);
                }
            }
        }
        attention_product(t->valueDepth, sums, values + key, t->keys, 1, rows, scores, 1);
    }
    for (int64_t first = 0; first < TILE_LANES; first += WIDTH) {
        const vf sum = *(const vf_at *)(total + first);
        *(vf_at *)(factor + first) = choose(sum > 0, 1.0f / sum, splat(0));
        *(vf_at *)(best + first) = *(const vf_at *)(best + first) + vector_log(sum);
    }
    attention_store(t->output + pair * t->valueDepth * t->queries + start, sums, t->valueDepth, t->queries, live, factor);
    memcpy(t->logSum + pair * t->queries + start, best, (size_t)live * sizeof(float));
}

// scores = the softmax's weights, differences = its gradients times them, of rows that lanes read.
INLINE void attention_weights(
    float *scores, float *differences, int64_t rows, const uint64_t *masks, vf log_sum, vf offset, int64_t first,
    const float *row_log_sums, const float *row_offsets) {
    for (int64_t j = 0; j < rows; j++) {
        vf_at *const score = (vf_at *)(scores + j * TILE_LANES + first);
        vf_at *const difference = (vf_at *)(differences + j * TILE_LANES + first);
        if (row_log_sums) log_sum = splat(row_log_sums[j]), offset = splat(row_offsets[j]);
        // Where nothing is read the logarithm is minus infinity, and there are no weights.
        vf weight = choose(log_sum == -__builtin_inff(), splat(0), vector_exp(*score - log_sum));
        if (masks) weight = choose(attention_reads(masks[j], first), weight, splat(0));
        *score = weight;
        *difference = weight * (*difference - offset);
    }
}

static void attention_queries(const martlet_attention *t, int64_t pair, int64_t block, float *work) {
    const int64_t start = block * TILE_LANES, live = minimum(t->queries - start, TILE_LANES);
    const float *const keys = t->k + pair * t->depth * t->keys, *const values = t->v + pair * t->valueDepth * t->keys;
    float *const q = work, *const g = q + t->depth * TILE_LANES, *const sums = g + t->valueDepth * TILE_LANES;
    float *const scores = sums + t->depth * TILE_LANES, *const differences = scores + TILE_LANES * TILE_LANES;
    float *const log_sums = differences + TILE_LANES * TILE_LANES, *const offsets = log_sums + TILE_LANES;
    float *const factors = offsets + TILE_LANES;
    attention_pack(q, t->q + pair * t->depth * t->queries + start, t->depth, t->queries, live, t->scale);
    attention_pack(g, t->gradient + pair * t->valueDepth * t->queries + start, t->valueDepth, t->queries, live, 1);
    attention_pack(log_sums, t->knownLogSum + pair * t->queries + start, 1, 0, live, 1);
    attention_pack(offsets, t->offset + pair * t->queries + start, 1, 0, live, 1);
    memset(sums, 0, (size_t)(t->depth * TILE_LANES) * sizeof(float));
    for (int32_t n = t->byQueries.starts[block]; n < t->byQueries.starts[block + 1]; n++) {
        const int64_t key = t->byQueries.tiles[2 * n], rows = minimum(t->keys - key, TILE_LANES);
        const int32_t mask = t->byQueries.tiles[2 * n + 1];
        attention_product(rows, scores, keys + key, 1, t->keys, t->depth, q, 0);
        attention_product(rows, differences, values + key, 1, t->keys, t->valueDepth, g, 0);
        for (int64_t first = 0; first < TILE_LANES; first += WIDTH) {
            attention_weights(
                scores, differences, rows, mask < 0 ? NULL : t->byQueries.masks + (int64_t)mask * TILE_LANES,
                *(const vf_at *)(log_sums + first), *(const vf_at *)(offsets + first), first, NULL, NULL);
        }
        attention_product(t->depth, sums, keys + key, t->keys, 1, rows, differences, 1);
    }
    for (int64_t i = 0; i < TILE_LANES; i++) factors[i] = t->scale;
    attention_store(t->dq + pair * t->depth * t->queries + start, sums, t->depth, t->queries, live, factors);
}

static void attention_keys(const martlet_attention *t, int64_t pair, int64_t block, float *work) {
    const int64_t start = block * TILE_LANES, live = minimum(t->keys - start, TILE_LANES);
    const float *const queries = t->q + pair * t->depth * t->queries;
    const float *const gradients = t->gradient + pair * t->valueDepth * t->queries;
    float *const k = work, *const v = k + t->depth * TILE_LANES, *const dk = v + t->valueDepth * TILE_LANES;
    float *const dv = dk + t->depth * TILE_LANES, *const scores = dv + t->valueDepth * TILE_LANES;
    float *const differences = scores + TILE_LANES * TILE_LANES, *const factors = differences + TILE_LANES * TILE_LANES;
    attention_pack(k, t->k + pair * t->depth * t->keys + start, t->depth, t->keys, live, t->scale);
    attention_pack(v, t->v + pair * t->valueDepth * t->keys + start, t->valueDepth, t->keys, live, 1);
    memset(dk, 0, (size_t)((t->depth + t->valueDepth) * TILE_LANES) * sizeof(float));
    for (int32_t n = t->byKeys.starts[block]; n < t->byKeys.starts[block + 1]; n++) {
        const int64_t query = t->byKeys.tiles[2 * n], rows = minimum(t->queries - query, TILE_LANES);
        const int32_t mask = t->byKeys.tiles[2 * n + 1];
        attention_product(rows, scores, queries + query, 1, t->queries, t->depth, k, 0);
        attention_product(rows, differences, gradients + query, 1, t->queries, t->valueDepth, v, 0);
        for (int64_t first = 0; first < TILE_LANES; first += WIDTH) {
            attention_weights(
                scores, differences, rows, mask < 0 ? NULL : t->byKeys.masks + (int64_t)mask * TILE_LANES, splat(0),
                splat(0), first, t->knownLogSum + pair * t->queries + query, t->offset + pair * t->queries + query);
        }
        attention_product(t->depth, dk, queries + query, t->queries, 1, rows, differences, 1);
        attention_product(t->valueDepth, dv, gradients + query, t->queries, 1, rows, scores, 1);
    }
    for (int64_t i = 0; i < TILE_LANES; i++) factors[i] = t->scale;
    attention_store(t->dk + pair * t->depth * t->keys + start, dk, t->depth, t->keys, live, factors);
    for (int64_t i = 0; i < TILE_LANES; i++) factors[i] = 1;
    attention_store(t->dv + pair * t->valueDepth * t->keys + start, dv, t->valueDepth, t->keys, live, factors);
}
