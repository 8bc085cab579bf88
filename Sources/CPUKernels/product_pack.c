// Packing of a product's operands as they come: for one block, or once for all workers. A packed panel holds its inner steps one
// behind the other, so that a register tile reads both operands in order.
#include "product.h"

void martlet_pack_a_piece(
    const product_job *j, packed_rows target, const float *base, int64_t low, int64_t high, int64_t from, int64_t to) {
    const martlet_product *p = j->p;
    const int64_t inner = p->a.strides[p->batchRank + 1], line = p->a.strides[p->batchRank];
    for (int64_t i = low; i < high; i++) {
        const row_panel panel = panel_of_rows(target.rows, j->isa->tile_rows, i);
        j->isa->pack(
            target.panels + panel.first * target.depth + (from - target.start) * panel.height,
            base + from * inner + (target.first + panel.first) * line, to - from, inner, panel.height, line, panel.height);
    }
}

// Rows of a for the whole inner range of `target`.
static void pack_a(const product_job *j, packed_rows target, const float *base) {
    const int64_t count = row_panel_count(target.rows, j->isa->tile_rows), end = target.start + target.depth;
    const int64_t step = j->p->a.strides[j->p->batchRank] == 1 ? steps_of_a_piece : target.depth;
    for (int64_t k = target.start; k < end; k += step) {
        martlet_pack_a_piece(j, target, base, 0, count, k, minimum(k + step, end));
    }
}

void martlet_pack_b(
    const product_job *j, float *target, const float *base, int64_t index, int64_t start, int64_t depth) {
    const martlet_product *p = j->p;
    const int64_t column = index * j->isa->tile_columns;
    const int32_t width = panel_width(j, column), live = (int32_t)minimum(j->isa->tile_columns, p->n - column);
    const int64_t inner = p->b.strides[p->batchRank], line = p->b.strides[p->batchRank + 1];
    j->isa->pack(target, base + start * inner + column * line, depth, inner, live, line, width);
}

// The same for inner rows [start, end) that a mask leaves, with zeros for its dead elements.
static void pack_live(
    const product_job *j, float *target, const float *base, int64_t index, int64_t start, int64_t end) {
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns;
    martlet_pack_b(j, target, base, index, start, end - start);
    if (mask_of_b(p)) martlet_mask_clear_panel(p->mask, target, index, start, end, panel_width(j, index * tile));
}

// Once for all workers.

// Panels of rows that are packed at a time where their lines are contiguous along the inner axis.
enum { panels_of_a_piece = 4 };

// Pieces that packing one block of rows of a for one inner range is cut into.
static int64_t pieces_of_a(const martlet_product *p, int64_t rows, int32_t tile_rows) {
    return p->a.strides[p->batchRank] == 1 ? divide_up(p->depthBlock, steps_of_a_piece)
                                           : divide_up(row_panel_count(rows, tile_rows), panels_of_a_piece);
}

// One such piece of the a that all workers share.
static void pack_shared_a(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const int64_t pieces = pieces_of_a(p, p->rowBlock, j->isa->tile_rows), piece = index % pieces;
    index /= pieces;
    const int64_t start = index / j->row_blocks * p->depthBlock, m0 = index % j->row_blocks * p->rowBlock;
    const int64_t depth = minimum(p->depthBlock, p->k - start), rows = minimum(p->rowBlock, p->m - m0);
    const packed_rows target = {j->shared_a + p->m * start + m0 * depth, m0, rows, start, depth};
    const float *base = martlet_product_base(j, &p->a, 0);
    const int64_t panels = row_panel_count(rows, j->isa->tile_rows);
    if (p->a.strides[p->batchRank] == 1) {
        const int64_t from = start + piece * steps_of_a_piece, to = minimum(from + steps_of_a_piece, start + depth);
        if (from < to) martlet_pack_a_piece(j, target, base, 0, panels, from, to);
    } else {
        const int64_t low = piece * panels_of_a_piece, high = minimum(low + panels_of_a_piece, panels);
        martlet_pack_a_piece(j, target, base, low, high, start, start + depth);
    }
}

// Inner rows [start, end) of panel `index` of the shared b, as far as the panel reads them.
static void pack_shared_panel(const product_job *j, int64_t index, int64_t start, int64_t end) {
    const martlet_product *p = j->p;
    const martlet_mask *mask = mask_of_b(p);
    const int64_t column = index * j->isa->tile_columns;
    const int32_t width = panel_width(j, column);
    float *target = j->shared_b + column * p->k;
    const float *base = martlet_product_base(j, &p->b, 0);
    if (!mask) {
        martlet_pack_b(j, target + start * width, base, index, start, end - start);
        return;
    }
    for (int32_t v = mask->panels[index]; v < mask->panels[index + 1];) {
        const martlet_interval run = martlet_next_run(mask, &v, mask->panels[index + 1], 1);
        const int64_t from = maximum(run.start, start), to = minimum(run.end, end);
        if (from < to) pack_live(j, target + from * width, base, index, from, to);
    }
}

static void pack_shared_panels(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const product_job *j = argument;
    pack_shared_panel(j, index, 0, j->p->k);
}

static void pack_shared_steps(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const product_job *j = argument;
    const int64_t panels = divide_up(j->p->n, j->isa->tile_columns), from = index * steps_of_a_piece;
    for (int64_t panel = 0; panel < panels; panel++) {
        pack_shared_panel(j, panel, from, minimum(from + steps_of_a_piece, j->p->k));
    }
}

// Both operands as they come.
static void pack_unsorted(const product_job *j) {
    const martlet_product *p = j->p;
    if (p->sharesA) {
        const int64_t pieces = pieces_of_a(p, p->rowBlock, j->isa->tile_rows);
        run_pieces(j, j->row_blocks * divide_up(p->k, p->depthBlock) * pieces, pack_shared_a);
    }
    if (p->packedBIsCurrent) return;
    if (p->sharesB && p->b.strides[p->batchRank + 1] == 1) {
        run_pieces(j, divide_up(p->k, steps_of_a_piece), pack_shared_steps);
    } else if (p->sharesB) {
        run_pieces(j, divide_up(p->n, j->isa->tile_columns), pack_shared_panels);
    }
}

void martlet_pack_shared(product_job *j) {
    if (!j->p->permuted) pack_unsorted(j);
    else if (j->p->role == MARTLET_WEIGHT_GRADIENT) martlet_pack_sorted_gradient(j);
    else martlet_pack_sorted_b(j);
}

// For one block.

// All of a, packed by a worker for all of its blocks, if it has not done so yet.
static void pack_own_a(const product_job *j, const block_operands *x, int32_t worker) {
    const martlet_product *p = j->p;
    if (j->has_packed[worker]) return;
    for (int64_t start = 0; start < p->k; start += p->depthBlock) {
        const int64_t depth = minimum(p->depthBlock, p->k - start);
        pack_a(j, (packed_rows){x->own_a + p->m * start, 0, p->m, start, depth}, x->base_a);
    }
    j->has_packed[worker] = 1;
}

void martlet_find_a(const product_block *block, block_operands *x, int32_t worker) {
    const product_job *j = block->j;
    const martlet_product *p = j->p;
    const packed_rows own = {x->own_a, block->m0, block->rows, x->start, x->depth};
    x->packed_a = x->own_a;
    if (p->sharesA) {
        x->packed_a = j->shared_a + p->m * x->start + block->m0 * x->depth;
    } else if (p->ownsA) {
        pack_own_a(j, x, worker);
        x->packed_a = x->own_a + p->m * x->start;
    } else if (j->order.inner) {
        const int64_t from = maximum(x->start, x->low), to = minimum(x->start + x->depth, x->high);
        martlet_pack_sorted_rows(j, own, x->base_a, from, to, (float *)(void *)block->work);
    } else if (!p->directA) {
        pack_a(j, own, x->base_a);
    }
}

found_panel martlet_find_b(
    const product_block *block, const block_operands *x, int64_t index, int64_t from, int64_t to, martlet_halves halves,
    int full) {
    const product_job *j = block->j;
    const martlet_product *p = j->p;
    const int64_t column = index * j->isa->tile_columns, inner = p->b.strides[p->batchRank];
    const int32_t width = panel_width(j, column);
    const tile_span span = span_of(j, column, halves);
    if (p->sharesB) return (found_panel){j->shared_b + column * p->k + from * width, width};
    if (p->directB && full && span.live == span.width) return (found_panel){x->base_b + from * inner + column, inner};
    pack_live(j, x->own_b, x->base_b, index, from, to);
    return (found_panel){x->own_b, width};
}
