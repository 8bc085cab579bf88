// A run of a product: blocks are dealt to the workers; for each, operands are found or packed, and register tiles walk the live part of
// the inner axis, chunk after chunk.
//
// An element's sum runs over the inner axis in order, in chunks of `depthBlock`, whatever the blocks of rows and columns
// are; so results do not depend on threads.
#include "product_fetch.h"

// A block while it is multiplied.
typedef struct {
    product_block block;
    block_operands in;
    // Its panels of columns [first, last).
    int64_t first, last;
    // The sums of one chunk where there are hardly any rows.
    float *chunk_sums;
    int64_t executed;
    // What tiles fetch on the way: rows for the epilogue, the next panel of b, and what the next chunk reads of a.
    epilogue_rows ahead;
    fetching next_b, next_a;
} block_job;

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

// The block's rows and columns, and what it reads.
static void begin(block_job *x, const product_job *j, int64_t index) {
    const martlet_product *p = j->p;
    const int64_t blocks = j->row_blocks * j->column_blocks, batch = j->batch + index / blocks;
    int64_t row_block, column_block;
    place_of(j, index % blocks, &row_block, &column_block);
    x->first = first_panel(j, column_block);
    x->last = first_panel(j, column_block + 1);
    x->in.low = 0;
    x->in.high = p->k;
    if (mask_of_b(p)) live_range(j, x->first, x->last, &x->in.low, &x->in.high);
    x->in.base_a = martlet_product_base(j, &p->a, batch);
    x->in.base_b = martlet_product_base(j, &p->b, batch);
    const int64_t tile = j->isa->tile_columns, m0 = row_block * p->rowBlock, n0 = x->first * tile;
    const int64_t wide = (x->last - x->first) * tile;
    x->block = (product_block){.j = j, .batch = batch, .m0 = m0, .rows = minimum(p->rowBlock, p->m - m0), .n0 = n0,
                               .columns = minimum(wide, p->n - n0), .stride = wide};
}

// The worker's memory: sums, unless they are written where they belong; packed operands, unless they are shared; what is left is for
// finishing.
static void lay_out(block_job *x, int32_t worker) {
    product_block *b = &x->block;
    const product_job *j = b->j;
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns;
    float *memory = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    if (stores_directly(p)) {
        const martlet_operand *output = &p->outputs[0];
        b->stride = output->strides[p->batchRank];
        b->sums = (float *)(uintptr_t)martlet_product_base(j, output, b->batch) + b->m0 * b->stride + b->n0;
    } else {
        b->sums = memory;
        memory += p->rowBlock * round_up(p->columnBlock, tile);
    }
    x->in.own_a = memory;
    x->in.own_b = x->in.own_a + (p->sharesA || p->directA ? 0 : packed_a_floats(p));
    x->chunk_sums = x->in.own_b + (p->sharesB ? 0 : tile * p->depthBlock);
    b->work = (char *)(x->chunk_sums + (p->thin ? p->rowBlock * p->columnBlock : 0));
}

// Zeros in sums to which tiles add, but never store first.
static void clear_sums(const block_job *x) {
    const product_block *b = &x->block;
    const int64_t tile = b->j->isa->tile_columns;
    if (b->j->p->k == 0) memset(b->sums, 0, (size_t)(b->rows * b->stride) * sizeof(float));
    if (!mask_of_b(b->j->p)) return;
    for (int64_t panel = x->first; panel < x->last; panel++) {
        if (martlet_stores_first(b->j, panel)) continue;
        martlet_clear_columns(b->sums + panel * tile - b->n0, b->stride, b->rows, tile);
    }
}

// Rows of a times some halves of one panel of b over the inner range [from, to); `full` when no element of b in them is dead.
static void run_panel(
    block_job *x, int64_t panel, int64_t from, int64_t to, martlet_halves halves, int full, int accumulate) {
    const product_block *block = &x->block;
    const product_job *j = block->j;
    const martlet_product *p = j->p;
    const int64_t a_row = p->a.strides[p->batchRank], a_inner = p->a.strides[p->batchRank + 1];
    const int masks_result = p->mask && p->role == MARTLET_WEIGHT_GRADIENT;
    const row_panels panels = deal_rows(block->rows, j->isa->tile_rows);
    const int64_t column = panel * j->isa->tile_columns;
    const found_panel b = martlet_find_b(block, &x->in, panel, from, to, halves, full);
    const tile_span span = span_of(j, column, halves);
    const int64_t first = column + span.first;
    martlet_tile t = {.k = to - from, .a_row = p->directA ? a_row : 1, .a_step = a_inner, .b = b.first + span.first,
                      .b_step = b.step, .stride = block->stride, .columns = span.width,
                      .live = stores_directly(p) ? span.live : span.width, .accumulate = accumulate};
    for (int64_t i = 0; i < panels.count; i++) {
        const row_panel rp = panel_at(panels, i);
        const int64_t m = block->m0 + rp.first;
        if (masks_result && martlet_mask_tile(p->mask, m, m + rp.height, column, column + span.live) == TILE_IS_DEAD) continue;
        t.a = p->directA ? x->in.base_a + m * a_row + from * a_inner
                         : x->in.packed_a + rp.first * x->in.depth + (from - x->in.start) * rp.height;
        if (!p->directA) t.a_step = rp.height;
        t.rows = rp.height;
        t.c = block->sums + rp.first * block->stride + first - block->n0;
        t.ahead_count = 0;
        if (to == p->k) fetch_for_epilogue(&x->ahead, rp.first, rp.height, first, span.live, &t);
        fetch_with(&x->next_b, &t);
        fetch_with(&x->next_a, &t);
        j->isa->tile(&t);
        x->executed += rp.height * span.live * (to - from);
    }
}

// The live part of one panel of columns for the chunk at work.
static void run_live_panel(block_job *x, int64_t panel) {
    const product_job *j = x->block.j;
    const martlet_mask *mask = mask_of_b(j->p);
    const int64_t end = x->in.start + x->in.depth;
    if (!mask) {
        run_panel(x, panel, x->in.start, end, BOTH_HALVES, 1, x->in.start > 0 ? TILE_ADDS : TILE_STORES);
        return;
    }
    const int32_t first = mask->panels[panel], last = mask->panels[panel + 1];
    const int stores = martlet_stores_first(j, panel);
    for (int32_t v = first; v < last;) {
        const martlet_interval run = martlet_next_run(mask, &v, last, !j->p->directB);
        const int64_t from = maximum(run.start, x->in.start), to = minimum(run.end, end);
        if (from >= to) continue;
        const int begins = stores && from == mask->intervals[first].start;
        run_panel(x, panel, from, to, run.halves, run.full, begins ? TILE_STORES : TILE_ADDS);
    }
}

// What tiles of this panel fetch of b: the next panel of this chunk, or the first of the next one.
static void look_for_b(block_job *x, int64_t panel, int64_t tiles) {
    const product_job *j = x->block.j;
    const martlet_product *p = j->p;
    const int64_t end = x->in.start + x->in.depth;
    const int is_last = panel + 1 == x->last;
    const int64_t next = is_last ? x->first : panel + 1;
    int64_t from = is_last ? end : x->in.start, to = is_last ? minimum(end + p->depthBlock, p->k) : end;
    if (mask_of_b(p) && from < to) {
        int64_t low, high;
        live_range(j, next, next + 1, &low, &high);
        from = maximum(from, low);
        to = minimum(to, high);
    }
    x->next_b = fetching_of_b(j, x->in.base_b, next, from, to, tiles);
}

// All panels of the block for the chunk at work.
static void run_chunk(block_job *x) {
    const product_block *b = &x->block;
    const int64_t row_panels = row_panel_count(b->rows, b->j->isa->tile_rows);
    const int64_t tiles = (x->last - x->first) * row_panels;
    x->next_a = fetching_of_a(b->j, x->in.base_a, b->m0, b->rows, x->in.start + x->in.depth, tiles);
    for (int64_t panel = x->first; panel < x->last; panel++) {
        look_for_b(x, panel, row_panels);
        run_live_panel(x, panel);
    }
}

enum { thin_depth = 32 };

// The same for a block with hardly any rows. Time goes into reading b, so that is read nearly along its rows: a few inner steps of
// every panel at a time. Sums are those of the undivided chunk.
static void run_thin_chunk(block_job *x) {
    product_block *b = &x->block;
    float *const sums = b->sums, *const chunk_sums = x->chunk_sums;
    b->sums = chunk_sums;
    const int64_t end = x->in.start + x->in.depth;
    for (int64_t from = x->in.start; from < end; from += thin_depth) {
        for (int64_t panel = x->first; panel < x->last; panel++) {
            run_panel(
                x, panel, from, minimum(from + thin_depth, end), BOTH_HALVES, 1,
                from > x->in.start ? TILE_CONTINUES : TILE_STORES);
        }
    }
    b->sums = sums;
    for (int64_t i = 0; i < b->rows * b->stride; i++) sums[i] = x->in.start > 0 ? sums[i] + chunk_sums[i] : chunk_sums[i];
}

// One block of rows x columns of one batch element, from its operands to its epilogue.
static void run_block(void *argument, int64_t index, int32_t worker) {
    const product_job *j = argument;
    const martlet_product *p = j->p;
    block_job x = {0};
    begin(&x, j, index);
    lay_out(&x, worker);
    if (!stores_directly(p)) find_epilogue_rows(&x.block, &x.ahead);
    clear_sums(&x);
    for (x.in.start = 0; x.in.start < x.in.high; x.in.start += p->depthBlock) {
        x.in.depth = minimum(p->depthBlock, p->k - x.in.start);
        if (x.in.start + x.in.depth <= x.in.low) continue;
        martlet_find_a(&x.block, &x.in, worker);
        if (p->thin) run_thin_chunk(&x);
        else run_chunk(&x);
    }
    j->counts[8 * worker] += x.executed;
    martlet_finish_block(&x.block);
}

// The orders of the mask, sorted anew where its degrees come at run time.
static void find_orders(product_job *j) {
    const martlet_product *p = j->p;
    if (!p->mask) return;
    if (p->inputDegrees >= 0) {
        martlet_mask_set_degrees(
            p->mask, (const int32_t *)(void *)j->context->values[p->inputDegrees],
            (const int32_t *)(void *)j->context->values[p->outputDegrees]);
    }
    j->order = martlet_mask_orders(p->mask);
}

void martlet_product_run(const martlet_product *p, const martlet_context *context, int64_t *counts) {
    const int64_t batches = martlet_product_batches(p);
    if (p->m == 0 || p->n == 0 || batches == 0) return;
    product_job j = {.p = p, .context = context, .isa = martlet_isa_table(p->isa), .counts = counts};
    find_orders(&j);
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
    if (p->permuted) martlet_set_inner_rank(&j, (int32_t *)(void *)rank);
    // Batch elements that are sorted come one after the other, as each has the shared memory to itself; others all at once.
    const int64_t together = p->permuted ? 1 : batches;
    for (j.batch = 0; j.batch < batches; j.batch += together) {
        martlet_pack_shared(&j);
        run_pieces(&j, together * j.row_blocks * j.column_blocks, run_block);
    }
}
