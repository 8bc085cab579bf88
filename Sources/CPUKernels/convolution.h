// Convolutions and their gradients. Their files are best read in this order:
//   convolution_plan.c      how images are cut into slabs, and how planes are copied, decided when a program is loaded;
//   convolution_source.c    the planes that a slab reads, copied with zeros around them, or read in place;
//   convolution.c           a run of a convolution or its input gradient: packs the weights, sums slab by slab;
//   convolution_finish.c    sums to their places in the result, the epilogue;
//   convolution_gradient.c  a run of a weight gradient.
// convolution_kernels.h has the tiles, convolution_double.c plain loops for float64.
#pragma once

#include "product.h"

typedef struct {
    const martlet_convolution *c;
    const martlet_context *context;
    const martlet_isa_functions *isa;
    int64_t *counts;
} convolution_job;

/// Whether pairs of pixels share products.
static inline int is_paired(const martlet_convolution *c) { return c->formCount > 0; }

/// Pixels that the forms of a pair reach over, from the least shift on; even.
static inline int32_t pair_reach(const martlet_convolution *c) {
    return (int32_t)round_up(c->greatestShift[c->rank - 1] - c->leastShift[c->rank - 1] + 2, 2);
}

/// The copied planes of an image.
static inline int64_t source_floats(const martlet_convolution *c) {
    return round_up(c->planes * c->planePitch, 16);
}

/// The sums of a slab, or of a tile of pairs.
static inline int64_t sum_floats(const martlet_convolution *c) {
    return c->rows * c->sumPitch * (is_paired(c) ? MARTLET_PAIR_SUMS : 1);
}

/// The results of a slab as they lie in the result, where sums do not.
static inline int64_t compact_floats(const martlet_convolution *c) {
    return c->isCompact ? 0 : c->together * c->rows * c->compactPitch;
}

static inline int64_t rows_per_group(const martlet_convolution *c) { return c->rows / c->groups; }

/// Positions of the first axis in slab `index`: [first, last).
static inline void slab_range(const martlet_convolution *c, int64_t index, int64_t *first, int64_t *last) {
    *first = index * c->slab;
    *last = minimum(*first + c->slab, c->extent[0]);
}

/// Where pixels of a slab are found: in the copy, or where the source lies.
typedef struct {
    const float *base;
    const int32_t *offsets;
    int is_direct;
} slab_source;

/// What a later slab will copy: planes `stride` apart, of which some lines of the cache are asked for at a time.
typedef struct {
    const float *plane;
    int64_t stride, planes, floats, at, lines;
} slab_ahead;

/// Nothing where there is no such image. All of it has been asked for after so many calls of `martlet_convolution_fetch`.
slab_ahead martlet_convolution_ahead(const convolution_job *j, int64_t image, int64_t slab, int64_t calls);

void martlet_convolution_fetch(slab_ahead *ahead);

/// Copies the source of a slab unless it can be read where it lies; that of several images, which are one slab each, below one
/// another. `pixels` is the span that will be read from each offset.
slab_source martlet_convolution_source(
    const convolution_job *j, int64_t image, int64_t images, int64_t first, int64_t last, int64_t pixels, float *copy);

/// Images that are walked together: [first, last) of group `index`.
static inline int64_t group_count(const martlet_convolution *c) { return divide_up(c->images, c->together); }
static inline void group_range(const martlet_convolution *c, int64_t index, int64_t *first, int64_t *last) {
    *first = c->images * index / maximum(1, group_count(c));
    *last = c->images * (index + 1) / maximum(1, group_count(c));
}

/// Positions that a pass has in [first, last) of the first axis, and the span of its pixels in a plane.
static inline int64_t pass_rows(const martlet_convolution_pass *pass, int64_t first, int64_t last) {
    return maximum(0, minimum(last, pass->counts[0]) - first);
}
static inline int64_t pass_span(const martlet_convolution *c, const martlet_convolution_pass *pass, int64_t rows) {
    if (rows == 0 || pass->counts[1] == 0 || pass->counts[2] == 0) return 0;
    return (rows - 1) * c->pitch[0] + (pass->counts[1] - 1) * c->pitch[1] + (pass->counts[2] - 1) * c->pitch[2] + 1;
}

/// The pixels that a pass has of one row of sums, `rows` positions of the first axis, to their places in a row of the result.
void martlet_convolution_compact_row(
    const convolution_job *j, const martlet_convolution_pass *pass, const float *sums, int64_t rows, float *target);

/// A tile's pairs of results, from pair `at` of a slab on, from their four sums, which lie `between` apart, to their places in a row of
/// the result. Where several images lie below one another, their results lie `image_pitch` apart.
void martlet_convolution_place_pairs(
    const martlet_convolution *c, const martlet_isa_functions *isa, const float *sums, int64_t between, int64_t at,
    int64_t pairs, float *target, int64_t image_pitch);

/// The epilogue on `rows` rows of a section from `row` on, of image `image`, for positions [low, high) behind the rows; `block` holds
/// them `stride` elements apart, section after section.
void martlet_convolution_epilogue(
    const convolution_job *j, int64_t image, int64_t row, int64_t rows, int64_t low, int64_t high, const char *block,
    int64_t stride, char *work);

void martlet_convolution_pieces(const convolution_job *j, int64_t count, martlet_task task);

void martlet_convolution_gradient_plan(martlet_convolution *c);
void martlet_convolution_gradient_run(const convolution_job *j);
void martlet_convolution_double_run(const convolution_job *j);
