// Softmax attention whose scores are never stored: the softmax goes along with the products, tile by tile (Milakov and Gimelshein 2018;
// Dao et al. 2022, algorithms 1 and 4).
#pragma once

#include "MartletTypes.h"

/// Queries, and keys, of a tile.
enum { MARTLET_ATTENTION_TILE = 64 };

/// The tiles that are not dead. Those of block b of 64 rows are `starts[b]..<starts[b + 1]`; each is a pair of the first column and a mask:
/// where that is not negative, bit r of `masks[64 * mask + c]` says whether row r reads column c of the tile; otherwise all do.
typedef struct {
    const int32_t *_Nonnull starts;
    const int32_t *_Nonnull tiles;
    const uint64_t *_Nullable masks;
} martlet_attention_tiles;

/// Queries `[pairs, depth, queries]`, keys `[pairs, depth, keys]` and values `[pairs, valueDepth, keys]`, a pair being a head of an
/// example.
typedef struct {
    martlet_isa isa;
    int64_t depth, valueDepth, queries, keys;
    float scale;
    /// By blocks of queries, and by blocks of keys.
    martlet_attention_tiles byQueries, byKeys;
    const float *_Nonnull q, *_Nonnull k, *_Nonnull v;
    /// Forward: `[pairs, valueDepth, queries]`, and the logarithms of the sums `[pairs, queries]`.
    float *_Nullable output, *_Nullable logSum;
    /// Backward: `logSum`, what the softmax takes off its gradient `[pairs, queries]`, the gradient of the output, and the results.
    const float *_Nullable knownLogSum, *_Nullable offset, *_Nullable gradient;
    float *_Nullable dq, *_Nullable dk, *_Nullable dv;
} martlet_attention;

/// Floats that one task needs for itself.
int64_t martlet_attention_work(int64_t depth, int64_t valueDepth);

/// The results of a block of queries of a pair.
void martlet_attention_forward(
    const martlet_attention *_Nonnull attention, int64_t pair, int64_t block, float *_Nonnull work);
/// The gradient of a block of queries.
void martlet_attention_queries(
    const martlet_attention *_Nonnull attention, int64_t pair, int64_t block, float *_Nonnull work);
/// The gradients of a block of keys, and of its values.
void martlet_attention_keys(
    const martlet_attention *_Nonnull attention, int64_t pair, int64_t block, float *_Nonnull work);
