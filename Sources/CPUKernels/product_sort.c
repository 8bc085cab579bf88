// Packing in the order of a mask of degrees, in which the mask is a staircase.
//
// An operand is read along its memory: lines that are contiguous along the sorted axis are gathered whole, while they are in the
// first-level cache; the others are read once in their own order and each element is stored where it stands.
#include "product.h"

// target[i - from] = source at order[i], or at i where the order is the identity, for i in [from, to).
static void gather(float *target, const float *source, const int32_t *order, int64_t stride, int64_t from, int64_t to) {
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

// Fetches a line that is about to be gathered: its elements are wanted in an order that no processor foresees.
static void fetch_line(const float *line, const int32_t *order, int64_t stride, int64_t count) {
    if (!order || stride != 1) return;
    for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(line + i);
}

// Forward products and input gradients: the inner axis and the columns are sorted.

void martlet_set_inner_rank(product_job *j, int32_t *rank) {
    if (!j->order.inner) return;
    for (int64_t k = 0; k < j->p->k; k++) rank[j->order.inner[k]] = (int32_t)k;
    j->inner_rank = rank;
}

void martlet_pack_sorted_rows(
    const product_job *j, packed_rows target, const float *base, int64_t from, int64_t to, float *lines) {
    const martlet_product *p = j->p;
    const int64_t line = p->a.strides[p->batchRank], inner = p->a.strides[p->batchRank + 1];
    const int64_t pitch = line_pitch(p->depthBlock);
    for (int64_t i = 0; i < row_panel_count(target.rows, j->isa->tile_rows); i++) {
        const row_panel rp = panel_of_rows(target.rows, j->isa->tile_rows, i);
        const float *source = base + (target.first + rp.first) * line;
        float *panel = target.panels + rp.first * target.depth + (from - target.start) * rp.height;
        if (!j->order.inner) {
            j->isa->pack(panel, source + from * inner, to - from, inner, rp.height, line, rp.height);
            continue;
        }
        for (int32_t r = 0; r < rp.height; r++) {
            gather(lines + r * pitch, source + r * line, j->order.inner, inner, from, to);
        }
        j->isa->pack(panel, lines, to - from, 1, rp.height, pitch, rp.height);
    }
}

// One panel of rows of a, chunk after chunk.
static void pack_rows(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    float *lines = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    const row_panel rp = panel_of_rows(p->m, j->isa->tile_rows, index);
    const float *base = martlet_product_base(j, &p->a, j->batch);
    for (int64_t start = 0; start < p->k; start += p->depthBlock) {
        const int64_t depth = minimum(p->depthBlock, p->k - start);
        const packed_rows target = {j->shared_a + p->m * start + rp.first * depth, rp.first, rp.height, start, depth};
        martlet_pack_sorted_rows(j, target, base, start, start + depth, lines);
    }
}

void martlet_pack_sorted_a(const product_job *j) { run_pieces(j, row_panel_count(j->p->m, j->isa->tile_rows), pack_rows); }

void martlet_pack_sorted_columns(const product_job *j, float *packed, int64_t panel) {
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, column = panel * tile, live = minimum(tile, p->n - column);
    const int64_t line = p->b.strides[p->batchRank + 1];
    const int32_t width = panel_width(j, column);
    const float *base = martlet_product_base(j, &p->b, j->batch);
    const float *lines[maximum_tile_columns];
    for (int64_t c = 0; c < live; c++) lines[c] = base + in_order(j->order.columns, column + c) * line;
    j->isa->pack_in_order(packed, lines, j->inner_rank, p->k, (int32_t)live, line, width);
    martlet_mask_clear_panel(p->mask, packed, panel, 0, p->k, width);
}

// The live columns of sorted inner row k.
static void live_columns(const product_job *j, int64_t k, int64_t *low, int64_t *high) {
    const martlet_mask *mask = j->p->mask;
    *low = mask->role == MARTLET_FORWARD ? mask->first[k] : 0;
    *high = mask->role == MARTLET_FORWARD ? j->p->n : mask->extents[k];
}

// Some rows of a b whose rows are contiguous (the weights of an input gradient), gathered whole and packed into all panels.
static void pack_steps(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, inner = p->b.strides[p->batchRank], stride = p->b.strides[p->batchRank + 1];
    const float *base = martlet_product_base(j, &p->b, j->batch);
    const int64_t first = index * sorted_steps_of_a_piece, end = minimum(j->depth, first + sorted_steps_of_a_piece);
    const int64_t pitch = line_pitch(p->n);
    float *lines = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    int64_t lowest = p->n, highest = 0;
    for (int64_t k = first; k < end; k++) {
        int64_t low, high;
        live_columns(j, j->start + k, &low, &high);
        const float *row = base + in_order(j->order.inner, j->start + k) * inner;
        if (k + 1 < end) fetch_line(base + in_order(j->order.inner, j->start + k + 1) * inner, j->order.columns, stride, p->n);
        float *line = lines + (k - first) * pitch;
        // What is dead in this row is zero as far as a panel is live in one of the others.
        if (low < high) {
            lowest = minimum(lowest, low);
            highest = maximum(highest, high);
        }
        memset(line, 0, (size_t)low * sizeof(float));
        gather(line + low, row, j->order.columns, stride, low, maximum(low, high));
        memset(line + maximum(low, high), 0, (size_t)(p->n - maximum(low, high)) * sizeof(float));
    }
    for (int64_t panel = lowest / tile; panel * tile < highest; panel++) {
        const int64_t column = panel * tile;
        const int32_t width = panel_width(j, column);
        j->isa->pack(
            j->shared_b + panel * tile * j->panel_depth + first * width, lines + column, end - first, pitch,
            (int32_t)minimum(tile, p->n - column), 1, width);
    }
}

void martlet_pack_sorted_steps(const product_job *j) {
    run_pieces(j, divide_up(j->depth, sorted_steps_of_a_piece), pack_steps);
}

static void pack_panel(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const product_job *j = argument;
    if (j->p->mask->panels[index] == j->p->mask->panels[index + 1]) return;
    martlet_pack_sorted_columns(j, j->shared_b + index * j->isa->tile_columns * j->p->k, index);
}

void martlet_pack_sorted_b(product_job *j) {
    const martlet_product *p = j->p;
    if (p->packedBIsCurrent) return;
    if (p->b.strides[p->batchRank] == 1) {
        run_pieces(j, divide_up(p->n, j->isa->tile_columns), pack_panel);
        return;
    }
    j->start = 0;
    j->depth = j->panel_depth = p->k;
    martlet_pack_sorted_steps(j);
}

// Weight gradients: rows and columns are sorted, the inner axis is not.

// Inner rows [from, to) of an operand whose elements are sorted along the other axis, gathered into lines `pitch` apart.
static void gather_lines(
    float *lines, int64_t pitch, const float *base, int64_t inner, int64_t stride, const int32_t *order, int64_t count,
    int64_t from, int64_t to) {
    for (int64_t k = from; k < to; k++) {
        if (k + 1 < to) fetch_line(base + (k + 1) * inner, order, stride, count);
        gather(lines + (k - from) * pitch, base + k * inner, order, stride, 0, count);
    }
}

// Inner rows [from, to) of b.
static void pack_gradient_b(const product_job *j, float *lines, int64_t from, int64_t to) {
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, inner = p->b.strides[p->batchRank], line = p->b.strides[p->batchRank + 1];
    const float *base = martlet_product_base(j, &p->b, j->batch);
    const int64_t pitch = line_pitch(p->n);
    if (j->order.columns) gather_lines(lines, pitch, base, inner, line, j->order.columns, p->n, from, to);
    for (int64_t column = 0; column < p->n; column += tile) {
        const int32_t width = panel_width(j, column), live = (int32_t)minimum(tile, p->n - column);
        float *target = j->shared_b + column * p->k + from * width;
        if (j->order.columns) {
            j->isa->pack(target, lines + column, to - from, pitch, live, 1, width);
        } else {
            martlet_pack_b(j, target, base, column / tile, from, to - from);
        }
    }
}

// The same for a; [from, to) lies in the chunk [start, start + depth).
static void pack_gradient_a(const product_job *j, float *lines, int64_t start, int64_t depth, int64_t from, int64_t to) {
    const martlet_product *p = j->p;
    const int64_t inner = p->a.strides[p->batchRank + 1], line = p->a.strides[p->batchRank];
    const float *base = martlet_product_base(j, &p->a, j->batch);
    const int64_t pitch = line_pitch(p->m);
    if (j->order.rows) gather_lines(lines, pitch, base, inner, line, j->order.rows, p->m, from, to);
    for (int64_t m0 = 0; m0 < p->m; m0 += p->rowBlock) {
        const int64_t rows = minimum(p->rowBlock, p->m - m0), panels = row_panel_count(rows, j->isa->tile_rows);
        const packed_rows target = {j->shared_a + p->m * start + m0 * depth, m0, rows, start, depth};
        if (!j->order.rows) {
            martlet_pack_a_piece(j, target, base, 0, panels, from, to);
            continue;
        }
        for (int64_t i = 0; i < panels; i++) {
            const row_panel rp = panel_of_rows(rows, j->isa->tile_rows, i);
            j->isa->pack(
                target.panels + rp.first * depth + (from - start) * rp.height, lines + m0 + rp.first, to - from, pitch,
                rp.height, 1, rp.height);
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

void martlet_pack_sorted_gradient(const product_job *j) {
    run_pieces(j, divide_up(j->p->k, steps_of_a_piece), pack_gradient);
}
