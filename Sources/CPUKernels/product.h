// What the two ways of running a product share.
#pragma once

#include "mask.h"

typedef struct {
    const martlet_product *p;
    const martlet_context *context;
    const martlet_isa_functions *isa;
    int64_t *counts;
    // Which workers have packed an operand of their own.
    int32_t *has_packed;
    int64_t row_blocks, column_blocks;
    // NULL where the order is the identity.
    const int32_t *inner_order, *column_order, *row_order;
    /// Where each inner step stands in inner_order.
    const int32_t *inner_rank;
    // Packed panels that all workers read, and the product of a sorted mask before its columns are put in order.
    float *shared_a, *shared_b, *raw;
    // The batch element and the inner range that are at work, and how many inner steps a panel of the shared b holds (products
    // that are sorted).
    int64_t batch, start, depth, panel_depth;
} product_job;

/// Workers that may pack an operand for themselves.
enum { maximum_owners = 2 };

/// A matrix of more elements is not found in a cache by whoever reads it next.
enum { cached_elements = 1 << 21 };

static inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

static inline int64_t martlet_product_batches(const martlet_product *p) {
    int64_t count = 1;
    for (int32_t axis = 0; axis < p->batchRank; axis++) count *= p->batchExtents[axis];
    return count;
}

/// The mask of b; that of a weight gradient is the result's.
static inline const martlet_mask *mask_of_b(const martlet_product *p) {
    return p->role == MARTLET_WEIGHT_GRADIENT ? NULL : p->mask;
}

/// What a worker packs of a, unless that is shared.
static inline int64_t packed_a_floats(const martlet_product *p) {
    return round_up(p->ownsA ? p->m * p->k : p->rowBlock * p->depthBlock, 16);
}

/// Whether tiles are written to the output itself.
static inline int stores_directly(const martlet_product *p) {
    return p->directC && (!p->mask || (p->role == MARTLET_WEIGHT_GRADIENT && !p->permuted));
}

/// Rows are dealt to panels of nearly equal height, none above `tile_rows`.
typedef struct {
    int64_t first;
    int32_t height;
} row_panel;

static inline int64_t row_panel_count(int64_t rows, int32_t tile_rows) { return divide_up(rows, tile_rows); }

/// How rows are dealt; what a loop over panels divides once.
typedef struct {
    int64_t count, height, taller;
} row_panels;

static inline row_panels deal_rows(int64_t rows, int32_t tile_rows) {
    const int64_t count = row_panel_count(rows, tile_rows), height = count > 0 ? rows / count : 0;
    return (row_panels){count, height, rows - height * count};
}

static inline row_panel panel_at(row_panels all, int64_t index) {
    return (row_panel){index * all.height + minimum(index, all.taller), (int32_t)(all.height + (index < all.taller))};
}

static inline row_panel panel_of_rows(int64_t rows, int32_t tile_rows, int64_t index) {
    return panel_at(deal_rows(rows, tile_rows), index);
}

/// Width of a packed panel of columns: the last may need one vector only.
static inline int32_t panel_width(const product_job *j, int64_t column) {
    const int32_t width = j->isa->tile_columns;
    return j->p->n - column <= width / 2 ? width / 2 : width;
}

/// Whether what is read of a panel of columns is all of it that there is.
static inline int is_whole(const product_job *j, int64_t column, martlet_halves halves) {
    return halves == BOTH_HALVES || (halves == LEFT_HALF && j->p->n - column <= j->isa->tile_columns / 2);
}

/// Zeros in some columns of sums.
static inline void martlet_clear_columns(float *sums, int64_t stride, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++) memset(sums + r * stride, 0, (size_t)columns * sizeof(float));
}

/// Whether the first run of a masked panel covers all of it.
static inline int martlet_stores_first(const product_job *j, int64_t panel) {
    const martlet_mask *mask = j->p->mask;
    const int32_t first = mask->panels[panel];
    return first < mask->panels[panel + 1] && is_whole(j, panel * j->isa->tile_columns, mask->intervals[first].halves);
}

/// The columns of a panel that a tile computes for some halves of it: the first, counted from that of the panel, how many the
/// tile has, and how many of them there are.
typedef struct {
    int32_t first, width, live;
} tile_span;

static inline tile_span span_of(const product_job *j, int64_t column, martlet_halves halves) {
    const int32_t half = j->isa->tile_columns / 2;
    const tile_span span = {
        halves == RIGHT_HALF ? half : 0, is_whole(j, column, halves) ? panel_width(j, column) : half, 0};
    return (tile_span){span.first, span.width, (int32_t)minimum(span.width, j->p->n - column - span.first)};
}

/// Rows whose columns are put back in their own order before they go through the epilogue together.
static inline int64_t martlet_rows_in_order(const martlet_product *p) { return maximum(1, 2048 / maximum(1, p->n)); }

/// What putting rows in order and their epilogue take for each worker.
static inline int64_t martlet_finish_bytes(const martlet_product *p) {
    return round_up(martlet_rows_in_order(p) * p->n * 4, 64) + (int64_t)p->epilogue->slotCount * p->epilogue->slotBytes;
}

/// What will be read soon: lines of memory, `minor` of them `minor_step` bytes apart, `major` times. Each tile fetches a few, so that
/// memory works while the arithmetic does.
typedef struct {
    const char *first;
    /// The order of the major steps; NULL for the identity.
    const int32_t *order;
    int64_t major, major_step, minor, minor_step;
    int64_t of_a_tile;
    /// Where the next tile goes on.
    int64_t at_major, at_minor;
} fetching;

/// Fetches all of it within some tiles, as far as they take no longer for it.
static inline void martlet_fetch_within(fetching *f, int64_t tiles) {
    enum { fetched_of_a_tile = 128 };
    f->of_a_tile = tiles > 0 ? minimum(divide_up(f->major * f->minor, tiles), fetched_of_a_tile) : 0;
}

/// The share of one more tile.
static inline void martlet_fetch_with(fetching *f, martlet_tile *tile) {
    for (int64_t rest = f->of_a_tile; rest > 0 && f->at_major < f->major && tile->ahead_count < maximum_lines;) {
        const int64_t major = f->order ? f->order[f->at_major] : f->at_major, count = minimum(rest, f->minor - f->at_minor);
        const char *const line = f->first + major * f->major_step + f->at_minor * f->minor_step;
        tile->ahead[tile->ahead_count++] = (martlet_lines){line, f->minor_step, count};
        rest -= count;
        f->at_minor += count;
        if (f->at_minor < f->minor) continue;
        f->at_minor = 0;
        f->at_major++;
    }
}

/// Where element i lies; no order is the identity.
static inline int64_t in_order(const int32_t *order, int64_t i) { return order ? order[i] : i; }

/// Floats from one gathered line to the next: a little apart from a power of two.
static inline int64_t line_pitch(int64_t count) { return round_up(count, 16) + 16; }

/// target[i - from] = source at order[i], or at i where the order is the identity, for i in [from, to).
static inline void martlet_gather(
    float *target, const float *source, const int32_t *order, int64_t stride, int64_t from, int64_t to) {
    if (!order && stride == 1) {
        memcpy(target, source + from, (size_t)(to - from) * sizeof(float));
    } else if (!order) {
        for (int64_t i = from; i < to; i++) *target++ = source[i * stride];
    } else if (stride == 1) {
        for (int64_t i = from; i < to; i++) *target++ = source[order[i]];
    } else {
        for (int64_t i = from; i < to; i++) *target++ = source[order[i] * stride];
    }
}

/// Fetches a line that is about to be gathered: its elements are wanted in an order that no processor foresees.
static inline void martlet_fetch_line(const float *line, const int32_t *order, int64_t stride, int64_t count) {
    if (!order || stride != 1) return;
    for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(line + i);
}

/// The first element of an operand for one batch index.
const float *martlet_product_base(const product_job *j, const martlet_operand *operand, int64_t batch);

/// Packs rows [first, first + rows) of a, panel after panel, for the inner range [start, start + depth).
void martlet_pack_a(
    const product_job *j, float *target, const float *base, int64_t first, int64_t rows, int64_t start, int64_t depth);
/// Packs inner rows [start, start + depth) of panel `index` of b.
void martlet_pack_b(
    const product_job *j, float *target, const float *base, int64_t index, int64_t start, int64_t depth);
/// The same for inner rows [start, end) that a mask leaves, with zeros for its dead elements.
void martlet_pack_live(
    const product_job *j, float *target, const float *base, int64_t index, int64_t start, int64_t end);
/// Packs what all workers share, as far as the plan says so; and what is sorted of a weight gradient.
void martlet_pack_shared(const product_job *j);
void martlet_pack_sorted_gradient(const product_job *j);
/// What that takes for each worker.
int64_t martlet_sorted_lines_bytes(const martlet_product *p);

/// The epilogue on rows x columns of the product, which lie in `block`.
void martlet_product_epilogue(
    const product_job *j, int64_t batch, const float *block, int64_t stride, int64_t m0, int64_t rows, int64_t n0,
    int64_t columns, char *work);

/// Runs pieces on the pool, or here when the product is small.
void martlet_product_pieces(const product_job *j, int64_t count, martlet_task task);

// Products masked by degrees that are not sorted: forward or input gradient.

/// Fewer elements of b are packed whole, in order, and stay in a cache while blocks of rows are multiplied.
enum { whole_b_elements = 1 << 17 };

/// Where each inner step stands in the order of the mask; `rank` has room for that.
void martlet_set_inner_rank(product_job *j, int32_t *rank);
/// Packs all of b for all workers.
void martlet_pack_sorted_b(product_job *j);
/// Packs inner steps [from, to) of some rows of a; `target` holds the range [start, start + depth).
void martlet_pack_sorted_rows(
    const product_job *j, float *target, const float *base, int64_t first, int64_t rows, int64_t start, int64_t depth,
    int64_t from, int64_t to, float *lines);
/// The epilogue on rows of the product whose columns are in the order of the mask.
void martlet_finish_sorted(
    const product_job *j, int64_t batch, const float *block, int64_t stride, int64_t m0, int64_t rows, char *work);
/// What these take for each worker.
int64_t martlet_sorted_work_bytes(const martlet_product *p);
/// The same in two passes.
void martlet_two_pass_plan(martlet_product *p, int32_t threads);
void martlet_two_pass_run(product_job *j, int64_t batches);
