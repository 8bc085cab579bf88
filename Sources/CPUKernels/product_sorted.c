// Products masked by degrees that come in any order: forward and input gradient.
//
// The inner axis and the columns are gathered into the order of their degrees, in which the mask is a staircase. The
// product of the sorted operands is kept whole; a second pass puts each row's columns back in their own order and runs the
// epilogue. Lines are gathered whole, while they are in the first-level cache: their elements lie everywhere in them.
#include "product.h"

// Lines of one panel of b, or of one panel of rows of a, before they are packed; a little apart from a power of two.
static int64_t line_stride(const martlet_product *p) { return round_up(p->k, 16) + 16; }

// One panel of rows of a: sorted and packed, chunk after chunk.
static void pack_rows(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    float *lines = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    const int64_t stride = line_stride(p);
    const row_panel rp = panel_of_rows(p->m, j->level->tile_rows, index);
    const float *base = martlet_product_base(j, &p->a, j->batch);
    const int64_t line = p->a.strides[p->batchRank], inner = p->a.strides[p->batchRank + 1];
    for (int32_t r = 0; j->inner_order && r < rp.height; r++) {
        martlet_gather(lines + r * stride, base + (rp.first + r) * line, j->inner_order, inner, 0, p->k);
    }
    for (int64_t start = 0; start < p->k; start += p->depthBlock) {
        const int64_t depth = minimum(p->depthBlock, p->k - start);
        float *target = j->shared_a + p->m * start + rp.first * depth;
        if (j->inner_order) {
            j->level->pack(target, lines + start, depth, 1, rp.height, stride, rp.height);
        } else {
            j->level->pack(
                target, base + rp.first * line + start * inner, depth, inner, rp.height, line, rp.height);
        }
    }
}

// All rows of a times one packed panel over the inner range [from, to) of the chunk that begins at `start`.
static int64_t run_tiles(
    const product_job *j, const float *b, int64_t column, int64_t start, int64_t from, int64_t to, int64_t first_row,
    int64_t last_row, int accumulate) {
    const martlet_product *p = j->p;
    const int32_t tile = j->level->tile_columns, width = panel_width(j, column);
    const int64_t depth = minimum(p->depthBlock, p->k - start), stride = round_up(p->n, tile);
    int64_t executed = 0;
    for (int64_t i = first_row; i < last_row; i++) {
        const row_panel rp = panel_of_rows(p->m, j->level->tile_rows, i);
        j->level->tile(
            to - from, j->shared_a + p->m * start + rp.first * depth + (from - start) * rp.height, rp.height, rp.height, b,
            width, width, width, j->raw + rp.first * stride + column, stride, accumulate ? TILE_ADDS : TILE_STORES, NULL, 0);
        executed += rp.height * minimum(tile, p->n - column) * (to - from);
    }
    return executed;
}

static void clear_columns(const product_job *j, int64_t column, int64_t columns, int64_t first_row, int64_t last_row) {
    const int64_t stride = round_up(j->p->n, j->level->tile_columns);
    for (int64_t m = first_row; m < last_row; m++) memset(j->raw + m * stride + column, 0, (size_t)columns * sizeof(float));
}

// One panel of columns of a b whose columns are contiguous along the inner axis (the weights of a forward product): they are
// gathered over their whole live range at once.
static void run_columns(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const martlet_mask *mask = p->mask;
    const int64_t tile = j->level->tile_columns, stride = line_stride(p);
    // The longest columns come first.
    const int64_t panel = divide_up(p->n, tile) - 1 - index, column = panel * tile, live = minimum(tile, p->n - column);
    const int32_t width = panel_width(j, column);
    float *lines = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    float *packed = lines + tile * stride;
    const float *base = martlet_product_base(j, &p->b, j->batch);
    const int32_t first = mask->panels[panel], last = mask->panels[panel + 1];
    if (first == last) {
        clear_columns(j, column, tile, 0, p->m);
        return;
    }
    const int64_t low = mask->intervals[first].start, high = mask->intervals[last - 1].end;
    for (int64_t c = 0; c < live; c++) {
        const int64_t own = j->column_order ? j->column_order[column + c] : column + c;
        martlet_gather(
            lines + c * stride + low, base + own * p->b.strides[p->batchRank + 1], j->inner_order,
            p->b.strides[p->batchRank], low, high);
    }
    int64_t executed = 0;
    for (int64_t start = low / p->depthBlock * p->depthBlock; start < high; start += p->depthBlock) {
        for (int32_t v = first; v < last; v++) {
            const martlet_interval *interval = &mask->intervals[v];
            const int64_t from = maximum(interval->start, start), to = minimum(interval->end, start + p->depthBlock);
            if (from >= to) continue;
            j->level->pack(packed, lines + from, to - from, 1, (int32_t)live, stride, width);
            if (!interval->full) martlet_mask_clear_panel(mask, packed, from, to, column, live, width);
            executed += run_tiles(
                j, packed, column, start, from, to, 0, row_panel_count(p->m, j->level->tile_rows), from > low);
        }
    }
    j->counts[8 * worker] += executed;
}

enum { rows_of_a_piece = 8, panels_of_a_piece = 4 };

// The live columns of sorted inner row k.
static void live_columns(const product_job *j, int64_t k, int64_t *low, int64_t *high) {
    const martlet_mask *mask = j->p->mask;
    *low = mask->role == MARTLET_FORWARD ? mask->first[k] : 0;
    *high = mask->role == MARTLET_FORWARD ? j->p->n : mask->extents[k];
}

// Rows of a b whose rows are contiguous (the weights of an input gradient), gathered into all panels of this chunk.
static void pack_chunk(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const int64_t tile = j->level->tile_columns, stride = p->b.strides[p->batchRank + 1];
    const float *base = martlet_product_base(j, &p->b, j->batch);
    const int64_t end = minimum(j->depth, (index + 1) * rows_of_a_piece);
    for (int64_t k = index * rows_of_a_piece; k < end; k++) {
        int64_t low, high;
        live_columns(j, j->start + k, &low, &high);
        const float *s = base + (j->inner_order ? j->inner_order[j->start + k] : j->start + k) * p->b.strides[p->batchRank];
        for (int64_t panel = low / tile; panel * tile < high; panel++) {
            const int64_t column = panel * tile, columns = minimum(tile, p->n - column);
            const int32_t width = panel_width(j, column);
            float *d = j->shared_b + panel * tile * p->depthBlock + k * width;
            const int64_t from = maximum(low - column, 0), to = minimum(high - column, columns);
            for (int64_t c = 0; c < from; c++) d[c] = 0;
            martlet_gather(d + from, s, j->column_order, stride, column + from, column + to);
            for (int64_t c = to; c < width; c++) d[c] = 0;
        }
    }
}

// A few panels of this chunk, for some of the rows of a.
static void run_chunk(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const martlet_mask *mask = p->mask;
    const int64_t tile = j->level->tile_columns, panels = divide_up(p->n, tile);
    const int64_t row_panels = row_panel_count(p->m, j->level->tile_rows);
    const int64_t first_row = index % j->row_blocks * p->rowBlock, last_row = minimum(first_row + p->rowBlock, row_panels);
    const int64_t first_panel = index / j->row_blocks * panels_of_a_piece;
    int64_t executed = 0;
    for (int64_t panel = first_panel; panel < minimum(first_panel + panels_of_a_piece, panels); panel++) {
        const int64_t column = panel * tile;
        const int32_t first = mask->panels[panel], last = mask->panels[panel + 1], width = panel_width(j, column);
        if (first == last) {
            if (j->start == 0) {
                const row_panel low = panel_of_rows(p->m, j->level->tile_rows, first_row);
                const row_panel high = panel_of_rows(p->m, j->level->tile_rows, last_row - 1);
                clear_columns(j, column, tile, low.first, high.first + high.height);
            }
            continue;
        }
        // Dead elements were packed as zeros: the whole live range of the chunk is one run.
        const int64_t low = mask->intervals[first].start;
        const int64_t from = maximum(low, j->start), to = minimum(mask->intervals[last - 1].end, j->start + j->depth);
        if (from >= to) continue;
        const float *b = j->shared_b + panel * tile * p->depthBlock + (from - j->start) * width;
        executed += run_tiles(j, b, column, j->start, from, to, first_row, last_row, from > low);
    }
    j->counts[8 * worker] += executed;
}

enum { rows_of_a_finish = 32 };

// The second pass: some rows of the product, put in order, through the epilogue.
static void finish_rows(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const int64_t stride = round_up(p->n, j->level->tile_columns), together = martlet_rows_in_order(p);
    const int64_t end = minimum((index + 1) * rows_of_a_finish, p->m);
    char *work = j->context->work + worker * j->context->workBytes;
    char *rest = work + round_up(together * p->n * 4, 64);
    if (!j->column_order) {
        const int64_t row = index * rows_of_a_finish;
        martlet_product_epilogue(j, j->batch, j->raw + row * stride, stride, row, end - row, 0, p->n, rest);
        return;
    }
    for (int64_t row = index * rows_of_a_finish; row < end; row += together) {
        const int64_t count = minimum(together, end - row);
        for (int64_t r = 0; r < count; r++) {
            const float *sorted = j->raw + (row + r) * stride;
            float *line = (float *)(void *)work + r * p->n;
            for (int64_t n = 0; n < p->n; n++) line[j->column_order[n]] = sorted[n];
        }
        martlet_product_epilogue(j, j->batch, (const float *)(void *)work, p->n, row, count, 0, p->n, rest);
    }
}

void martlet_sorted_product_plan(martlet_product *p) {
    const martlet_level_functions *level = martlet_level_table(p->level);
    const int64_t tile = level->tile_columns, wide = round_up(p->n, tile);
    const int64_t row_panels = row_panel_count(p->m, level->tile_rows);
    // Panels of rows that a piece of the chunked form takes.
    p->rowBlock = row_panels > 0 ? divide_up(row_panels, divide_up(row_panels, 32)) : 1;
    p->columnBlock = wide;
    const int64_t packs_columns = p->b.strides[p->batchRank] != 1;
    p->sharedBytes = 4 * (round_up(p->m * p->k, 16) + p->m * wide + (packs_columns ? wide * p->depthBlock : 0));
    const int64_t gather = 4 * (tile * line_stride(p) + tile * p->depthBlock);
    const int64_t finish = round_up(martlet_rows_in_order(p) * p->n * 4, 64) + (int64_t)p->epilogue->slotCount * p->epilogue->slotBytes;
    p->workBytes = maximum(gather, finish);
}

static void run_batch(product_job *j) {
    const martlet_product *p = j->p;
    const int64_t tile = j->level->tile_columns, row_panels = row_panel_count(p->m, j->level->tile_rows);
    martlet_product_pieces(j, row_panels, pack_rows);
    if (p->k == 0) {
        clear_columns(j, 0, round_up(p->n, tile), 0, p->m);
    } else if (p->b.strides[p->batchRank] == 1) {
        martlet_product_pieces(j, divide_up(p->n, tile), run_columns);
    } else {
        const int64_t pieces = divide_up(divide_up(p->n, tile), panels_of_a_piece);
        for (j->start = 0; j->start < p->k; j->start += p->depthBlock) {
            j->depth = minimum(p->depthBlock, p->k - j->start);
            martlet_product_pieces(j, divide_up(j->depth, rows_of_a_piece), pack_chunk);
            martlet_product_pieces(j, pieces * j->row_blocks, run_chunk);
        }
    }
    martlet_product_pieces(j, divide_up(p->m, rows_of_a_finish), finish_rows);
}

void martlet_sorted_product_run(product_job *j, int64_t batches) {
    const martlet_product *p = j->p;
    j->shared_a = (float *)(void *)j->context->shared;
    j->raw = j->shared_a + round_up(p->m * p->k, 16);
    j->shared_b = j->raw + p->m * round_up(p->n, j->level->tile_columns);
    j->row_blocks = divide_up(row_panel_count(p->m, j->level->tile_rows), p->rowBlock);
    for (j->batch = 0; j->batch < batches; j->batch++) run_batch(j);
}
