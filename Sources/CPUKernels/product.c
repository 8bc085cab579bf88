// Blocked products: panels are packed where they must be, register tiles walk the live part of the inner axis, and the
// epilogue runs on a block while it is in cache.
//
// An element's sum runs over the inner axis in order, in chunks of `depthBlock`, whatever the blocks of rows and columns
// are; so results do not depend on threads.
#include "product.h"

const float *martlet_product_base(const product_job *j, const martlet_operand *operand, int64_t batch) {
    const martlet_product *p = j->p;
    int64_t offset = operand->offset;
    for (int32_t axis = p->batchRank - 1; axis >= 0; axis--) {
        offset += batch % p->batchExtents[axis] * operand->strides[axis];
        batch /= p->batchExtents[axis];
    }
    return (const float *)(void *)j->context->values[operand->source] + offset;
}

void martlet_product_epilogue(
    const product_job *j, int64_t batch, const float *block, int64_t stride, int64_t m0, int64_t rows, int64_t n0,
    int64_t columns, char *work) {
    const martlet_product *p = j->p;
    martlet_block blocks[2][MARTLET_MAXIMUM_PORTS];
    for (int64_t row = 0; row < rows;) {
        // Permuted rows go one by one.
        const int64_t m = in_order(j->row_order, m0 + row);
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

static float *output_line(const product_job *j, int64_t batch, int64_t m) {
    const martlet_operand *output = &j->p->outputs[0];
    return (float *)(uintptr_t)martlet_product_base(j, output, batch) + m * output->strides[j->p->batchRank];
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

// The epilogue of a block of a masked weight gradient whose columns had to be sorted. Rows are whole; what lies beyond a
// row's live prefix is zero.
static void finish_sorted_gradient(
    const product_job *j, int64_t batch, const float *block, int64_t stride, int64_t m0, int64_t rows, char *work) {
    const martlet_product *p = j->p;
    // Permuted rows go one by one, others together.
    const int64_t step = p->directC || j->row_order ? 1 : martlet_rows_in_order(p);
    for (int64_t row = 0; row < rows; row += step) {
        const int64_t count = minimum(step, rows - row);
        float *lines = (float *)(void *)work;
        memset(lines, 0, (size_t)(count * p->n) * sizeof(float));
        for (int64_t r = 0; r < count; r++) {
            const float *sorted = block + (row + r) * stride;
            float *line = lines + r * p->n;
            for (int64_t n = 0; n < p->mask->extents[m0 + row + r]; n++) line[j->column_order[n]] = sorted[n];
        }
        if (p->directC) {
            const int64_t m = in_order(j->row_order, m0 + row);
            write_line(j, output_line(j, batch, m), lines, p->n);
            continue;
        }
        // Columns that are dead in all of these rows are left out at both ends where they stay zero; the last row has most live
        // ones.
        int64_t low = p->deadStayZero ? p->n : 0, high = p->deadStayZero ? 0 : p->n;
        for (int64_t n = 0; p->deadStayZero && n < p->mask->extents[m0 + row + count - 1]; n++) {
            low = minimum(low, j->column_order[n]);
            high = maximum(high, j->column_order[n] + 1);
        }
        if (low >= high) continue;
        martlet_product_epilogue(
            j, batch, lines + low, p->n, m0 + row, count, low, high - low,
            work + round_up(martlet_rows_in_order(p) * p->n * 4, 64));
    }
    if (p->directC) martlet_stream_end();
}

// The same for one whose columns are in order: dead tiles are made zero, or skipped where they stay zero anyway. Of what was
// written to the output itself only the dead elements are made zero.
static void finish_gradient(
    const product_job *j, int64_t batch, float *block, int64_t stride, int64_t m0, int64_t rows, int64_t n0,
    int64_t columns, char *work) {
    const martlet_product *p = j->p;
    const int32_t tile = j->isa->tile_columns;
    const int direct = stores_directly(p);
    const int64_t count = row_panel_count(rows, j->isa->tile_rows);
    for (int64_t i = 0; i < count; i++) {
        const row_panel rp = panel_of_rows(rows, j->isa->tile_rows, i);
        const int64_t m = m0 + rp.first;
        float *lines = block + rp.first * stride;
        // Neighbouring tiles that want the same are finished together.
        int64_t first = 0;
        for (int64_t column = 0; column < columns; column += tile) {
            const int64_t end = minimum(column + tile, columns);
            const int state = martlet_mask_tile(p->mask, m, m + rp.height, n0 + column, n0 + end);
            const int is_done = direct ? state > 0 : state == 0 && p->deadStayZero;
            if (state == 1 || (state == 0 && !direct && !is_done)) {
                martlet_mask_clear_tile(p->mask, lines + column, stride, m, m + rp.height, n0 + column, n0 + end);
            }
            const int64_t last = is_done ? column : end;
            if ((is_done || end == columns) && last > first && direct) {
                for (int64_t r = 0; r < rp.height; r++) write_line(j, lines + r * stride + first, NULL, last - first);
            } else if ((is_done || end == columns) && last > first) {
                martlet_product_epilogue(
                    j, batch, lines + first, stride, m, rp.height, n0 + first, last - first, work);
            }
            if (is_done) first = end;
        }
    }
    if (direct) martlet_stream_end();
}

// A block of the product and where its operands are found.
typedef struct {
    const product_job *j;
    int64_t batch, m0, rows, n0, columns;
    const float *base_a, *base_b;
    // Panels of a for the inner range [start, start + depth), unless a is read where it lies.
    const float *packed_a;
    int64_t start, depth;
    float *packed_b;
    float *sums;
    int64_t stride;
    int64_t executed;
    // What the epilogue will read or write row by row: fetched into the second-level cache while the last tiles run.
    int32_t ahead_count;
    martlet_block ahead[8];
    // The next panel of b, and what the next chunk reads of a.
    fetching next_b, next_a;
} block_job;

// Collects the values that the epilogue reaches for along rows, each once.
static void look_ahead(block_job *x) {
    const product_job *j = x->j;
    const martlet_product *p = j->p;
    if (j->row_order || j->column_order) return;
    int32_t seen[8];
    for (int32_t side = 0; side < 2; side++) {
        const int32_t count = side ? p->epilogue->outputCount : p->epilogue->inputCount;
        for (int32_t i = side ? 0 : 1; i < count && x->ahead_count < 8; i++) {
            const martlet_operand *operand = side ? &p->outputs[i] : &p->inputs[i];
            const int64_t rows = operand->strides[p->batchRank], columns = operand->strides[p->batchRank + 1];
            int known = operand->source < 0 || operand->element != MARTLET_FLOAT32 || rows == 0 || columns != 1;
            for (int32_t k = 0; k < x->ahead_count; k++) known |= seen[k] == operand->source;
            if (known) continue;
            seen[x->ahead_count] = operand->source;
            const float *base = martlet_product_base(j, operand, x->batch) + x->m0 * rows;
            x->ahead[x->ahead_count++] = (martlet_block){(char *)(uintptr_t)base, 0, rows, 1};
        }
    }
}

// The lines of memory that the epilogue will touch for a tile.
static void fetch_for_epilogue(
    const block_job *x, int64_t row, int64_t rows, int64_t column, int64_t columns, martlet_tile *tile) {
    for (int32_t i = 0; i < x->ahead_count; i++) {
        const char *first = x->ahead[i].base + (row * x->ahead[i].rowStride + column) * 4;
        for (int64_t byte = 0; byte < columns * 4 && tile->ahead_count < maximum_lines; byte += 64) {
            tile->ahead[tile->ahead_count++] = (martlet_lines){first + byte, x->ahead[i].rowStride * 4, rows};
        }
    }
}

// Rows of a times some halves of one panel of b over the inner range [from, to).
static void run_tiles(
    block_job *x, const float *b, int64_t b_step, int64_t column, int64_t from, int64_t to, martlet_halves halves,
    int accumulate) {
    const product_job *j = x->j;
    const martlet_product *p = j->p;
    const int64_t a_row = p->a.strides[p->batchRank], a_inner = p->a.strides[p->batchRank + 1];
    const int masks_result = p->mask && p->role == MARTLET_WEIGHT_GRADIENT;
    const row_panels panels = deal_rows(x->rows, j->isa->tile_rows);
    const tile_span span = span_of(j, column, halves);
    const int64_t first = column + span.first;
    martlet_tile t = {.k = to - from, .a_row = p->directA ? a_row : 1, .a_step = a_inner, .b = b + span.first, .b_step = b_step,
                      .stride = x->stride, .columns = span.width, .live = stores_directly(p) ? span.live : span.width,
                      .accumulate = accumulate};
    for (int64_t i = 0; i < panels.count; i++) {
        const row_panel rp = panel_at(panels, i);
        const int64_t m = x->m0 + rp.first;
        if (masks_result && !martlet_mask_tile(p->mask, m, m + rp.height, column, column + span.live)) continue;
        t.a = p->directA ? x->base_a + m * a_row + from * a_inner
                         : x->packed_a + rp.first * x->depth + (from - x->start) * rp.height;
        if (!p->directA) t.a_step = rp.height;
        t.rows = rp.height;
        t.c = x->sums + rp.first * x->stride + first - x->n0;
        t.ahead_count = 0;
        if (to == p->k) fetch_for_epilogue(x, rp.first, rp.height, first, span.live, &t);
        martlet_fetch_with(&x->next_b, &t);
        martlet_fetch_with(&x->next_a, &t);
        j->isa->tile(&t);
        x->executed += rp.height * span.live * (to - from);
    }
}

// What the tiles of this panel fetch of b: inner steps [from, to) of panel `next`, as they will be read or packed. Columns that are
// contiguous along the inner axis are fetched while they are packed.
static void look_for_b(block_job *x, int64_t next, int64_t from, int64_t to, int64_t tiles) {
    const product_job *j = x->j;
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, inner = p->b.strides[p->batchRank];
    x->next_b = (fetching){0};
    if (from >= to) return;
    if (p->sharesB) {
        const int32_t width = panel_width(j, next * tile);
        const float *first = j->shared_b + next * tile * p->k + from * width;
        x->next_b = (fetching){(const char *)first, NULL, 1, 0, divide_up((to - from) * width, 16), 64};
    } else if (p->b.strides[p->batchRank + 1] == 1) {
        const float *first = x->base_b + from * inner + next * tile;
        // Where lines of memory are not aligned with the panel, it begins in one and ends in another.
        const int64_t lines = divide_up(tile, 16) + (inner % 16 != 0);
        x->next_b = (fetching){(const char *)first, NULL, lines, 64, to - from, inner * 4};
    }
    martlet_fetch_within(&x->next_b, tiles);
}

// What the tiles of this chunk fetch of a for the next one.
static void look_for_a(block_job *x, int64_t tiles) {
    const martlet_product *p = x->j->p;
    const int64_t start = x->start + x->depth, depth = minimum(p->depthBlock, p->k - start);
    const int64_t a_row = p->a.strides[p->batchRank], a_inner = p->a.strides[p->batchRank + 1];
    x->next_a = (fetching){0};
    if (depth <= 0) return;
    if (p->sharesA) {
        const float *first = x->j->shared_a + p->m * start + x->m0 * depth;
        x->next_a = (fetching){(const char *)first, NULL, 1, 0, divide_up(x->rows * depth, 16), 64};
    } else if (p->directA) {
        const float *first = x->base_a + x->m0 * a_row + start * a_inner;
        x->next_a = a_inner == 1
            ? (fetching){(const char *)first, NULL, x->rows, a_row * 4, divide_up(depth, 16), 64}
            : (fetching){(const char *)first, NULL, divide_up(x->rows, 16), 64, depth, a_inner * 4};
    }
    martlet_fetch_within(&x->next_a, tiles);
}

// Some halves of one panel of columns over the inner range [from, to); `full` when no element of b in them is dead.
static void run_panel(
    block_job *x, int64_t panel, int64_t from, int64_t to, martlet_halves halves, int full, int accumulate) {
    const product_job *j = x->j;
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, column = panel * tile, inner = p->b.strides[p->batchRank];
    const int32_t width = panel_width(j, column);
    const tile_span span = span_of(j, column, halves);
    if (p->sharesB) {
        run_tiles(x, j->shared_b + panel * tile * p->k + from * width, width, column, from, to, halves, accumulate);
    } else if (p->directB && full && span.live == span.width) {
        run_tiles(x, x->base_b + from * inner + column, inner, column, from, to, halves, accumulate);
    } else {
        martlet_pack_live(j, x->packed_b, x->base_b, panel, from, to);
        run_tiles(x, x->packed_b, width, column, from, to, halves, accumulate);
    }
}

enum { thin_depth = 32 };

// All panels of a block with hardly any rows, for one chunk of the inner axis. Time goes into reading b, so that is read
// nearly along its rows: a few inner steps of every panel at a time. Sums are those of the undivided chunk.
static void run_thin(block_job *x, int64_t first, int64_t panels, float *chunk_sums) {
    float *const sums = x->sums;
    x->sums = chunk_sums;
    const int64_t end = x->start + x->depth;
    for (int64_t from = x->start; from < end; from += thin_depth) {
        for (int64_t panel = first; panel < first + panels; panel++) {
            run_panel(
                x, panel, from, minimum(from + thin_depth, end), BOTH_HALVES, 1,
                from > x->start ? TILE_CONTINUES : TILE_STORES);
        }
    }
    x->sums = sums;
    for (int64_t i = 0; i < x->rows * x->stride; i++) sums[i] = x->start > 0 ? sums[i] + chunk_sums[i] : chunk_sums[i];
}

// The inner range that any of the panels [first, last) reads.
static void live_range(const product_job *j, int64_t first, int64_t last, int64_t *low, int64_t *high) {
    const martlet_mask *mask = j->p->mask;
    *low = j->p->k;
    *high = 0;
    for (int64_t panel = first; panel < last; panel++) {
        if (mask->panels[panel] == mask->panels[panel + 1]) continue;
        *low = minimum(*low, mask->intervals[mask->panels[panel]].start);
        *high = maximum(*high, mask->intervals[mask->panels[panel + 1] - 1].end);
    }
}

// Which block the piece `index` of a batch element stands for. With rows enough for all, a worker's share is of neighbouring
// rows, as in the groups before and after, whose results are in its cache; within it, and where blocks of unequal length are
// dealt in turn, the longest come first, so that no worker is left with one at the end. Later blocks of a staircase are longer,
// but its earlier columns are in a gradient.
static void place_of(const product_job *j, int64_t index, int64_t *row_block, int64_t *column_block) {
    const int32_t threads = martlet_pool_threads(j->context->pool);
    const int64_t rows = j->row_blocks, columns = j->column_blocks;
    int64_t first = 0, own = rows;
    if (rows < threads || (j->p->mask && j->p->role == MARTLET_WEIGHT_GRADIENT)) {
        index = martlet_dealt_in_turn(rows * columns, threads, index);
    } else {
        int32_t worker = 0;
        while (index >= martlet_share_start(rows, threads, worker + 1) * columns) worker++;
        first = martlet_share_start(rows, threads, worker);
        own = martlet_share_start(rows, threads, worker + 1) - first;
        index -= first * columns;
    }
    *row_block = first + own - 1 - index % own;
    *column_block = j->p->role == MARTLET_FORWARD ? columns - 1 - index / own : index / own;
}

// The panel with which a block of columns begins; the longest are not the widest too.
static int64_t first_panel(const product_job *j, int64_t column_block) {
    const int64_t panels = divide_up(j->p->n, j->isa->tile_columns), blocks = j->column_blocks;
    return j->p->role == MARTLET_FORWARD ? martlet_share_start(panels, blocks, column_block)
                                         : panels - martlet_share_start(panels, blocks, blocks - column_block);
}

// One block of rows x columns of one batch element.
static void run_block(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const int32_t tile = j->isa->tile_columns;
    const int64_t blocks = j->row_blocks * j->column_blocks;
    int64_t row_block, column_block;
    place_of(j, index % blocks, &row_block, &column_block);
    const martlet_mask *mask = mask_of_b(p);
    block_job x = {.j = j, .batch = j->batch + index / blocks};
    x.m0 = row_block * p->rowBlock;
    x.rows = minimum(p->rowBlock, p->m - x.m0);
    const int64_t first = first_panel(j, column_block), panels = first_panel(j, column_block + 1) - first;
    x.n0 = first * tile;
    x.columns = minimum(panels * tile, p->n - x.n0);
    x.stride = panels * tile;
    x.base_a = martlet_product_base(j, &p->a, x.batch);
    x.base_b = martlet_product_base(j, &p->b, x.batch);

    char *work = j->context->work + worker * j->context->workBytes;
    x.sums = (float *)(void *)work;
    float *packed_a = x.sums + (stores_directly(p) ? 0 : p->rowBlock * round_up(p->columnBlock, tile));
    if (stores_directly(p)) {
        x.stride = p->outputs[0].strides[p->batchRank];
        x.sums = (float *)(uintptr_t)martlet_product_base(j, &p->outputs[0], x.batch) + x.m0 * x.stride + x.n0;
    }
    x.packed_b = packed_a + (p->sharesA || p->directA ? 0 : packed_a_floats(p));
    float *chunk_sums = x.packed_b + (p->sharesB ? 0 : tile * p->depthBlock);
    char *rest = (char *)(chunk_sums + (p->thin ? p->rowBlock * p->columnBlock : 0));

    if (p->ownsA && !j->has_packed[worker]) {
        for (int64_t start = 0; start < p->k; start += p->depthBlock) {
            martlet_pack_a(
                j, packed_a + p->m * start, x.base_a, 0, p->m, start, minimum(p->depthBlock, p->k - start));
        }
        j->has_packed[worker] = 1;
    }
    if (!stores_directly(p)) look_ahead(&x);
    int64_t low = 0, high = p->k;
    if (mask) live_range(j, first, first + panels, &low, &high);
    if (p->k == 0) memset(x.sums, 0, (size_t)(x.rows * x.stride) * sizeof(float));
    for (int64_t panel = first; mask && panel < first + panels; panel++) {
        if (!martlet_stores_first(j, panel)) martlet_clear_columns(x.sums + panel * tile - x.n0, x.stride, x.rows, tile);
    }
    for (x.start = 0; x.start < high; x.start += p->depthBlock) {
        x.depth = minimum(p->depthBlock, p->k - x.start);
        const int64_t end = x.start + x.depth;
        if (end <= low) continue;
        if (p->sharesA) {
            x.packed_a = j->shared_a + p->m * x.start + x.m0 * x.depth;
        } else if (p->ownsA) {
            x.packed_a = packed_a + p->m * x.start;
        } else if (j->inner_order) {
            martlet_pack_sorted_rows(
                j, packed_a, x.base_a, x.m0, x.rows, x.start, x.depth, maximum(x.start, low), minimum(end, high),
                (float *)(void *)rest);
            x.packed_a = packed_a;
        } else if (!p->directA) {
            martlet_pack_a(j, packed_a, x.base_a, x.m0, x.rows, x.start, x.depth);
            x.packed_a = packed_a;
        }
        if (p->thin) {
            run_thin(&x, first, panels, chunk_sums);
            continue;
        }
        const int64_t row_panels = row_panel_count(x.rows, j->isa->tile_rows);
        look_for_a(&x, panels * row_panels);
        for (int64_t panel = first; panel < first + panels; panel++) {
            // The next panel of this chunk, or the first of the next one.
            const int is_last = panel + 1 == first + panels;
            const int64_t next = is_last ? first : panel + 1;
            int64_t from = is_last ? end : x.start, to = is_last ? minimum(end + p->depthBlock, p->k) : end;
            if (mask && from < to) {
                int64_t first_live, last_live;
                live_range(j, next, next + 1, &first_live, &last_live);
                from = maximum(from, first_live);
                to = minimum(to, last_live);
            }
            look_for_b(&x, next, from, to, row_panels);
            if (!mask) {
                run_panel(&x, panel, x.start, end, BOTH_HALVES, 1, x.start > 0 ? TILE_ADDS : TILE_STORES);
                continue;
            }
            const int32_t first_interval = mask->panels[panel], last_interval = mask->panels[panel + 1];
            const int stores = martlet_stores_first(j, panel);
            for (int32_t v = first_interval; v < last_interval;) {
                const martlet_interval run = martlet_next_run(mask, &v, last_interval, !p->directB);
                const int64_t from = maximum(run.start, x.start), to = minimum(run.end, end);
                if (from >= to) continue;
                const int begins = stores && from == mask->intervals[first_interval].start;
                run_panel(&x, panel, from, to, run.halves, run.full, begins ? TILE_STORES : TILE_ADDS);
            }
        }
    }
    j->counts[8 * worker] += x.executed;
    if (p->permuted && mask) {
        martlet_finish_sorted(j, x.batch, x.sums, x.stride, x.m0, x.rows, rest);
    } else if (p->permuted && j->column_order) {
        finish_sorted_gradient(j, x.batch, x.sums, x.stride, x.m0, x.rows, rest);
    } else if (p->mask && !mask) {
        finish_gradient(j, x.batch, x.sums, x.stride, x.m0, x.rows, x.n0, x.columns, rest);
    } else if (!stores_directly(p)) {
        martlet_product_epilogue(j, x.batch, x.sums, x.stride, x.m0, x.rows, x.n0, x.columns, rest);
    }
}

void martlet_product_pieces(const product_job *j, int64_t count, martlet_task task) {
    const martlet_product *p = j->p;
    // Below this many multiply-adds a job is not worth handing over.
    if (martlet_product_batches(p) * p->m * p->n * p->k < 200000) {
        for (int64_t i = 0; i < count; i++) task((void *)(uintptr_t)j, i, 0);
    } else {
        martlet_pool_run(j->context->pool, count, task, (void *)(uintptr_t)j);
    }
}

void martlet_product_run(const martlet_product *p, const martlet_context *context, int64_t *counts) {
    const int64_t batches = martlet_product_batches(p);
    if (p->m == 0 || p->n == 0 || batches == 0) return;
    product_job j = {.p = p, .context = context, .isa = martlet_isa_table(p->isa), .counts = counts};
    if (p->mask) {
        if (p->inputDegrees >= 0) {
            martlet_mask_set_degrees(
                p->mask, (const int32_t *)(void *)context->values[p->inputDegrees],
                (const int32_t *)(void *)context->values[p->outputDegrees]);
        }
        j.inner_order = martlet_mask_inner_order(p->mask);
        j.column_order = martlet_mask_column_order(p->mask);
        j.row_order = martlet_mask_row_order(p->mask);
    }
    if (p->inTwoPasses) {
        martlet_two_pass_run(&j, batches);
        return;
    }
    int32_t has_packed[maximum_owners] = {0};
    j.has_packed = has_packed;
    j.row_blocks = divide_up(p->m, p->rowBlock);
    j.column_blocks = divide_up(p->n, p->columnBlock);
    j.shared_a = (float *)(void *)context->shared;
    float *const rank = j.shared_a + (p->sharesA ? round_up(p->m * p->k, 16) : 0);
    j.shared_b = p->keepsPackedB ? p->packedB : rank + (p->permuted ? round_up(p->k, 16) : 0);
    if (p->permuted) {
        martlet_set_inner_rank(&j, (int32_t *)(void *)rank);
        for (j.batch = 0; j.batch < batches; j.batch++) {
            if (p->role == MARTLET_WEIGHT_GRADIENT) martlet_pack_sorted_gradient(&j);
            else martlet_pack_sorted_b(&j);
            martlet_product_pieces(&j, j.row_blocks * j.column_blocks, run_block);
        }
        return;
    }
    martlet_pack_shared(&j);
    martlet_product_pieces(&j, batches * j.row_blocks * j.column_blocks, run_block);
}
