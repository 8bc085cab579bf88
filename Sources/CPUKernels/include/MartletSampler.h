// Samplers: incremental programs whose values are laid out [element][lane], one lane an example. Examples never read one
// another, so a slice of the lanes runs the whole program without waiting for the others.
#pragma once

#include "MartletElementwise.h"

/// A value: `base` + (element * lanes + lane) * size, or + element * size if it is shared by all lanes.
typedef struct {
    char *_Nullable base;
    int32_t size;
    int32_t isShared;
} martlet_lane_value;

typedef struct {
    /// -1: the int32 element is its place + batchStride * lane.
    int32_t value;
    int64_t batchStride;
    /// Channel c of position p has its place at table[p] + c * channelStride.
    const int32_t *_Nonnull table;
    int64_t channelStride;
    /// How much further the place is in each iteration of a loop; NULL if no further.
    const int32_t *_Nullable cursor;
} martlet_lane_operand;

/// A run of products: count of them from these places on, relative to the bases.
typedef struct {
    int32_t a, b, count;
    /// Where the packed weights of b begin, if the work has them.
    int64_t packed;
} martlet_lane_segment;

/// Weights of a segment packed for all channels, sixteen at a time: target[block][j][16] = element start + j * stride + channel *
/// channelStride, with zeros behind the last channel.
typedef struct {
    int32_t value;
    int32_t channels;
    int64_t start, stride, channelStride, count;
    int64_t target;
} martlet_lane_pack;

typedef enum { MARTLET_LANES_PLAIN, MARTLET_LANES_PRODUCT, MARTLET_LANES_SUM, MARTLET_LANES_MAXIMUM, MARTLET_LANES_MINIMUM, MARTLET_LANES_ATTENTION } martlet_lane_anchor;

/// Consecutive positions of a slot whose operands all advance by constant strides.
typedef struct {
    int32_t first;
    int32_t count;
} martlet_lane_run;

/// One piece of work: an anchor (a sum of products or a reduction, float32) and the program behind it, for all channels of some
/// positions.
typedef struct {
    martlet_lane_anchor anchor;
    int32_t channels;
    /// About as many multiply-adds for one lane of a position.
    int64_t cost;
    /// Whether the segments' weights are packed.
    int32_t isPacked;
    /// Product: sum over the row's segments of a[aBase + segment.a + j * aStride] * b[bBase + segment.b + j * bStride].
    int32_t a, b;
    int64_t aStride, bStride, aChannelStride, bChannelStride;
    const int32_t *_Nullable aBase, *_Nullable bBase, *_Nullable row;
    const int32_t *_Nullable aCursor, *_Nullable bCursor;
    /// Row r has the segments rowStart[r] ..< rowStart[r + 1].
    const int32_t *_Nullable rowStart;
    const martlet_lane_segment *_Nullable segments;
    /// Reduction: over aBase + offsets[..] of value a.
    const int32_t *_Nullable offsets;
    int32_t offsetCount;
    /// Attention: keys are a, their values b, those of a row's segments; depths lie aChannelStride and bChannelStride apart, keys aStride
    /// and bStride. Its result is written as it is, to the first output; a channel is a depth of the values.
    int32_t query, depth;
    float scale;
    const martlet_lane_operand *_Nullable queries;

    const martlet_program *_Nonnull program;
    int32_t operandCount, outputCount;
    const martlet_lane_operand *_Nonnull operands;
    const martlet_lane_operand *_Nonnull outputs;
    const int32_t *_Nonnull order;
    const martlet_lane_run *_Nonnull runs;
    /// Runs of slot t: runStart[t] ..< runStart[t + 1].
    const int32_t *_Nonnull runStart;
} martlet_lane_work;

/// One run through the works of a section: their positions of a slot, for an iteration.
typedef struct {
    int32_t iteration, slot;
} martlet_lane_pass;

/// Works that run one after another, once in each pass.
typedef struct {
    int32_t firstWork, endWork;
    const martlet_lane_pass *_Nonnull passes;
    /// Passes of step t: passStart[t] ..< passStart[t + 1].
    const int32_t *_Nonnull passStart;
} martlet_lane_section;

typedef struct {
    const martlet_lane_value *_Nonnull values;
    int32_t packCount;
    const martlet_lane_pack *_Nonnull packs;
    float *_Nullable packed;
    const martlet_lane_work *_Nonnull works;
    const martlet_lane_section *_Nonnull sections;
    int32_t sectionCount;
    int32_t stepCount;
    int32_t variable, drawn;
    /// Variables of step t: group[groupStart[t]] ..< group[groupStart[t + 1]].
    const int32_t *_Nonnull group, *_Nonnull groupStart;
    /// Lanes of memory: few, or a multiple of MARTLET_LANE_WIDTH. Of few lanes vectors hold channels, and of attention depths; they are
    /// a power of two where there is attention.
    int64_t lanes;
    int32_t isFew;
    /// The sum of the works' costs over all positions, for each step.
    int64_t stepCost;
    /// Bytes of work space for each thread of the pool.
    int64_t workBytes;
    char *_Nonnull work;
    martlet_isa isa;
} martlet_sampler;

enum {
    MARTLET_LANE_WIDTH = 16,
    /// Up to so many lanes are few; and up to so many where there is attention, as keys and values of sixteen lanes, half of them unused,
    /// would take twice the memory.
    MARTLET_FEW_LANES = 4,
    MARTLET_FEW_ATTENTION_LANES = 8,
    /// Keys that attention takes at a time.
    MARTLET_LANE_KEYS = 64,
    /// Channels of a block of packed weights.
    MARTLET_LANE_BLOCK = 16,
    /// The cost of a step from which on threads share its works, and that of a work that they share.
    MARTLET_SHARED_STEP = 100000,
    MARTLET_SHARED_WORK = 4096,
    /// Lanes of a slice at most: what the lanes of one slice touch should stay in the second-level cache.
    MARTLET_LANE_SLICE = 128,
    /// Elements (positions or channels times lanes) of an anchor that are computed before its program runs.
    MARTLET_LANE_CHUNK = 4096,
};

/// Floats of work space for attention of so many depths of queries and of values.
static inline int64_t martlet_lane_attention_floats(int64_t depth, int64_t width) {
    return MARTLET_LANE_WIDTH * (depth + width + 2 + MARTLET_LANE_KEYS + MARTLET_LANE_KEYS * (depth > width ? depth : width));
}

/// Draws `lanes` examples (at most the sampler's).
void martlet_sampler_run(const martlet_sampler *_Nonnull sampler, martlet_pool *_Nonnull pool, int64_t lanes);

/// target[element][lane] = source[lane][element], and back, from the elements `places` (all in their order if NULL).
void martlet_to_lanes(
    char *_Nonnull target, const char *_Nonnull source, int64_t elements, int64_t batch, int64_t lanes, int32_t size);
void martlet_from_lanes(
    char *_Nonnull target, const char *_Nonnull source, const int32_t *_Nullable places, int64_t elements, int64_t batch, int64_t lanes, int32_t size);
