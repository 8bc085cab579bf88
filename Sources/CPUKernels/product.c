// Blocked products: panels are packed, register tiles walk the live part of the inner axis, and the epilogue runs on a block
// while it is in cache.
//
// An element's sum runs over the inner axis in order, in chunks of `depthBlock`, whatever the blocks of rows and columns
// are; so results do not depend on threads. The axes of rows, columns and the inner axis are those of the sorted mask; orders
// that are not the identity are undone while packing (inner axis, rows) and before the epilogue (columns).
#include "mask.h"

typedef struct {
    const martlet_product *p;
    const martlet_context *context;
    const martlet_level_functions *level;
    int64_t *counts;
    int64_t row_blocks, column_blocks, depth_blocks;
    int64_t panel_count;
    const int32_t *inner_order, *column_order, *row_order;
    // Offsets of the current batch element, for a product that shares packed panels.
    const float *shared_a, *shared_b;
    float *raw;
} job;

static int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }
static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows are dealt to panels of nearly equal height, none above `tile_rows`.
typedef struct {
    int64_t first;
    int32_t height;
} row_panel;

static int64_t row_panel_count(int64_t rows, int32_t tile_rows) { return divide_up(rows, tile_rows); }

static row_panel panel_of_rows(int64_t rows, int32_t tile_rows, int64_t index) {
    const int64_t count = row_panel_count(rows, tile_rows);
    const int64_t low = rows / count, rest = rows % count;
    row_panel panel = {index * low + minimum(index, rest), (int32_t)(low + (index < rest))};
    return panel;
}

static const float *operand_base(const job *j, const martlet_operand *operand, int64_t batch) {
    const martlet_product *p = j->p;
    int64_t offset = operand->offset;
    for (int32_t axis = p->batchRank - 1; axis >= 0; axis--) {
        offset += batch % p->batchExtents[axis] * operand->strides[axis];
        batch /= p->batchExtents[axis];
    }
    return (const float *)j->context->values[operand->source] + offset;
}

// Packs lines [first, first + live) of an operand for the inner range [start, start + depth).
static void pack_lines(
    const job *j, float *target, const float *base, int64_t inner_stride, int64_t line_stride, int64_t start,
    int64_t depth, const int32_t *line_order, int64_t first, int32_t live, int32_t height) {
    if (!j->inner_order && !line_order) {
        j->level->pack(
            target, base + start * inner_stride + first * line_stride, depth, inner_stride, live, line_stride, height);
        return;
    }
    for (int64_t k = 0; k < depth; k++) {
        const int64_t inner = j->inner_order ? j->inner_order[start + k] : start + k;
        const float *s = base + inner * inner_stride;
        float *d = target + k * height;
        for (int32_t i = 0; i < live; i++) d[i] = s[(line_order ? line_order[first + i] : first + i) * line_stride];
        for (int32_t i = live; i < height; i++) d[i] = 0;
    }
}

// Packs rows [first, first + rows) of a, panel after panel, for one inner range.
static void pack_a(
    const job *j, float *target, const float *base, int64_t first, int64_t rows, int64_t start, int64_t depth) {
    const martlet_product *p = j->p;
    const int32_t tile = j->level->tile_rows;
    const int64_t count = row_panel_count(rows, tile);
    for (int64_t i = 0; i < count; i++) {
        const row_panel panel = panel_of_rows(rows, tile, i);
        pack_lines(
            j, target + panel.first * depth, base, p->a.strides[p->batchRank + 1], p->a.strides[p->batchRank], start, depth,
            j->row_order, first + panel.first, panel.height, panel.height);
    }
}

// Width of the packed panel: the last may need one vector only.
static int32_t panel_width(const job *j, int64_t column) {
    const int32_t width = j->level->tile_columns;
    return j->p->n - column <= width / 2 ? width / 2 : width;
}

// Packs the live rows of panel `index` of b in the inner range [start, start + depth); row k lies at its place in the range.
static void pack_b(const job *j, float *target, const float *base, int64_t index, int64_t start, int64_t depth) {
    const martlet_product *p = j->p;
    const int32_t tile = j->level->tile_columns;
    const int64_t column = index * tile;
    const int32_t width = panel_width(j, column), live = (int32_t)minimum(tile, p->n - column);
    const int64_t inner = p->b.strides[p->batchRank], line = p->b.strides[p->batchRank + 1];
    const martlet_mask *mask = p->role == MARTLET_WEIGHT_GRADIENT ? NULL : p->mask;
    if (!mask) {
        pack_lines(j, target, base, inner, line, start, depth, j->column_order, column, live, width);
        return;
    }
    for (int32_t i = mask->panels[index]; i < mask->panels[index + 1]; i++) {
        const martlet_interval *interval = &mask->intervals[i];
        const int64_t low = interval->start > start ? interval->start : start;
        const int64_t high = minimum(interval->end, start + depth);
        if (low >= high) continue;
        float *place = target + (low - start) * width;
        pack_lines(j, place, base, inner, line, low, high - low, j->column_order, column, live, width);
        if (!interval->full) martlet_mask_clear_panel(mask, place, low, high, column, live, width);
    }
}

// The inner range that any of the panels [first, last) reads.
static void live_range(const job *j, int64_t first, int64_t last, int64_t *low, int64_t *high) {
    const martlet_mask *mask = j->p->mask;
    *low = 0;
    *high = j->p->k;
    if (!mask || j->p->role == MARTLET_WEIGHT_GRADIENT) return;
    *low = j->p->k;
    *high = 0;
    for (int64_t panel = first; panel < last; panel++) {
        if (mask->panels[panel] == mask->panels[panel + 1]) continue;
        *low = minimum(*low, mask->intervals[mask->panels[panel]].start);
        const int64_t end = mask->intervals[mask->panels[panel + 1] - 1].end;
        if (end > *high) *high = end;
    }
}

static void run_epilogue(
    const job *j, int64_t batch, const float *block, int64_t stride, int64_t m0, int64_t rows, int64_t n0,
    int64_t columns, char *work) {
    const martlet_product *p = j->p;
    martlet_block blocks[2][MARTLET_MAXIMUM_PORTS];
    for (int64_t row = 0; row < rows;) {
        // Permuted rows go one by one.
        const int64_t m = j->row_order ? j->row_order[m0 + row] : m0 + row;
        const int64_t step = j->row_order ? 1 : rows;
        for (int32_t side = 0; side < 2; side++) {
            const int32_t count = side ? p->epilogue->outputCount : p->epilogue->inputCount;
            const martlet_operand *operands = side ? p->outputs : p->inputs;
            for (int32_t i = 0; i < count; i++) {
                martlet_block *b = &blocks[side][i];
                if (side == 0 && i == 0) {
                    *b = (martlet_block){(char *)(uintptr_t)(block + row * stride), 0, stride, 1};
                    continue;
                }
                const martlet_operand *operand = &operands[i];
                int64_t offset = operand->offset, rest = batch;
                for (int32_t axis = p->batchRank - 1; axis >= 0; axis--) {
                    offset += rest % p->batchExtents[axis] * operand->strides[axis];
                    rest /= p->batchExtents[axis];
                }
                b->rowStride = operand->strides[p->batchRank];
                b->columnStride = operand->strides[p->batchRank + 1];
                offset += m * b->rowStride + n0 * b->columnStride;
                b->start = offset;
                b->base = operand->source == MARTLET_SOURCE_POSITION
                              ? NULL
                              : j->context->values[operand->source] + offset * martlet_element_size(operand->element);
            }
        }
        martlet_program_run(p->epilogue, blocks[0], blocks[1], step, columns, work);
        row += step;
    }
}

// The epilogue of a block of a masked weight gradient: dead tiles are zero, or skipped where they are settled.
static void finish_gradient(
    const job *j, int64_t batch, float *block, int64_t stride, int64_t m0, int64_t rows, int64_t n0, int64_t columns,
    char *work) {
    const martlet_product *p = j->p;
    const int32_t tile = j->level->tile_columns;
    if (j->column_order) {
        // Full rows: put the columns back in their own order.
        float *line = (float *)(void *)work;
        char *rest = work + round_up(p->n * 4, 64);
        for (int64_t row = 0; row < rows; row++) {
            float *sorted = block + row * stride;
            for (int64_t n = 0; n < p->n; n++) line[j->column_order[n]] = sorted[n];
            run_epilogue(j, batch, line, p->n, m0 + row, 1, 0, p->n, rest);
        }
        return;
    }
    if (!p->settled) {
        run_epilogue(j, batch, block, stride, m0, rows, n0, columns, work);
        return;
    }
    const int64_t count = row_panel_count(rows, j->level->tile_rows);
    for (int64_t i = 0; i < count; i++) {
        const row_panel panel = panel_of_rows(rows, j->level->tile_rows, i);
        const int64_t m = m0 + panel.first;
        for (int64_t column = 0; column < columns;) {
            int64_t end = column;
            while (end < columns &&
                   martlet_mask_tile(p->mask, m, m + panel.height, n0 + end, n0 + minimum(end + tile, columns))) {
                end = minimum(end + tile, columns);
            }
            if (end > column) {
                run_epilogue(
                    j, batch, block + panel.first * stride + column, stride, m, panel.height, n0 + column, end - column, work);
            }
            column = end + tile;
        }
    }
}

// One block of rows x columns of one batch element.
static void run_block(void *argument, int64_t index, int32_t worker) {
    const job *j = argument;
    const martlet_product *p = j->p;
    const martlet_level_functions *level = j->level;
    // Later columns of a staircase are longer: they come first, so that no worker is left with the longest at the end.
    const int64_t column_block = j->column_blocks - 1 - index / j->row_blocks % j->column_blocks;
    const int64_t row_block = j->row_blocks - 1 - index % j->row_blocks;
    const int64_t batch = index / (j->row_blocks * j->column_blocks);
    const int64_t m0 = row_block * p->rowBlock, rows = minimum(p->rowBlock, p->m - m0);
    const int64_t n0 = column_block * p->columnBlock, columns = minimum(p->columnBlock, p->n - n0);
    const int32_t tile = level->tile_columns;
    const int64_t first_panel = n0 / tile, panels = divide_up(columns, tile);
    const int64_t stride = panels * tile;

    char *work = j->context->work + worker * j->context->workBytes;
    float *block = (float *)(void *)work;
    float *packed_a = block + p->rowBlock * round_up(p->columnBlock, tile);
    float *packed_b = packed_a + (p->sharesA ? 0 : round_up(p->rowBlock * p->depthBlock, 16));
    char *rest = (char *)(packed_b + (p->sharesB ? 0 : round_up(p->columnBlock, tile) * p->depthBlock));
    const float *base_a = operand_base(j, &p->a, batch), *base_b = operand_base(j, &p->b, batch);
    const martlet_mask *mask = p->mask;
    const int masks_result = mask && p->role == MARTLET_WEIGHT_GRADIENT;
    const int64_t row_panels = row_panel_count(rows, level->tile_rows);
    int64_t executed = 0;

    int64_t low, high;
    live_range(j, first_panel, first_panel + panels, &low, &high);
    int started = 0;
    for (int64_t start = 0; start < p->k; start += p->depthBlock) {
        const int64_t depth = minimum(p->depthBlock, p->k - start);
        if (start >= high || start + depth <= low) continue;
        // A chunk that some panel does not read must not be the first that overwrites it.
        if (!started && mask && !masks_result) memset(block, 0, (size_t)(rows * stride) * sizeof(float));
        const int accumulate = started || (mask && !masks_result);
        started = 1;
        const float *a = packed_a;
        if (p->sharesA) {
            a = j->shared_a + p->m * start + m0 * depth;
        } else {
            pack_a(j, packed_a, base_a, m0, rows, start, depth);
        }
        for (int64_t panel = 0; panel < panels; panel++) {
            const int64_t column = n0 + panel * tile;
            const int32_t width = panel_width(j, column);
            const int64_t live = minimum(tile, p->n - column);
            const float *b = packed_b;
            if (p->sharesB) {
                b = j->shared_b + (first_panel + panel) * tile * p->k + start * width;
            } else {
                pack_b(j, packed_b, base_b, first_panel + panel, start, depth);
            }
            float *c = block + panel * tile;
            if (!mask || masks_result) {
                for (int64_t i = 0; i < row_panels; i++) {
                    const row_panel rp = panel_of_rows(rows, level->tile_rows, i);
                    if (masks_result) {
                        const int state = martlet_mask_tile(mask, m0 + rp.first, m0 + rp.first + rp.height, column, column + live);
                        if (state == 0) continue;
                    }
                    level->tile(
                        depth, a + rp.first * depth, rp.height, b, width, c + rp.first * stride, stride, accumulate);
                    executed += rp.height * live * depth;
                }
                continue;
            }
            for (int32_t v = mask->panels[first_panel + panel]; v < mask->panels[first_panel + panel + 1]; v++) {
                const martlet_interval *interval = &mask->intervals[v];
                const int64_t from = interval->start > start ? interval->start : start;
                const int64_t to = minimum(interval->end, start + depth);
                if (from >= to) continue;
                for (int64_t i = 0; i < row_panels; i++) {
                    const row_panel rp = panel_of_rows(rows, level->tile_rows, i);
                    level->tile(
                        to - from, a + rp.first * depth + (from - start) * rp.height, rp.height,
                        b + (from - start) * width, width, c + rp.first * stride, stride, accumulate);
                    executed += rp.height * live * (to - from);
                }
            }
        }
    }
    if (!started) memset(block, 0, (size_t)(rows * stride) * sizeof(float));
    j->counts[8 * worker] += executed;

    if (masks_result) {
        for (int64_t i = 0; i < row_panels; i++) {
            const row_panel rp = panel_of_rows(rows, level->tile_rows, i);
            for (int64_t column = n0; column < n0 + columns; column += tile) {
                const int64_t end = minimum(column + tile, n0 + columns), m = m0 + rp.first;
                const int state = martlet_mask_tile(mask, m, m + rp.height, column, end);
                float *c = block + rp.first * stride + column - n0;
                if (state < 2 && (state == 1 || !p->settled || j->column_order)) {
                    martlet_mask_clear_tile(mask, c, stride, m, m + rp.height, column, end);
                }
            }
        }
        finish_gradient(j, batch, block, stride, m0, rows, n0, columns, rest);
    } else if (p->inTwoPasses && j->column_order) {
        for (int64_t row = 0; row < rows; row++) {
            memcpy(j->raw + (m0 + row) * p->n + n0, block + row * stride, (size_t)columns * sizeof(float));
        }
    } else {
        run_epilogue(j, batch, block, stride, m0, rows, n0, columns, rest);
    }
}

// The second pass of a product whose columns are permuted: rows of the raw product, put in order, through the epilogue.
static void run_row(void *argument, int64_t row, int32_t worker) {
    const job *j = argument;
    const martlet_product *p = j->p;
    char *work = j->context->work + worker * j->context->workBytes;
    float *line = (float *)(void *)work;
    const float *sorted = j->raw + row * p->n;
    for (int64_t n = 0; n < p->n; n++) line[j->column_order[n]] = sorted[n];
    run_epilogue(j, 0, line, p->n, row, 1, 0, p->n, work + round_up(p->n * 4, 64));
}

static void pack_shared_a(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const job *j = argument;
    const martlet_product *p = j->p;
    const int64_t start = index / j->row_blocks * p->depthBlock, m0 = index % j->row_blocks * p->rowBlock;
    const int64_t depth = minimum(p->depthBlock, p->k - start), rows = minimum(p->rowBlock, p->m - m0);
    float *target = (float *)(uintptr_t)j->shared_a + p->m * start + m0 * depth;
    pack_a(j, target, operand_base(j, &p->a, 0), m0, rows, start, depth);
}

static void pack_shared_b(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const job *j = argument;
    const martlet_product *p = j->p;
    const int32_t tile = j->level->tile_columns;
    float *target = (float *)(uintptr_t)j->shared_b + index * tile * p->k;
    pack_b(j, target, operand_base(j, &p->b, 0), index, 0, p->k);
}

// Below this many multiply-adds a job is not worth handing over.
static const int64_t small_work = 200000;

static void run_pieces(const job *j, int64_t count, martlet_task task, int is_small) {
    if (is_small) {
        for (int64_t i = 0; i < count; i++) task((void *)(uintptr_t)j, i, 0);
    } else {
        martlet_pool_run(j->context->pool, count, task, (void *)(uintptr_t)j);
    }
}

static int64_t batch_count(const martlet_product *p) {
    int64_t count = 1;
    for (int32_t axis = 0; axis < p->batchRank; axis++) count *= p->batchExtents[axis];
    return count;
}

void martlet_product_plan(martlet_product *p, int32_t permutes) {
    const martlet_level_functions *level = martlet_level_table(p->level);
    const int32_t tile = level->tile_columns;
    const int64_t batches = batch_count(p);
    const int permuted = p->mask && (permutes || martlet_mask_column_order(p->mask));
    const int64_t depth_blocks = divide_up(p->k, 320);
    p->depthBlock = depth_blocks ? divide_up(p->k, depth_blocks) : 1;
    const int64_t row_blocks = divide_up(p->m, 512);
    p->rowBlock = row_blocks ? divide_up(p->m, row_blocks) : 1;
    const int64_t all_columns = round_up(p->n > 0 ? p->n : 1, tile);
    p->columnBlock = minimum(256 / tile * tile, all_columns);
    // Enough blocks to share out evenly.
    while (p->columnBlock > tile && batches * row_blocks * divide_up(p->n, p->columnBlock) < 8) {
        p->columnBlock = round_up(p->columnBlock / 2, tile);
    }
    p->inTwoPasses = permuted && p->role != MARTLET_WEIGHT_GRADIENT;
    if (permuted && p->role == MARTLET_WEIGHT_GRADIENT) {
        // The epilogue wants whole rows.
        p->columnBlock = all_columns;
        const int64_t fitting = (1 << 18) / all_columns, most = 4 * level->tile_rows;
        p->rowBlock = minimum(p->m, fitting < level->tile_rows ? level->tile_rows : fitting < most ? fitting : most);
    }
    const int64_t blocks_of_rows = p->rowBlock ? divide_up(p->m, p->rowBlock) : 0;
    p->sharesA = batches == 1 && divide_up(p->n, p->columnBlock) > 1;
    p->sharesB = batches == 1 && blocks_of_rows > 1;
    p->sharedBytes = (p->sharesA ? round_up(p->m * p->k, 16) * 4 : 0) +
                     (p->sharesB ? all_columns * p->k * 4 : 0) + (p->inTwoPasses ? round_up(p->m * p->n, 16) * 4 : 0);
    const int64_t wide = round_up(p->columnBlock, tile);
    int64_t floats = round_up(p->rowBlock * wide, 16);
    if (!p->sharesA) floats += round_up(p->rowBlock * p->depthBlock, 16);
    if (!p->sharesB) floats += round_up(wide * p->depthBlock, 16);
    p->workBytes = floats * 4 + (permuted ? round_up(p->n * 4, 64) : 0) +
                   (int64_t)p->epilogue->slotCount * p->epilogue->slotBytes;
}

void martlet_product_run(const martlet_product *p, const martlet_context *context, int64_t *counts) {
    const int64_t batches = batch_count(p);
    if (p->m == 0 || p->n == 0 || batches == 0) return;
    job j = {.p = p, .context = context, .level = martlet_level_table(p->level), .counts = counts};
    if (p->mask && p->inputDegrees >= 0) {
        martlet_mask_set_degrees(
            p->mask, (const int32_t *)(void *)context->values[p->inputDegrees],
            (const int32_t *)(void *)context->values[p->outputDegrees]);
    }
    if (p->mask) {
        j.inner_order = martlet_mask_inner_order(p->mask);
        j.column_order = martlet_mask_column_order(p->mask);
        j.row_order = martlet_mask_row_order(p->mask);
    }
    j.row_blocks = divide_up(p->m, p->rowBlock);
    j.column_blocks = divide_up(p->n, p->columnBlock);
    j.depth_blocks = divide_up(p->k, p->depthBlock);
    float *shared = (float *)(void *)context->shared;
    if (p->sharesA) {
        j.shared_a = shared;
        shared += round_up(p->m * p->k, 16);
    }
    if (p->sharesB) {
        j.shared_b = shared;
        shared += round_up(p->n, j.level->tile_columns) * p->k;
    }
    j.raw = shared;
    const int is_small = batches * p->m * p->n * p->k < small_work;
    if (p->sharesA) run_pieces(&j, j.row_blocks * j.depth_blocks, pack_shared_a, is_small);
    if (p->sharesB) run_pieces(&j, divide_up(p->n, j.level->tile_columns), pack_shared_b, is_small);
    run_pieces(&j, batches * j.row_blocks * j.column_blocks, run_block, is_small);
    if (p->inTwoPasses && j.column_order) run_pieces(&j, p->m, run_row, is_small);
}
