// What is done with a block of sums: columns and rows that were sorted go back to their places, what a mask leaves dead becomes zero,
// and the epilogue runs while the sums are in a cache.
#include "product.h"

// The epilogue on a block whose columns are in their own order.
static void run_epilogue(const product_block *block) {
    const product_job *j = block->j;
    const martlet_product *p = j->p;
    // Permuted rows go one by one.
    const int64_t step = j->order.rows ? 1 : block->rows;
    martlet_block blocks[2][MARTLET_MAXIMUM_PORTS];
    for (int64_t row = 0; row < block->rows; row += step) {
        const int64_t m = in_order(j->order.rows, block->m0 + row);
        martlet_locate_epilogue(p, j->context, block->batch, m, block->n0, blocks);
        blocks[0][0] = (martlet_block){(char *)(block->sums + row * block->stride), 0, block->stride, 1};
        martlet_program_run(p->epilogue, blocks[0], blocks[1], step, block->columns, block->work);
    }
}

// `lines` as a block of some of these rows, the first of which is the block's row `row`.
static product_block block_of_lines(const product_block *block, float *lines, int64_t row, int64_t rows) {
    product_block part = *block;
    part.sums = lines;
    part.stride = block->j->p->n;
    part.m0 = block->m0 + row;
    part.rows = rows;
    part.work = block->work + lines_in_order_bytes(block->j->p);
    return part;
}

void martlet_finish_sorted(const product_block *block) {
    const product_job *j = block->j;
    const int64_t columns = j->p->n, together = rows_in_order(j->p);
    float *lines = (float *)(void *)block->work;
    if (!j->order.columns) {
        product_block whole = *block;
        whole.work += lines_in_order_bytes(j->p);
        run_epilogue(&whole);
        return;
    }
    for (int64_t row = 0; row < block->rows; row += together) {
        const int64_t count = minimum(together, block->rows - row);
        for (int64_t r = 0; r < count; r++) {
            const float *sorted = block->sums + (row + r) * block->stride;
            for (int64_t n = 0; n < columns; n++) lines[r * columns + j->order.columns[n]] = sorted[n];
        }
        const product_block part = block_of_lines(block, lines, row, count);
        run_epilogue(&part);
    }
}

// A line of a result: `source`, or zeros.
static void write_line(const product_job *j, float *target, const float *source, int64_t count) {
    if (j->p->m * j->p->n > cached_elements) {
        j->isa->stream(target, source, count);
    } else if (source) {
        memcpy(target, source, (size_t)count * sizeof(float));
    } else {
        memset(target, 0, (size_t)count * sizeof(float));
    }
}

// Rows of a sorted weight gradient with their columns in order; what lies beyond a row's live prefix is zero.
static void put_gradient_in_order(const product_block *block, int64_t row, int64_t count, float *lines) {
    const product_job *j = block->j;
    memset(lines, 0, (size_t)(count * j->p->n) * sizeof(float));
    for (int64_t r = row; r < row + count; r++, lines += j->p->n) {
        const float *sorted = block->sums + r * block->stride;
        for (int64_t n = 0; n < j->p->mask->extents[block->m0 + r]; n++) lines[j->order.columns[n]] = sorted[n];
    }
}

// The epilogue on such rows. Columns that are dead in all of them are left out at both ends where they stay zero; the last row has most
// live ones.
static void run_epilogue_of_gradient(product_block part) {
    const product_job *j = part.j;
    int64_t low = 0, high = j->p->n;
    if (j->p->deadStayZero) {
        low = j->p->n;
        high = 0;
        for (int64_t n = 0; n < j->p->mask->extents[part.m0 + part.rows - 1]; n++) {
            low = minimum(low, j->order.columns[n]);
            high = maximum(high, j->order.columns[n] + 1);
        }
    }
    if (low >= high) return;
    part.sums += low;
    part.n0 = low;
    part.columns = high - low;
    run_epilogue(&part);
}

// A weight gradient whose columns had to be sorted; rows of its blocks are whole.
static void finish_sorted_gradient(const product_block *block) {
    const product_job *j = block->j;
    const martlet_product *p = j->p;
    // Permuted rows go one by one, others together.
    const int64_t step = p->directC || j->order.rows ? 1 : rows_in_order(p);
    float *lines = (float *)(void *)block->work;
    for (int64_t row = 0; row < block->rows; row += step) {
        const int64_t count = minimum(step, block->rows - row);
        put_gradient_in_order(block, row, count, lines);
        if (p->directC) {
            const martlet_operand *output = &p->outputs[0];
            const int64_t m = in_order(j->order.rows, block->m0 + row);
            float *target = (float *)(uintptr_t)martlet_product_base(j, output, block->batch);
            write_line(j, target + m * output->strides[p->batchRank], lines, p->n);
        } else {
            run_epilogue_of_gradient(block_of_lines(block, lines, row, count));
        }
    }
    if (p->directC) martlet_stream_end();
}

// Neighbouring tiles of a weight gradient whose columns are in order: zeros where they were written to the output itself and are all
// dead, the epilogue otherwise.
static void finish_tiles(const product_block *tiles) {
    if (!stores_directly(tiles->j->p)) {
        run_epilogue(tiles);
        return;
    }
    for (int64_t r = 0; r < tiles->rows; r++) write_line(tiles->j, tiles->sums + r * tiles->stride, NULL, tiles->columns);
}

// A panel of rows of such a gradient: dead elements are made zero, or skipped where they stay zero anyway. Of what was written to the
// output itself only the dead elements are made zero.
static void finish_gradient_rows(const product_block *panel) {
    const product_job *j = panel->j;
    const martlet_product *p = j->p;
    const int32_t tile = j->isa->tile_columns;
    const int direct = stores_directly(p);
    const int64_t m0 = panel->m0, m1 = panel->m0 + panel->rows;
    // Neighbouring tiles that want the same are finished together, from column `first` on.
    int64_t first = 0;
    for (int64_t column = 0; column < panel->columns; column += tile) {
        const int64_t end = minimum(column + tile, panel->columns), n0 = panel->n0 + column, n1 = panel->n0 + end;
        const int state = martlet_mask_tile(p->mask, m0, m1, n0, n1);
        const int is_done = direct ? state != TILE_IS_DEAD : state == TILE_IS_DEAD && p->deadStayZero;
        if (state == TILE_IS_MIXED || (state == TILE_IS_DEAD && !direct && !is_done)) {
            martlet_mask_clear_tile(p->mask, panel->sums + column, panel->stride, m0, m1, n0, n1);
        }
        const int64_t last = is_done ? column : end;
        if ((is_done || end == panel->columns) && last > first) {
            product_block tiles = *panel;
            tiles.sums += first;
            tiles.n0 += first;
            tiles.columns = last - first;
            finish_tiles(&tiles);
        }
        if (is_done) first = end;
    }
}

static void finish_gradient(const product_block *block) {
    const row_panels panels = deal_rows(block->rows, block->j->isa->tile_rows);
    for (int64_t i = 0; i < panels.count; i++) {
        const row_panel rp = panel_at(panels, i);
        product_block panel = *block;
        panel.sums += rp.first * block->stride;
        panel.m0 += rp.first;
        panel.rows = rp.height;
        finish_gradient_rows(&panel);
    }
    if (stores_directly(block->j->p)) martlet_stream_end();
}

void martlet_finish_block(const product_block *block) {
    const martlet_product *p = block->j->p;
    const int is_gradient = p->role == MARTLET_WEIGHT_GRADIENT;
    if (p->permuted && !is_gradient) {
        martlet_finish_sorted(block);
    } else if (p->permuted && block->j->order.columns) {
        finish_sorted_gradient(block);
    } else if (p->mask && is_gradient) {
        finish_gradient(block);
    } else if (!stores_directly(p)) {
        run_epilogue(block);
    }
}
