// How a product is cut into blocks, and what is packed: one decision after another, each from those before it. Nothing here changes a
// result: an element's sum depends on `depthBlock` alone, and that on the shapes and strides.
#include "product.h"

enum {
    // What stays in the second-level cache.
    cached_bytes = 1 << 21,
    // An operand that leaves room in it.
    own_elements = 1 << 17,
    // So few panels of columns that what one more read of a, or packing one again, takes is a good part of the whole.
    narrow_panels = 4,
    // Steps of a product that writes a lot for what it multiplies.
    shallow = 208,
    // Fewer elements of a sorted b are packed whole and stay in a cache while blocks of rows are multiplied.
    whole_b_elements = 1 << 17,
};

// What the decisions look at, beside the product itself.
typedef struct {
    const martlet_isa_functions *isa;
    int32_t threads;
    int is_gradient;
    // Columns of a panel; panels of columns and of rows; elements of the batch.
    int64_t tile, column_panels, row_panels, batches;
    // Whether a, and b, have to be gathered in the order of a mask.
    int sorts_a, sorts_b;
    // Whether rows of b are contiguous; whether these could be read where they lie, and whether a mask lets them.
    int b_in_rows, b_lies_well, b_in_place;
} facts;

static facts facts_of(const martlet_product *p, int32_t threads) {
    const martlet_isa_functions *isa = martlet_isa_table(p->isa);
    return (facts){.isa = isa, .threads = threads, .is_gradient = p->role == MARTLET_WEIGHT_GRADIENT,
                   .tile = isa->tile_columns, .column_panels = divide_up(maximum(p->n, 1), isa->tile_columns),
                   .row_panels = divide_up(maximum(p->m, 1), isa->tile_rows), .batches = martlet_product_batches(p),
                   .b_in_rows = p->b.strides[p->batchRank + 1] == 1};
}

// Degrees that are not in order are sorted, and operands gathered in that order while they are packed. With `permutes` the degrees
// come at run time, in any order.
static void choose_what_is_sorted(martlet_product *p, facts *f, int32_t permutes) {
    const martlet_orders order = p->mask ? martlet_mask_orders(p->mask) : (martlet_orders){NULL, NULL, NULL};
    const int rows = permutes || order.rows, columns = permutes || order.columns, inner = permutes || order.inner;
    p->permuted = p->mask && (rows || columns || inner);
    f->sorts_a = p->permuted && (f->is_gradient ? rows : inner);
    f->sorts_b = f->is_gradient ? columns : p->permuted;
    // A second pass puts columns back where b is too large to stay in a cache, or rows are too few to deal blocks of them.
    p->inTwoPasses = p->permuted && !f->is_gradient &&
                     (f->column_panels * f->tile * p->k > whole_b_elements || f->row_panels < 2 * f->threads || p->k == 0);
}

// Lines a multiple of 256 bytes apart fall on few sets of the first-level cache and are better packed.
static int lies_well(int64_t stride) { return stride % 64 != 0; }

// The rows of a tile that are read along the inner axis stay in that cache unless all of them fall on one set.
static int rows_lie_well(int64_t stride) { return stride % 1024 != 0; }

// Packing an operand writes and reads it once more. It is left out where tiles find what they read in the cache without it: rows of a
// along either axis, contiguous rows of b.
static void choose_what_lies_in_place(martlet_product *p, facts *f) {
    const int64_t a_row = p->a.strides[p->batchRank], a_inner = p->a.strides[p->batchRank + 1];
    const int across = a_row == 1 && (lies_well(a_inner) || (f->column_panels <= narrow_panels && rows_lie_well(a_inner)));
    const int along = a_inner == 1 && rows_lie_well(a_row);
    p->directA = !f->sorts_a && (across || along);
    // Panels that are not whole are packed; where they are many among few, so are all.
    f->b_lies_well = f->b_in_rows && lies_well(p->b.strides[p->batchRank]) &&
                     (p->n % f->tile == 0 || f->column_panels > narrow_panels);
    // A panel with dead elements is packed in any case, in one run then.
    f->b_in_place = f->b_lies_well && !mask_of_b(p);
    // What is used once only is not worth packing.
    p->thin = !p->mask && f->b_in_rows && p->m <= f->isa->tile_rows;
    p->directB = p->thin || (!f->sorts_b && f->b_in_place);
}

// A packed panel of b is read in order and may be a little larger than the first-level cache; where it lies it has to stay there, and
// takes up to half as much again. The depth must not depend on the rows: an example's result is the same in every batch.
static void choose_depth(martlet_product *p, const facts *f) {
    const int64_t blocks = divide_up(p->k, f->b_in_place ? 144 : 272);
    p->depthBlock = blocks ? divide_up(p->k, blocks) : 1;
}

// A b that a program only reads stays packed from run to run, where it is packed for all workers at once.
static void choose_whether_b_is_kept(martlet_product *p, const facts *f) {
    p->keepsPackedB = p->keepsPackedB && !f->is_gradient && !p->directB && !p->inTwoPasses && f->batches == 1;
}

// A product that is only stored needs no place of its own.
static void choose_place_of_the_sums(martlet_product *p) {
    const martlet_operand *target = &p->outputs[0];
    const int only_stored =
        p->epilogue->instructionCount == 0 && p->epilogue->outputCount == 1 && p->epilogue->outputs[0] == 0;
    p->directC = !p->thin && p->k > 0 && only_stored && target->strides[p->batchRank + 1] == 1 &&
                 target->source != p->a.source && target->source != p->b.source;
}

// Blocks share out evenly among the workers, and are as many as that takes: more of them where a mask makes them uneven. `rows` and
// `columns` count panels.
static void choose_blocks(martlet_product *p, const facts *f) {
    const int64_t wanted = divide_up((p->mask ? 4 : 2) * (int64_t)f->threads, f->batches);
    int64_t rows, columns;
    if (p->permuted) {
        // The epilogue wants whole rows, to put their columns in order.
        columns = f->column_panels;
        rows = maximum(1, minimum((1 << 18) / (columns * f->tile * f->isa->tile_rows), divide_up(f->row_panels, wanted)));
    } else if (f->row_panels > (p->k <= shallow ? 8 : 24)) {
        // Much result for little depth, or many rows: long rows for the epilogue, and shared panels.
        columns = minimum(f->column_panels, (p->k <= shallow ? 1024 : 512) / f->tile);
        rows = minimum(divide_up(f->row_panels, divide_up(wanted, divide_up(f->column_panels, columns))), 12);
    } else {
        // Few rows take b as it comes, a panel at a time. Two blocks for each worker, dealt forth and back, share a staircase evenly.
        rows = f->row_panels;
        columns = minimum(512 / f->tile, divide_up(f->column_panels, divide_up(2 * f->threads, f->batches)));
    }
    // Blocks of nearly equal size.
    columns = divide_up(f->column_panels, divide_up(f->column_panels, columns));
    p->columnBlock = columns * f->tile;
    p->rowBlock = maximum(1, minimum(p->m, rows * f->isa->tile_rows));
    const int64_t row_blocks = divide_up(p->m, p->rowBlock);
    if (row_blocks > 0 && !p->permuted) p->rowBlock = divide_up(p->m, row_blocks);
}

// What is not read where it lies is packed once for all workers, once by each worker, or for each block. What is sorted is packed for
// all workers, for one batch element after the other.
static void choose_who_packs(martlet_product *p, const facts *f) {
    const int64_t row_blocks = divide_up(p->m, p->rowBlock), column_blocks = divide_up(p->n, p->columnBlock);
    const int whole_a = !p->permuted && !p->directA && f->batches == 1 && column_blocks > 1;
    // Two workers pack a little a twice in less time than they hand their halves to each other.
    p->ownsA = whole_a && row_blocks == 1 && f->threads <= maximum_owners && p->m * p->k <= own_elements;
    p->sharesA = (f->sorts_a && f->is_gradient) || (whole_a && !p->ownsA);
    // Lines of b that are contiguous across the inner axis are read in order when all panels are packed at once.
    const int64_t fitting = cached_bytes / 4 / maximum(1, p->k);
    const int in_order = f->b_in_rows && !f->b_lies_well && f->column_panels > 1 && p->n <= fitting;
    p->sharesB = f->sorts_b || p->keepsPackedB || (!p->directB && f->batches == 1 && (row_blocks > 1 || in_order));
}

static int64_t epilogue_bytes(const martlet_product *p) { return (int64_t)p->epilogue->slotCount * p->epilogue->slotBytes; }

// What each worker needs to gather lines and to put rows back in order, in turn; of a forward product or an input gradient.
static int64_t sorting_bytes(const martlet_product *p, const facts *f) {
    const int64_t gathered = maximum(f->isa->tile_rows * line_pitch(p->depthBlock), sorted_steps_of_a_piece * line_pitch(p->n));
    return maximum(4 * gathered, lines_in_order_bytes(p) + epilogue_bytes(p));
}

// Shared memory holds a, the ranks of the inner steps, b; a worker's the sums of a block and what it packs for itself.
static void reserve_memory(martlet_product *p, const facts *f) {
    const int64_t packed_bytes = p->sharesB ? f->column_panels * f->tile * p->k * 4 : 0;
    p->packedBBytes = p->keepsPackedB ? packed_bytes : 0;
    p->sharedBytes = (p->sharesA ? round_up(p->m * p->k, 16) * 4 : 0) + (p->permuted ? round_up(p->k, 16) * 4 : 0) +
                     packed_bytes - p->packedBBytes;
    int64_t floats = stores_directly(p) ? 0 : p->rowBlock * p->columnBlock;
    if (!p->sharesA && !p->directA) floats += packed_a_floats(p);
    if (!p->sharesB) floats += f->tile * p->depthBlock;
    if (p->thin) floats += p->rowBlock * p->columnBlock;
    p->workBytes = floats * 4 + (p->permuted ? sorting_bytes(p, f) : epilogue_bytes(p));
    // A sorted weight gradient gathers lines of either operand before its blocks begin.
    if (p->permuted) p->workBytes = maximum(p->workBytes, 4 * steps_of_a_piece * line_pitch(maximum(p->m, p->n)));
}

// The blocks and the memory of a product in two passes; `rowBlock` counts panels of rows there.
static void plan_two_passes(martlet_product *p, const facts *f) {
    const int64_t wide = round_up(p->n, f->tile), row_panels = row_panel_count(p->m, f->isa->tile_rows);
    // Panels of rows that a piece of the chunked form takes.
    p->rowBlock = row_panels > 0 ? divide_up(row_panels, divide_up(row_panels, 32)) : 1;
    // Panels of columns that are packed together and take a chunk of a in turn.
    const int64_t panels = wide / f->tile;
    p->columnBlock =
        f->tile * maximum(1, minimum(minimum(panels / (4 * f->threads), 8), (1 << 18) / maximum(1, f->tile * p->k)));
    const int64_t chunk = p->b.strides[p->batchRank] != 1 ? wide * p->depthBlock : 0;
    p->sharedBytes = 4 * (round_up(p->m * p->k, 16) + p->m * wide + chunk + round_up(p->k, 16));
    p->workBytes = maximum(sorting_bytes(p, f), 4 * p->columnBlock * p->k);
}

void martlet_product_plan(martlet_product *p, int32_t threads, int32_t permutes) {
    facts f = facts_of(p, threads);
    choose_what_is_sorted(p, &f, permutes);
    choose_what_lies_in_place(p, &f);
    choose_depth(p, &f);
    choose_whether_b_is_kept(p, &f);
    if (p->inTwoPasses) {
        plan_two_passes(p, &f);
        return;
    }
    choose_place_of_the_sums(p);
    choose_blocks(p, &f);
    choose_who_packs(p, &f);
    reserve_memory(p, &f);
}
