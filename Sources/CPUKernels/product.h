// Products in blocks, masked or not. Their files follow a product through its life and are best read in this order:
//   product_plan.c                  how it is cut and which operands are packed, decided when a program is loaded;
//   product_pack.c, product_sort.c  operands as tiles read them, as they come or in the order of a mask;
//   product.c                       a run: finds what each block reads and multiplies its live tiles;
//   product_finish.c                a block's sums put in order, zeros where a mask is dead, the epilogue.
// Beside them, product_two_passes.c runs large products that are sorted, product_fetch.h asks for memory that is wanted soon,
// product_kernels.h is the register tile, product_double.c the plain loop for float64.
#pragma once

#include "mask.h"

/// A product while it runs.
typedef struct {
    const martlet_product *p;
    const martlet_context *context;
    const martlet_isa_functions *isa;
    int64_t *counts;
    // Which workers have packed an operand of their own.
    int32_t *has_packed;
    int64_t row_blocks, column_blocks;
    martlet_orders order;
    // Where each inner step stands in order.inner.
    const int32_t *inner_rank;
    // Packed panels that all workers read, and the product of a sorted mask before its columns are put in order.
    float *shared_a, *shared_b, *raw;
    // The batch element and the inner range that are at work, and how many inner steps a panel of the shared b holds (products
    // that are sorted).
    int64_t batch, start, depth, panel_depth;
} product_job;

/// A part of a product that is multiplied, or is to be: rows from m0 and columns from n0 on, in the order of the mask where there is
/// one. Its sums lie `stride` apart from row to row; `work` is memory for what is done with them.
typedef struct {
    const product_job *j;
    int64_t batch, m0, rows, n0, columns;
    float *sums;
    int64_t stride;
    char *work;
} product_block;

/// What a block reads, and memory of its worker for what has to be packed.
typedef struct {
    const float *base_a, *base_b;
    float *own_a, *own_b;
    // The inner range that any of the block's columns reads, and the chunk [start, start + depth) at work.
    int64_t low, high, start, depth;
    // Panels of a for that chunk, unless a is read where it lies.
    const float *packed_a;
} block_operands;

/// A panel of b for some inner range: its first element, and how far inner steps lie apart.
typedef struct {
    const float *first;
    int64_t step;
} found_panel;

/// Panels of the rows [first, first + rows) of a, packed one behind the other for the inner range [start, start + depth).
typedef struct {
    float *panels;
    int64_t first, rows, start, depth;
} packed_rows;

/// Workers that may pack an operand for themselves.
enum { maximum_owners = 2 };

/// A matrix of more elements is not found in a cache by whoever reads it next.
enum { cached_elements = 1 << 21 };

static inline int64_t martlet_product_batches(const martlet_product *p) {
    int64_t count = 1;
    for (int32_t axis = 0; axis < p->batchRank; axis++) count *= p->batchExtents[axis];
    return count;
}

/// Where an operand's matrix of one batch element begins, counted in elements.
static inline int64_t martlet_batch_offset(const martlet_product *p, const martlet_operand *operand, int64_t batch) {
    int64_t offset = operand->offset;
    for (int32_t axis = p->batchRank - 1; axis >= 0; axis--) {
        offset += batch % p->batchExtents[axis] * operand->strides[axis];
        batch /= p->batchExtents[axis];
    }
    return offset;
}

/// The same in memory, of a float32 operand that has a value.
static inline const float *martlet_product_base(const product_job *j, const martlet_operand *operand, int64_t batch) {
    return (const float *)(void *)j->context->values[operand->source] + martlet_batch_offset(j->p, operand, batch);
}

/// Where the epilogue's operands have element (m, n) of a batch element: its inputs, but for the first, which is the product; then its
/// outputs.
static inline void martlet_locate_epilogue(
    const martlet_product *p, const martlet_context *context, int64_t batch, int64_t m, int64_t n,
    martlet_block blocks[2][MARTLET_MAXIMUM_PORTS]) {
    for (int32_t side = 0; side < 2; side++) {
        const int32_t count = side ? p->epilogue->outputCount : p->epilogue->inputCount;
        const martlet_operand *operands = side ? p->outputs : p->inputs;
        for (int32_t i = side ? 0 : 1; i < count; i++) {
            const int64_t *const stride = &operands[i].strides[p->batchRank];
            const int64_t offset = martlet_batch_offset(p, &operands[i], batch) + m * stride[0] + n * stride[1];
            blocks[side][i] = martlet_block_at(context, &operands[i], offset, stride[0], stride[1]);
        }
    }
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

/// Where element i lies; no order is the identity.
static inline int64_t in_order(const int32_t *order, int64_t i) { return order ? order[i] : i; }

/// Inner steps of an operand whose lines are contiguous that are packed into all panels before the next are read: a line of memory is
/// fetched once, and in order. Of a sorted b whose rows are contiguous, so many are gathered first.
enum { steps_of_a_piece = 16, sorted_steps_of_a_piece = 8 };

/// Floats from one gathered line to the next: a little apart from a power of two.
static inline int64_t line_pitch(int64_t count) { return round_up(count, 16) + 16; }

/// Rows whose columns are put back in their own order before they go through the epilogue together, and what they take.
static inline int64_t rows_in_order(const martlet_product *p) { return maximum(1, 2048 / maximum(1, p->n)); }
static inline int64_t lines_in_order_bytes(const martlet_product *p) { return round_up(rows_in_order(p) * p->n * 4, 64); }

/// Runs pieces on the pool, or here when the product is small.
static inline void run_pieces(const product_job *j, int64_t count, martlet_task task) {
    const martlet_product *p = j->p;
    // Below this many multiply-adds a job is not worth handing over.
    if (martlet_product_batches(p) * p->m * p->n * p->k < 200000) {
        for (int64_t i = 0; i < count; i++) task((void *)(uintptr_t)j, i, 0);
    } else {
        martlet_pool_run(j->context->pool, count, task, (void *)(uintptr_t)j);
    }
}

// Packing (product_pack.c).

/// Packs for all workers what they share of the job's batch element, or of all of them where nothing is sorted.
void martlet_pack_shared(product_job *j);
/// Finds the rows of a for the chunk at work, which may pack them.
void martlet_find_a(const product_block *block, block_operands *operands, int32_t worker);
/// Finds inner steps [from, to) of panel `index` of b for tiles of some halves of it, which may pack them; `full` when no element of b in
/// them is dead.
found_panel martlet_find_b(
    const product_block *block, const block_operands *operands, int64_t index, int64_t from, int64_t to,
    martlet_halves halves, int full);
/// Packs inner steps [from, to) of the panels [low, high) of rows of a.
void martlet_pack_a_piece(
    const product_job *j, packed_rows target, const float *base, int64_t low, int64_t high, int64_t from, int64_t to);
/// Packs inner rows [start, start + depth) of panel `index` of b.
void martlet_pack_b(
    const product_job *j, float *target, const float *base, int64_t index, int64_t start, int64_t depth);

// Packing in the order of a mask of degrees (product_sort.c).

/// Where each inner step stands in the order of the mask; `rank` has room for that.
void martlet_set_inner_rank(product_job *j, int32_t *rank);
/// Packs all rows of a for all workers.
void martlet_pack_sorted_a(const product_job *j);
/// Packs inner steps [from, to) of rows of a; `lines` has room for a panel's.
void martlet_pack_sorted_rows(
    const product_job *j, packed_rows target, const float *base, int64_t from, int64_t to, float *lines);
/// Packs all of b for all workers.
void martlet_pack_sorted_b(product_job *j);
/// Packs a panel of columns of b over the whole inner axis; dead elements of its live ranges are zero.
void martlet_pack_sorted_columns(const product_job *j, float *packed, int64_t panel);
/// Packs the inner steps [j->start, j->start + j->depth) of all panels of a b whose rows are contiguous.
void martlet_pack_sorted_steps(const product_job *j);
/// Packs both operands of a weight gradient, as far as the plan shares them.
void martlet_pack_sorted_gradient(const product_job *j);

// Finishing (product_finish.c).

/// What has to be done with a block's sums when all of them are there.
void martlet_finish_block(const product_block *block);
/// The same for whole rows of a forward product or an input gradient whose columns are in the order of the mask.
void martlet_finish_sorted(const product_block *block);

// Products in two passes (product_two_passes.c).

void martlet_two_pass_run(product_job *j, int64_t batches);
