// Large products masked by degrees that come in any order: forward and input gradient. The product of the sorted operands is kept
// whole, and a second pass puts each row's columns back in their own order and runs the epilogue.
//
// All of a is sorted and packed first. A b whose columns are contiguous along the inner axis is packed by whoever multiplies it, some
// panels at a time; one whose rows are contiguous is packed for all workers, a chunk of the inner axis at a time.
#include "product_fetch.h"

// Lines [line, end) of b for the next `tiles` tiles to fetch, unless b is likely to be in a cache.
static fetching fetch_lines(
    const product_job *j, const int32_t *order, int64_t line, int64_t end, int64_t length, int64_t stride, int64_t tiles) {
    fetching f = {0};
    if (j->p->k * j->p->n <= cached_elements || line >= end) return f;
    const float *base = martlet_product_base(j, &j->p->b, j->batch);
    f = (fetching){(const char *)(order ? base : base + line * stride), order ? order + line : NULL, end - line, stride * 4,
                   divide_up(length, 16), 64};
    fetch_within(&f, tiles);
    return f;
}

// Panels of rows [first_row, last_row) while they meet panels of b.
typedef struct {
    const product_job *j;
    int64_t first_row, last_row;
    fetching ahead;
    int64_t executed;
} row_job;

// These rows times some halves of one packed panel over the inner range [from, to) of the chunk that begins at `start`.
static void run_tiles(
    row_job *x, const float *b, int64_t column, int64_t start, int64_t from, int64_t to, martlet_halves halves, int adds) {
    const product_job *j = x->j;
    const martlet_product *p = j->p;
    const int32_t tile = j->isa->tile_columns, width = panel_width(j, column);
    const tile_span span = span_of(j, column, halves);
    const int64_t depth = minimum(p->depthBlock, p->k - start), stride = round_up(p->n, tile);
    const row_panels panels = deal_rows(p->m, j->isa->tile_rows);
    martlet_tile t = {.k = to - from, .a_row = 1, .b = b + span.first, .b_step = width, .stride = stride,
                      .columns = span.width, .live = span.width, .accumulate = adds ? TILE_ADDS : TILE_STORES};
    for (int64_t i = x->first_row; i < x->last_row; i++) {
        const row_panel rp = panel_at(panels, i);
        t.a = j->shared_a + p->m * start + rp.first * depth + (from - start) * rp.height;
        t.a_step = t.rows = rp.height;
        t.c = j->raw + rp.first * stride + column + span.first;
        t.ahead_count = 0;
        fetch_with(&x->ahead, &t);
        j->isa->tile(&t);
        x->executed += rp.height * span.live * (to - from);
    }
}

// The live part of one panel in the chunk [start, start + depth). `packed` begins with the panel's inner step `held`; dead elements were
// packed as zeros.
static void run_panel(row_job *x, const float *packed, int64_t held, int64_t panel, int64_t start, int64_t depth) {
    const martlet_mask *mask = x->j->p->mask;
    const int64_t column = panel * x->j->isa->tile_columns;
    const int32_t first = mask->panels[panel], last = mask->panels[panel + 1], width = panel_width(x->j, column);
    const int stores = martlet_stores_first(x->j, panel);
    for (int32_t v = first; v < last;) {
        const martlet_interval run = martlet_next_run(mask, &v, last, 1);
        const int64_t from = maximum(run.start, start), to = minimum(run.end, start + depth);
        if (from >= to) continue;
        const int adds = !stores || from > mask->intervals[first].start;
        run_tiles(x, packed + (from - held) * width, column, start, from, to, run.halves, adds);
    }
}

static void clear_columns(const product_job *j, int64_t column, int64_t columns, int64_t first_row, int64_t last_row) {
    const int64_t stride = round_up(j->p->n, j->isa->tile_columns);
    martlet_clear_columns(j->raw + first_row * stride + column, stride, last_row - first_row, columns);
}

// Panels of columns that are packed and multiplied together: those of the `index`-th piece. The longest columns come first.
typedef struct {
    int64_t first, last;
} panel_range;

static panel_range panels_of_piece(const product_job *j, int64_t index) {
    const int32_t threads = martlet_pool_threads(j->context->pool);
    const int64_t tile = j->isa->tile_columns, panels = divide_up(j->p->n, tile), together = j->p->columnBlock / tile;
    const int64_t pieces = divide_up(panels, together);
    index = minimum(index, pieces - 1);
    const int64_t first = (pieces - 1 - martlet_dealt_in_turn(pieces, threads, index)) * together;
    return (panel_range){first, minimum(first + together, panels)};
}

// Tiles that these panels take, nearly.
static int64_t tiles_of(const product_job *j, panel_range panels, int64_t row_panels) {
    const martlet_mask *mask = j->p->mask;
    int64_t tiles = 0;
    for (int64_t panel = panels.first; panel < panels.last; panel++) {
        const int32_t low = mask->panels[panel], high = mask->panels[panel + 1];
        if (low == high) continue;
        tiles += divide_up(mask->intervals[high - 1].end - mask->intervals[low].start, j->p->depthBlock) * row_panels;
    }
    return tiles;
}

// Some panels of columns of a b whose columns are contiguous along the inner axis (the weights of a forward product).
static void run_columns(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, row_panels = row_panel_count(p->m, j->isa->tile_rows);
    const panel_range panels = panels_of_piece(j, index);
    float *packed = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    for (int64_t panel = panels.first; panel < panels.last; panel++) {
        if (!martlet_stores_first(j, panel)) clear_columns(j, panel * tile, tile, 0, p->m);
        if (p->mask->panels[panel] == p->mask->panels[panel + 1]) continue;
        martlet_pack_sorted_columns(j, packed + (panel - panels.first) * tile * p->k, panel);
    }
    // This worker's next panels, if pieces take equally long.
    const int64_t next = panels_of_piece(j, index + 1).first * tile;
    row_job x = {.j = j, .last_row = row_panels};
    x.ahead = fetch_lines(
        j, j->order.columns, next, minimum(next + p->columnBlock, p->n), p->k, p->b.strides[p->batchRank + 1],
        tiles_of(j, panels, row_panels));
    // A chunk of a is read once for all of these panels.
    for (int64_t start = 0; start < p->k; start += p->depthBlock) {
        for (int64_t panel = panels.first; panel < panels.last; panel++) {
            run_panel(&x, packed + (panel - panels.first) * tile * p->k, 0, panel, start, p->depthBlock);
        }
    }
    j->counts[8 * worker] += x.executed;
}

enum { panels_of_a_piece = 4 };

// A few panels of this chunk, for some of the rows of a.
static void run_chunk(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, panels = divide_up(p->n, tile);
    const int64_t row_panels = row_panel_count(p->m, j->isa->tile_rows);
    row_job x = {.j = j, .first_row = index % j->row_blocks * p->rowBlock};
    x.last_row = minimum(x.first_row + p->rowBlock, row_panels);
    const int64_t first_panel = index / j->row_blocks * panels_of_a_piece;
    // This piece's share of the next chunk.
    const int64_t pieces = divide_up(panels, panels_of_a_piece) * j->row_blocks, after = j->start + j->depth;
    const int64_t rows = minimum(p->depthBlock, p->k - after);
    x.ahead = fetch_lines(
        j, j->order.inner, after + rows * index / pieces, after + rows * (index + 1) / pieces, p->n,
        p->b.strides[p->batchRank], panels_of_a_piece * (x.last_row - x.first_row));
    for (int64_t panel = first_panel; panel < minimum(first_panel + panels_of_a_piece, panels); panel++) {
        if (j->start == 0 && !martlet_stores_first(j, panel)) {
            const row_panel low = panel_of_rows(p->m, j->isa->tile_rows, x.first_row);
            const row_panel high = panel_of_rows(p->m, j->isa->tile_rows, x.last_row - 1);
            clear_columns(j, panel * tile, tile, low.first, high.first + high.height);
        }
        run_panel(&x, j->shared_b + panel * tile * p->depthBlock, j->start, panel, j->start, j->depth);
    }
    j->counts[8 * worker] += x.executed;
}

enum { rows_of_a_finish = 32 };

// The second pass: some rows of the product.
static void finish_rows(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const int64_t stride = round_up(j->p->n, j->isa->tile_columns), row = index * rows_of_a_finish;
    const product_block block = {
        .j = j, .batch = j->batch, .m0 = row, .rows = minimum(rows_of_a_finish, j->p->m - row), .columns = j->p->n,
        .sums = j->raw + row * stride, .stride = stride, .work = j->context->work + worker * j->context->workBytes};
    martlet_finish_sorted(&block);
}

static void run_batch(product_job *j) {
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns;
    martlet_pack_sorted_a(j);
    if (p->k == 0) {
        clear_columns(j, 0, round_up(p->n, tile), 0, p->m);
    } else if (p->b.strides[p->batchRank] == 1) {
        run_pieces(j, divide_up(divide_up(p->n, tile), p->columnBlock / tile), run_columns);
    } else {
        const int64_t pieces = divide_up(divide_up(p->n, tile), panels_of_a_piece);
        j->panel_depth = p->depthBlock;
        for (j->start = 0; j->start < p->k; j->start += p->depthBlock) {
            j->depth = minimum(p->depthBlock, p->k - j->start);
            martlet_pack_sorted_steps(j);
            run_pieces(j, pieces * j->row_blocks, run_chunk);
        }
    }
    run_pieces(j, divide_up(p->m, rows_of_a_finish), finish_rows);
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
