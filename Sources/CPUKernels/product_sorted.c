// Products masked by degrees that come in any order: forward and input gradient.
//
// The inner axis and the columns are packed in the order of their degrees, in which the mask is a staircase. Where all of b stays
// in a cache, blocks of rows are multiplied and put back in order one by one (product.c). Otherwise the product of the sorted
// operands is kept whole, and a second pass puts each row's columns back in their own order and runs the epilogue. An operand is
// read along its memory: lines that are contiguous along the sorted axis are gathered whole, while they are in the first-level
// cache; the others are read once in their own order and each element is stored where it stands.
#include "product.h"

void martlet_set_inner_rank(product_job *j, int32_t *rank) {
    if (!j->inner_order) return;
    for (int64_t k = 0; k < j->p->k; k++) rank[j->inner_order[k]] = (int32_t)k;
    j->inner_rank = rank;
}

void martlet_pack_sorted_rows(
    const product_job *j, float *target, const float *base, int64_t first, int64_t rows, int64_t start, int64_t depth,
    int64_t from, int64_t to, float *lines) {
    const martlet_product *p = j->p;
    const int64_t line = p->a.strides[p->batchRank], inner = p->a.strides[p->batchRank + 1];
    const int64_t pitch = line_pitch(p->depthBlock);
    for (int64_t i = 0; i < row_panel_count(rows, j->isa->tile_rows); i++) {
        const row_panel rp = panel_of_rows(rows, j->isa->tile_rows, i);
        const float *source = base + (first + rp.first) * line;
        float *panel = target + rp.first * depth + (from - start) * rp.height;
        if (!j->inner_order) {
            j->isa->pack(panel, source + from * inner, to - from, inner, rp.height, line, rp.height);
            continue;
        }
        for (int32_t r = 0; r < rp.height; r++) {
            martlet_gather(lines + r * pitch, source + r * line, j->inner_order, inner, from, to);
        }
        j->isa->pack(panel, lines, to - from, 1, rp.height, pitch, rp.height);
    }
}

// One panel of rows of a: sorted and packed, chunk after chunk.
static void pack_rows(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    float *lines = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    const row_panel rp = panel_of_rows(p->m, j->isa->tile_rows, index);
    const float *base = martlet_product_base(j, &p->a, j->batch);
    for (int64_t start = 0; start < p->k; start += p->depthBlock) {
        const int64_t depth = minimum(p->depthBlock, p->k - start);
        float *target = j->shared_a + p->m * start + rp.first * depth;
        martlet_pack_sorted_rows(j, target, base, rp.first, rp.height, start, depth, start, start + depth, lines);
    }
}

// Lines [line, end) of b for the next `tiles` tiles to fetch, unless b is likely to be in a cache.
static fetching fetch_lines(
    const product_job *j, const int32_t *order, int64_t line, int64_t end, int64_t length, int64_t stride, int64_t tiles) {
    fetching f = {0};
    if (j->p->k * j->p->n <= cached_elements || line >= end) return f;
    const float *base = martlet_product_base(j, &j->p->b, j->batch);
    f = (fetching){(const char *)(order ? base : base + line * stride), order ? order + line : NULL, end - line, stride * 4,
                   divide_up(length, 16), 64};
    martlet_fetch_within(&f, tiles);
    return f;
}

// Rows of a times some halves of one packed panel over the inner range [from, to) of the chunk that begins at `start`.
static int64_t run_tiles(
    const product_job *j, const float *b, int64_t column, int64_t start, int64_t from, int64_t to, martlet_halves halves,
    int64_t first_row, int64_t last_row, int accumulate, fetching *ahead) {
    const martlet_product *p = j->p;
    const int32_t tile = j->isa->tile_columns, width = panel_width(j, column);
    const tile_span span = span_of(j, column, halves);
    const int64_t depth = minimum(p->depthBlock, p->k - start), stride = round_up(p->n, tile);
    const row_panels panels = deal_rows(p->m, j->isa->tile_rows);
    int64_t executed = 0;
    martlet_tile t = {.k = to - from, .a_row = 1, .b = b + span.first, .b_step = width, .stride = stride,
                      .columns = span.width, .live = span.width, .accumulate = accumulate ? TILE_ADDS : TILE_STORES};
    for (int64_t i = first_row; i < last_row; i++) {
        const row_panel rp = panel_at(panels, i);
        t.a = j->shared_a + p->m * start + rp.first * depth + (from - start) * rp.height;
        t.a_step = t.rows = rp.height;
        t.c = j->raw + rp.first * stride + column + span.first;
        t.ahead_count = 0;
        martlet_fetch_with(ahead, &t);
        j->isa->tile(&t);
        executed += rp.height * span.live * (to - from);
    }
    return executed;
}

static void clear_columns(const product_job *j, int64_t column, int64_t columns, int64_t first_row, int64_t last_row) {
    const int64_t stride = round_up(j->p->n, j->isa->tile_columns);
    martlet_clear_columns(j->raw + first_row * stride + column, stride, last_row - first_row, columns);
}

// A panel of columns, packed over the whole inner axis in the order of the mask; dead elements of its live ranges are zero.
static void pack_columns(const product_job *j, float *packed, int64_t panel) {
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, column = panel * tile, live = minimum(tile, p->n - column);
    const int64_t line = p->b.strides[p->batchRank + 1];
    const int32_t width = panel_width(j, column);
    const float *base = martlet_product_base(j, &p->b, j->batch);
    const float *lines[maximum_tile_columns];
    for (int64_t c = 0; c < live; c++) lines[c] = base + in_order(j->column_order, column + c) * line;
    j->isa->pack_in_order(packed, lines, j->inner_rank, p->k, (int32_t)live, line, width);
    martlet_mask_clear_panel(p->mask, packed, panel, 0, p->k, width);
}

// Some panels of columns of a b whose columns are contiguous along the inner axis (the weights of a forward product).
static void run_columns(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const martlet_mask *mask = p->mask;
    const int64_t tile = j->isa->tile_columns, panels = divide_up(p->n, tile), together = p->columnBlock / tile;
    const int64_t row_panels = row_panel_count(p->m, j->isa->tile_rows);
    // The longest columns come first.
    const int32_t threads = martlet_pool_threads(j->context->pool);
    const int64_t pieces = divide_up(panels, together);
    const int64_t first = (pieces - 1 - martlet_dealt_in_turn(pieces, threads, index)) * together;
    const int64_t last = minimum(first + together, panels);
    float *packed = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    for (int64_t panel = first; panel < last; panel++) {
        if (!martlet_stores_first(j, panel)) clear_columns(j, panel * tile, tile, 0, p->m);
        if (mask->panels[panel] < mask->panels[panel + 1]) pack_columns(j, packed + (panel - first) * tile * p->k, panel);
    }
    // This worker's next panels, if pieces take equally long.
    const int64_t after = minimum(index + 1, pieces - 1);
    const int64_t next = (pieces - 1 - martlet_dealt_in_turn(pieces, threads, after)) * together;
    int64_t tiles = 0;
    for (int64_t panel = first; panel < last; panel++) {
        const int32_t low = mask->panels[panel], high = mask->panels[panel + 1];
        if (low == high) continue;
        tiles += divide_up(mask->intervals[high - 1].end - mask->intervals[low].start, p->depthBlock) * row_panels;
    }
    fetching ahead = fetch_lines(
        j, j->column_order, next * tile, minimum((next + together) * tile, p->n), p->k,
        p->b.strides[p->batchRank + 1], tiles);
    int64_t executed = 0;
    // A chunk of a is read once for all of these panels.
    for (int64_t start = 0; start < p->k; start += p->depthBlock) {
        for (int64_t panel = first; panel < last; panel++) {
            const int64_t column = panel * tile;
            const int32_t width = panel_width(j, column);
            for (int32_t v = mask->panels[panel]; v < mask->panels[panel + 1];) {
                const martlet_interval run = martlet_next_run(mask, &v, mask->panels[panel + 1], 1);
                const int64_t from = maximum(run.start, start), to = minimum(run.end, start + p->depthBlock);
                if (from >= to) continue;
                const float *b = packed + (panel - first) * tile * p->k + from * width;
                const int adds = from > mask->intervals[mask->panels[panel]].start || !martlet_stores_first(j, panel);
                executed += run_tiles(j, b, column, start, from, to, run.halves, 0, row_panels, adds, &ahead);
            }
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

// Rows of a b whose rows are contiguous (the weights of an input gradient), gathered whole and packed into all panels of this
// chunk.
static void pack_chunk(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, inner = p->b.strides[p->batchRank], stride = p->b.strides[p->batchRank + 1];
    const float *base = martlet_product_base(j, &p->b, j->batch);
    const int64_t first = index * rows_of_a_piece, end = minimum(j->depth, first + rows_of_a_piece);
    const int64_t pitch = line_pitch(p->n);
    float *lines = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    int64_t lowest = p->n, highest = 0;
    for (int64_t k = first; k < end; k++) {
        int64_t low, high;
        live_columns(j, j->start + k, &low, &high);
        const float *row = base + in_order(j->inner_order, j->start + k) * inner;
        if (k + 1 < end) {
            martlet_fetch_line(base + in_order(j->inner_order, j->start + k + 1) * inner, j->column_order, stride, p->n);
        }
        float *line = lines + (k - first) * pitch;
        // What is dead in this row is zero as far as a panel is live in one of the others.
        if (low < high) {
            lowest = minimum(lowest, low);
            highest = maximum(highest, high);
        }
        memset(line, 0, (size_t)low * sizeof(float));
        martlet_gather(line + low, row, j->column_order, stride, low, maximum(low, high));
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

static void pack_panel(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const product_job *j = argument;
    if (j->p->mask->panels[index] == j->p->mask->panels[index + 1]) return;
    pack_columns(j, j->shared_b + index * j->isa->tile_columns * j->p->k, index);
}

void martlet_pack_sorted_b(product_job *j) {
    const martlet_product *p = j->p;
    if (p->packedBIsCurrent) return;
    if (p->b.strides[p->batchRank] == 1) {
        martlet_product_pieces(j, divide_up(p->n, j->isa->tile_columns), pack_panel);
        return;
    }
    j->start = 0;
    j->depth = j->panel_depth = p->k;
    martlet_product_pieces(j, divide_up(p->k, rows_of_a_piece), pack_chunk);
}

// A few panels of this chunk, for some of the rows of a.
static void run_chunk(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const martlet_mask *mask = p->mask;
    const int64_t tile = j->isa->tile_columns, panels = divide_up(p->n, tile);
    const int64_t row_panels = row_panel_count(p->m, j->isa->tile_rows);
    const int64_t first_row = index % j->row_blocks * p->rowBlock, last_row = minimum(first_row + p->rowBlock, row_panels);
    const int64_t first_panel = index / j->row_blocks * panels_of_a_piece;
    // This piece's share of the next chunk.
    const int64_t pieces = divide_up(panels, panels_of_a_piece) * j->row_blocks, after = j->start + j->depth;
    const int64_t rows = minimum(p->depthBlock, p->k - after);
    fetching ahead = fetch_lines(
        j, j->inner_order, after + rows * index / pieces, after + rows * (index + 1) / pieces, p->n,
        p->b.strides[p->batchRank], panels_of_a_piece * (last_row - first_row));
    int64_t executed = 0;
    for (int64_t panel = first_panel; panel < minimum(first_panel + panels_of_a_piece, panels); panel++) {
        const int64_t column = panel * tile;
        const int32_t first = mask->panels[panel], last = mask->panels[panel + 1], width = panel_width(j, column);
        const int stores = martlet_stores_first(j, panel);
        if (!stores && j->start == 0) {
            const row_panel low = panel_of_rows(p->m, j->isa->tile_rows, first_row);
            const row_panel high = panel_of_rows(p->m, j->isa->tile_rows, last_row - 1);
            clear_columns(j, column, tile, low.first, high.first + high.height);
        }
        // Dead elements were packed as zeros.
        for (int32_t v = first; v < last;) {
            const martlet_interval run = martlet_next_run(mask, &v, last, 1);
            const int64_t from = maximum(run.start, j->start), to = minimum(run.end, j->start + j->depth);
            if (from >= to) continue;
            const float *b = j->shared_b + panel * tile * p->depthBlock + (from - j->start) * width;
            const int adds = !stores || from > mask->intervals[first].start;
            executed += run_tiles(j, b, column, j->start, from, to, run.halves, first_row, last_row, adds, &ahead);
        }
    }
    j->counts[8 * worker] += executed;
}

enum { rows_of_a_finish = 32 };

void martlet_finish_sorted(
    const product_job *j, int64_t batch, const float *block, int64_t stride, int64_t m0, int64_t rows, char *work) {
    const martlet_product *p = j->p;
    const int64_t together = martlet_rows_in_order(p);
    char *rest = work + round_up(together * p->n * 4, 64);
    if (!j->column_order) {
        martlet_product_epilogue(j, batch, block, stride, m0, rows, 0, p->n, rest);
        return;
    }
    float *lines = (float *)(void *)work;
    for (int64_t row = 0; row < rows; row += together) {
        const int64_t count = minimum(together, rows - row);
        for (int64_t r = 0; r < count; r++) {
            const float *sorted = block + (row + r) * stride;
            for (int64_t n = 0; n < p->n; n++) lines[r * p->n + j->column_order[n]] = sorted[n];
        }
        martlet_product_epilogue(j, batch, lines, p->n, m0 + row, count, 0, p->n, rest);
    }
}

// The second pass: some rows of the product.
static void finish_rows(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const int64_t stride = round_up(j->p->n, j->isa->tile_columns), row = index * rows_of_a_finish;
    martlet_finish_sorted(
        j, j->batch, j->raw + row * stride, stride, row, minimum(rows_of_a_finish, j->p->m - row),
        j->context->work + worker * j->context->workBytes);
}

int64_t martlet_sorted_work_bytes(const martlet_product *p) {
    const int64_t lines = martlet_isa_table(p->isa)->tile_rows * line_pitch(p->depthBlock);
    return maximum(4 * maximum(lines, rows_of_a_piece * line_pitch(p->n)), martlet_finish_bytes(p));
}

void martlet_two_pass_plan(martlet_product *p, int32_t threads) {
    const martlet_isa_functions *isa = martlet_isa_table(p->isa);
    const int64_t tile = isa->tile_columns, wide = round_up(p->n, tile);
    const int64_t row_panels = row_panel_count(p->m, isa->tile_rows);
    // Panels of rows that a piece of the chunked form takes.
    p->rowBlock = row_panels > 0 ? divide_up(row_panels, divide_up(row_panels, 32)) : 1;
    // Panels of columns that are packed together and take a chunk of a in turn.
    const int64_t panels = wide / tile;
    p->columnBlock =
        tile * maximum(1, minimum(minimum(panels / (4 * threads), 8), (1 << 18) / maximum(1, tile * p->k)));
    const int64_t packs_columns = p->b.strides[p->batchRank] != 1;
    const int64_t chunk = packs_columns ? wide * p->depthBlock : 0;
    p->sharedBytes = 4 * (round_up(p->m * p->k, 16) + p->m * wide + chunk + round_up(p->k, 16));
    p->workBytes = maximum(martlet_sorted_work_bytes(p), 4 * p->columnBlock * p->k);
}

static void run_batch(product_job *j) {
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, row_panels = row_panel_count(p->m, j->isa->tile_rows);
    martlet_product_pieces(j, row_panels, pack_rows);
    if (p->k == 0) {
        clear_columns(j, 0, round_up(p->n, tile), 0, p->m);
    } else if (p->b.strides[p->batchRank] == 1) {
        martlet_product_pieces(j, divide_up(divide_up(p->n, tile), p->columnBlock / tile), run_columns);
    } else {
        const int64_t pieces = divide_up(divide_up(p->n, tile), panels_of_a_piece);
        j->panel_depth = p->depthBlock;
        for (j->start = 0; j->start < p->k; j->start += p->depthBlock) {
            j->depth = minimum(p->depthBlock, p->k - j->start);
            martlet_product_pieces(j, divide_up(j->depth, rows_of_a_piece), pack_chunk);
            martlet_product_pieces(j, pieces * j->row_blocks, run_chunk);
        }
    }
    martlet_product_pieces(j, divide_up(p->m, rows_of_a_finish), finish_rows);
}

void martlet_two_pass_run(product_job *j, int64_t batches) {
    const martlet_product *p = j->p;
    j->shared_a = (float *)(void *)j->context->shared;
    j->raw = j->shared_a + round_up(p->m * p->k, 16);
    j->shared_b = j->raw + p->m * round_up(p->n, j->isa->tile_columns);
    const int64_t chunk = p->b.strides[p->batchRank] != 1 ? round_up(p->n, j->isa->tile_columns) * p->depthBlock : 0;
    martlet_set_inner_rank(j, (int32_t *)(void *)(j->shared_b + chunk));
    j->row_blocks = divide_up(row_panel_count(p->m, j->isa->tile_rows), p->rowBlock);
    for (j->batch = 0; j->batch < batches; j->batch++) run_batch(j);
}
