// Packing of a product's operands: for one block, or once for all workers; as they come, or in the order of a mask.
#include "product.h"

enum {
    // Inner steps of an operand whose lines are contiguous that are packed into all panels before the next are read: a line of
    // memory is fetched once, and in order.
    steps_of_a_piece = 16,
    // Panels of rows that are packed at a time otherwise.
    panels_of_a_piece = 4,
};

// Inner steps [from, to) of the panels [low, high) of the rows [first, first + rows) of a; `target` holds the inner range
// [start, start + depth) of all panels.
static void pack_a_piece(
    const product_job *j, float *target, const float *base, int64_t first, int64_t rows, int64_t start, int64_t depth,
    int64_t low, int64_t high, int64_t from, int64_t to) {
    const martlet_product *p = j->p;
    const int64_t inner = p->a.strides[p->batchRank + 1], line = p->a.strides[p->batchRank];
    for (int64_t i = low; i < high; i++) {
        const row_panel panel = panel_of_rows(rows, j->isa->tile_rows, i);
        j->isa->pack(
            target + panel.first * depth + (from - start) * panel.height,
            base + from * inner + (first + panel.first) * line, to - from, inner, panel.height, line, panel.height);
    }
}

void martlet_pack_a(
    const product_job *j, float *target, const float *base, int64_t first, int64_t rows, int64_t start, int64_t depth) {
    const int64_t count = row_panel_count(rows, j->isa->tile_rows), end = start + depth;
    const int64_t step = j->p->a.strides[j->p->batchRank] == 1 ? steps_of_a_piece : depth;
    for (int64_t k = start; k < end; k += step) {
        pack_a_piece(j, target, base, first, rows, start, depth, 0, count, k, minimum(k + step, end));
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

void martlet_pack_live(
    const product_job *j, float *target, const float *base, int64_t index, int64_t start, int64_t end) {
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns;
    martlet_pack_b(j, target, base, index, start, end - start);
    if (mask_of_b(p)) martlet_mask_clear_panel(p->mask, target, index, start, end, panel_width(j, index * tile));
}

// Inner rows [from, to) of an operand whose elements are sorted along the other axis, gathered into lines `pitch` apart: whole,
// while they are in the first-level cache.
static void gather_lines(
    float *lines, int64_t pitch, const float *base, int64_t inner, int64_t stride, const int32_t *order, int64_t count,
    int64_t from, int64_t to) {
    for (int64_t k = from; k < to; k++) {
        if (k + 1 < to) martlet_fetch_line(base + (k + 1) * inner, order, stride, count);
        martlet_gather(lines + (k - from) * pitch, base + k * inner, order, stride, 0, count);
    }
}

int64_t martlet_sorted_lines_bytes(const martlet_product *p) {
    return steps_of_a_piece * line_pitch(maximum(p->m, p->n)) * 4;
}

// Inner rows [from, to) of a weight gradient's b, with columns in the order of the mask.
static void pack_gradient_b(const product_job *j, float *lines, int64_t from, int64_t to) {
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, inner = p->b.strides[p->batchRank], line = p->b.strides[p->batchRank + 1];
    const float *base = martlet_product_base(j, &p->b, j->batch);
    const int64_t pitch = line_pitch(p->n);
    if (j->column_order) gather_lines(lines, pitch, base, inner, line, j->column_order, p->n, from, to);
    for (int64_t column = 0; column < p->n; column += tile) {
        const int32_t width = panel_width(j, column), live = (int32_t)minimum(tile, p->n - column);
        float *target = j->shared_b + column * p->k + from * width;
        if (j->column_order) {
            j->isa->pack(target, lines + column, to - from, pitch, live, 1, width);
        } else {
            martlet_pack_b(j, target, base, column / tile, from, to - from);
        }
    }
}

// The same for a, whose rows are sorted; [from, to) lies in the chunk [start, start + depth).
static void pack_gradient_a(const product_job *j, float *lines, int64_t start, int64_t depth, int64_t from, int64_t to) {
    const martlet_product *p = j->p;
    const int64_t inner = p->a.strides[p->batchRank + 1], line = p->a.strides[p->batchRank];
    const float *base = martlet_product_base(j, &p->a, j->batch);
    const int64_t pitch = line_pitch(p->m);
    if (j->row_order) gather_lines(lines, pitch, base, inner, line, j->row_order, p->m, from, to);
    for (int64_t m0 = 0; m0 < p->m; m0 += p->rowBlock) {
        const int64_t rows = minimum(p->rowBlock, p->m - m0), panels = row_panel_count(rows, j->isa->tile_rows);
        float *block = j->shared_a + p->m * start + m0 * depth;
        if (!j->row_order) {
            pack_a_piece(j, block, base, m0, rows, start, depth, 0, panels, from, to);
            continue;
        }
        for (int64_t i = 0; i < panels; i++) {
            const row_panel rp = panel_of_rows(rows, j->isa->tile_rows, i);
            j->isa->pack(
                block + rp.first * depth + (from - start) * rp.height, lines + m0 + rp.first, to - from, pitch, rp.height, 1,
                rp.height);
        }
    }
}

// A few inner rows of what is sorted.
static void pack_gradient(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    float *lines = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    const int64_t step = j->p->depthBlock, end = minimum((index + 1) * steps_of_a_piece, j->p->k);
    if (j->p->sharesB) pack_gradient_b(j, lines, index * steps_of_a_piece, end);
    for (int64_t from = index * steps_of_a_piece; j->p->sharesA && from < end;) {
        const int64_t start = from / step * step, depth = minimum(step, j->p->k - start), to = minimum(start + depth, end);
        pack_gradient_a(j, lines, start, depth, from, to);
        from = to;
    }
}

// Pieces that packing one block of rows of a for one inner range is cut into.
static int64_t pieces_of_a(const martlet_product *p, int64_t rows, int32_t tile_rows) {
    return p->a.strides[p->batchRank] == 1 ? divide_up(p->depthBlock, steps_of_a_piece)
                                           : divide_up(row_panel_count(rows, tile_rows), panels_of_a_piece);
}

static void pack_shared_a(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const int64_t pieces = pieces_of_a(p, p->rowBlock, j->isa->tile_rows), piece = index % pieces;
    index /= pieces;
    const int64_t start = index / j->row_blocks * p->depthBlock, m0 = index % j->row_blocks * p->rowBlock;
    const int64_t depth = minimum(p->depthBlock, p->k - start), rows = minimum(p->rowBlock, p->m - m0);
    float *target = j->shared_a + p->m * start + m0 * depth;
    const float *base = martlet_product_base(j, &p->a, 0);
    const int64_t panels = row_panel_count(rows, j->isa->tile_rows);
    if (p->a.strides[p->batchRank] == 1) {
        const int64_t from = start + piece * steps_of_a_piece, to = minimum(from + steps_of_a_piece, start + depth);
        if (from < to) pack_a_piece(j, target, base, m0, rows, start, depth, 0, panels, from, to);
    } else {
        const int64_t low = piece * panels_of_a_piece, high = minimum(low + panels_of_a_piece, panels);
        pack_a_piece(j, target, base, m0, rows, start, depth, low, high, start, start + depth);
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
        if (from < to) martlet_pack_live(j, target + from * width, base, index, from, to);
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

void martlet_pack_shared(const product_job *j) {
    const martlet_product *p = j->p;
    if (p->sharesA) {
        const int64_t pieces = pieces_of_a(p, p->rowBlock, j->isa->tile_rows);
        martlet_product_pieces(j, j->row_blocks * divide_up(p->k, p->depthBlock) * pieces, pack_shared_a);
    }
    if (p->packedBIsCurrent) return;
    if (p->sharesB && p->b.strides[p->batchRank + 1] == 1) {
        martlet_product_pieces(j, divide_up(p->k, steps_of_a_piece), pack_shared_steps);
    } else if (p->sharesB) {
        martlet_product_pieces(j, divide_up(p->n, j->isa->tile_columns), pack_shared_panels);
    }
}

void martlet_pack_sorted_gradient(const product_job *j) {
    martlet_product_pieces(j, divide_up(j->p->k, steps_of_a_piece), pack_gradient);
}
