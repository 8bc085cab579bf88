// What the instruction sets provide to the rest of the module.
#pragma once

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "CPUKernels.h"

static inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

/// An operand's block, whose element (0, 0) lies `offset` elements into it.
static inline martlet_block martlet_block_at(
    const martlet_context *context, const martlet_operand *operand, int64_t offset, int64_t row_stride,
    int64_t column_stride) {
    if (operand->source == MARTLET_SOURCE_POSITION) return (martlet_block){NULL, offset, row_stride, column_stride};
    char *const memory = operand->source == MARTLET_SOURCE_WORK ? context->shared : context->values[operand->source];
    return (martlet_block){memory + offset * martlet_element_size(operand->element), offset, row_stride, column_stride};
}

/// One query of attention in a sampler: lanes of an element lie side by side, elements `element` floats apart.
typedef struct {
    const float *query, *keys, *values;
    float *result;
    /// Floats from a depth to the next.
    int64_t queryDepth, keyDepth, valueDepth, resultDepth;
    /// The keys that it reads, in order, and elements from one of a segment to the next; as `a` those of keys, as `b` of values.
    const martlet_lane_segment *segments;
    int32_t segmentCount;
    int64_t keyStride, valueStride, element;
    int64_t depth, width;
    float scale;
    /// A power of two up to sixteen, of which `live` are written.
    int64_t lanes, live;
    /// `martlet_lane_attention_floats` of them.
    float *work;
} martlet_lane_attention;

/// The widest tile of any instruction set.
enum { maximum_tile_columns = 32 };

/// The pixels that a tile of a weight gradient walks: rows of some images.
typedef struct {
    int64_t images, image_pitch;
    int64_t lines, length, pitch;
} martlet_pixels;

/// Lines of memory that will be wanted: `count` of them, `step` bytes apart.
typedef struct {
    const char *first;
    int64_t step, count;
} martlet_lines;

/// Of these, what is given to a tile at most.
enum { maximum_lines = 16 };

/// What a tile does with what its target holds.
enum {
    TILE_STORES,
    /// Adds its sums to it.
    TILE_ADDS,
    /// Goes on summing from it, as if the inner range had not been interrupted.
    TILE_CONTINUES,
};

/// c[rows][columns] = a b, for a whose `rows` rows lie `a_row` apart and whose inner steps lie `a_step` apart, one of them
/// neighbours, and b whose inner steps hold `columns` elements (one vector or tile_columns) and lie `b_step` apart; `live` of the
/// columns are stored. What `ahead` names is fetched on the way.
typedef struct {
    int64_t k;
    const float *a;
    int64_t a_row, a_step;
    const float *b;
    int64_t b_step;
    float *c;
    int64_t stride;
    int32_t rows, columns, live, accumulate;
    int32_t ahead_count;
    martlet_lines ahead[maximum_lines];
} martlet_tile;

/// The functions that exist once for each instruction set.
typedef struct {
    const martlet_kernel *float_kernels;
    const martlet_kernel *integer_kernels;
    /// The largest tile of the product that stays in registers.
    int32_t tile_rows;
    int32_t tile_columns;
    /// Elements of a vector.
    int32_t width;
    void (*tile)(const martlet_tile *tile);
    /// target[k][height] = source at (k, i), with zeros where i >= live.
    void (*pack)(
        float *target, const float *source, int64_t k, int64_t k_stride, int32_t live, int64_t stride, int32_t height);
    /// The same from lines that are contiguous along the inner axis and multiples of `stride` apart; inner step p goes to step
    /// rank[p].
    void (*pack_in_order)(
        float *target, const float *const *lines, const int32_t *rank, int64_t k, int32_t live, int64_t stride,
        int32_t height);
    /// Copies, or writes zeros if `source` is NULL, past the caches: what is written is not read soon. Before others read it
    /// there has to be a `martlet_stream_end`.
    void (*stream)(float *target, const float *source, int64_t count);
    /// The fixed trees of reductions; sums in double precision.
    double (*sum_line)(const float *source, int64_t count);
    void (*add_rows)(double *sums, const float *source, int64_t rows, int64_t stride, int64_t columns);
    double (*extreme_of_line)(const float *source, int64_t count, int is_minimum);
    void (*extreme_of_rows)(
        double *best, const float *source, int64_t rows, int64_t stride, int64_t columns, int is_minimum);
    /// Four partial sums for each of 16 lanes of products of lanes with a shared number, or with lanes; for one lane; and for one
    /// lane of one or two blocks of 16 channels whose weights are packed.
    void (*add_shared_products_of_four)(
        float *sums, const float *a, int64_t aStride, const float *b, int64_t bStride, int64_t bRow, int64_t count);
    void (*add_shared_products)(
        float *sums, const float *a, int64_t aStride, const float *b, int64_t bStride, int64_t count);
    void (*add_lane_products)(
        float *sums, const float *a, int64_t aStride, const float *b, int64_t bStride, int64_t count);
    void (*add_products)(
        float *sums, const float *a, int64_t aStride, const float *b, int64_t bStride, int64_t count);
    void (*add_packed_products)(
        float *sums, const float *a, int64_t aStride, const float *packed, int64_t count, int64_t blocks);
    /// One query of attention (lane_attention.h).
    void (*lane_attention)(const martlet_lane_attention *attention);
    /// Convolutions: the largest tile of sums (rows, vectors), the widest tile of a weight gradient (vectors) and its rows,
    /// and the tiles themselves (convolution_kernels.h).
    int32_t conv_rows, conv_vectors, gradient_vectors;
    int32_t (*gradient_rows)(int32_t vectors);
    void (*convolution_sums)(
        int32_t rows, int32_t vectors, int64_t steps, const float *weights, const float *source, const int32_t *offsets,
        float *target, int64_t stride, int continues, int fetches);
    void (*convolution_gradient)(
        int32_t rows, int32_t vectors, const float *const *sources, martlet_pixels pixels, const float *columns,
        float *target);
    void (*convolution_dots)(
        int32_t rows, const float *line, const float *source, const int32_t *offsets, int64_t count, float *target);
    void (*copy_row)(float *target, const float *source, int64_t stride, int64_t count, int64_t width);
    void (*copy_rows)(
        float *target, int64_t to, const float *source, int64_t from, int64_t rows, int64_t count, int fills);
    void (*add_row)(float *target, const float *source, int64_t count);
    void (*pair_forms)(
        int32_t reach, float *target, int64_t pitch, const float *source, int64_t stride, int64_t lines, int64_t low,
        int64_t high, int64_t count, const int32_t *masks, const martlet_pair_form *forms, int64_t form_count);
    void (*pair_results)(float *target, const float *sums, int64_t between, int64_t count);
    void (*pair_columns)(float *target, const float *source, int32_t sum, int64_t pairs, int64_t height);
    /// Blocks of attention (attention_kernels.h).
    void (*attention_forward)(const martlet_attention *attention, int64_t pair, int64_t block, float *work);
    void (*attention_queries)(const martlet_attention *attention, int64_t pair, int64_t block, float *work);
    void (*attention_keys)(const martlet_attention *attention, int64_t pair, int64_t block, float *work);
} martlet_isa_functions;

extern const martlet_isa_functions martlet_portable_functions;
extern const martlet_isa_functions martlet_avx2_functions;
extern const martlet_isa_functions martlet_avx512_functions;

const martlet_isa_functions *martlet_isa_table(martlet_isa isa);

/// Lets others see what was streamed.
static inline void martlet_stream_end(void) {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}
