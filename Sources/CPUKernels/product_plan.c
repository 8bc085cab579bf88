// How a product is cut into blocks, and what is packed. Nothing here changes a result: an element's sum depends on
// `depthBlock` alone, and that on the shapes and strides.
#include "product.h"

// Lines a multiple of 256 bytes apart fall on few sets of the first-level cache and are better packed.
static int lies_well(int64_t stride) { return stride % 64 != 0; }

// The rows of a tile that are read along the inner axis stay in that cache unless all of them fall on one set.
static int rows_lie_well(int64_t stride) { return stride % 1024 != 0; }

enum {
    // What stays in the second-level cache.
    cached_bytes = 1 << 21,
    // An operand that leaves room in it.
    own_elements = 1 << 17,
    // So few panels of columns that what one more read of a, or packing one again, takes is a good part of the whole.
    narrow_panels = 4,
    // Steps of a product that writes a lot for what it multiplies.
    shallow = 208,
};

void martlet_product_plan(martlet_product *p, int32_t threads, int32_t permutes) {
    const martlet_isa_functions *isa = martlet_isa_table(p->isa);
    const int64_t tile = isa->tile_columns, batches = martlet_product_batches(p);
    p->permuted = p->mask && (permutes || martlet_mask_column_order(p->mask) || martlet_mask_inner_order(p->mask) ||
                              martlet_mask_row_order(p->mask));
    const int is_gradient = p->role == MARTLET_WEIGHT_GRADIENT;
    const int sorts_a =
        p->permuted && (permutes || (is_gradient ? martlet_mask_row_order(p->mask) : martlet_mask_inner_order(p->mask)));
    const int sorts_b = is_gradient ? permutes || martlet_mask_column_order(p->mask) : p->permuted;
    const int64_t all_panels = divide_up(maximum(p->n, 1), tile), row_panels = divide_up(maximum(p->m, 1), isa->tile_rows);
    p->inTwoPasses = p->permuted && !is_gradient &&
                     (all_panels * tile * p->k > whole_b_elements || row_panels < 2 * threads || p->k == 0);
    const int64_t a_row = p->a.strides[p->batchRank], a_inner = p->a.strides[p->batchRank + 1];
    p->directA = !sorts_a && ((a_row == 1 && (lies_well(a_inner) || (all_panels <= narrow_panels && rows_lie_well(a_inner)))) || (a_inner == 1 && rows_lie_well(a_row)));
    const int64_t b_inner = p->b.strides[p->batchRank];
    const int in_rows = p->b.strides[p->batchRank + 1] == 1;
    // What is used once only is not worth packing.
    p->thin = !p->mask && in_rows && p->m <= isa->tile_rows;
    // Panels that are not whole are packed; where they are many among few, so are all.
    const int b_lies_well = in_rows && lies_well(b_inner) && (p->n % tile == 0 || all_panels > narrow_panels);
    // A panel with dead elements is packed in any case, in one run then.
    const int in_place = b_lies_well && !mask_of_b(p);
    p->directB = p->thin || (!sorts_b && in_place);
    // A packed panel of b is read in order and may be a little larger than the first-level cache; where it lies it has to stay
    // there, and takes up to half as much again. The depth must not depend on the rows: an example's result is the same in every
    // batch.
    const int64_t depth_blocks = divide_up(p->k, in_place ? 144 : 272);
    p->depthBlock = depth_blocks ? divide_up(p->k, depth_blocks) : 1;
    p->keepsPackedB = p->keepsPackedB && !is_gradient && !p->directB && !p->inTwoPasses && batches == 1;
    if (p->inTwoPasses) {
        martlet_two_pass_plan(p, threads);
        return;
    }

    // A product that is only stored needs no place of its own.
    const martlet_operand *target = &p->outputs[0];
    p->directC = !p->thin && p->k > 0 && p->epilogue->instructionCount == 0 && p->epilogue->outputCount == 1 &&
                 p->epilogue->outputs[0] == 0 && target->strides[p->batchRank + 1] == 1 && target->source != p->a.source &&
                 target->source != p->b.source;

    // Enough blocks to share out evenly, more of them where a mask makes them uneven.
    const int64_t wanted = divide_up((p->mask ? 4 : 2) * (int64_t)threads, batches);
    int64_t rows, columns;
    if (p->permuted) {
        // The epilogue wants whole rows, to put their columns in order.
        columns = all_panels;
        rows = maximum(1, minimum((1 << 18) / (all_panels * tile * isa->tile_rows), divide_up(row_panels, wanted)));
    } else if (row_panels > (p->k <= shallow ? 8 : 24)) {
        // Much result for little depth, or many rows: long rows for the epilogue, and shared panels.
        columns = minimum(all_panels, (p->k <= shallow ? 1024 : 512) / tile);
        rows = minimum(divide_up(row_panels, divide_up(wanted, divide_up(all_panels, columns))), 12);
    } else {
        // Few rows take b as it comes, a panel at a time. Two blocks for each worker, dealt forth and back, share a staircase evenly.
        rows = row_panels;
        columns = minimum(512 / tile, divide_up(all_panels, divide_up(2 * threads, batches)));
    }
    p->rowBlock = minimum(p->m, rows * isa->tile_rows);
    if (p->rowBlock < 1) p->rowBlock = 1;
    // Blocks of nearly equal size.
    columns = divide_up(all_panels, divide_up(all_panels, columns));
    p->columnBlock = columns * tile;
    const int64_t row_blocks = divide_up(p->m, p->rowBlock), column_blocks = divide_up(p->n, p->columnBlock);
    if (row_blocks > 0 && !p->permuted) p->rowBlock = divide_up(p->m, row_blocks);
    // Lines of b that are contiguous across the inner axis are read in order when all panels are packed at once; of a, each worker
    // packs what it multiplies. What is sorted is packed for all workers, for one batch element after the other.
    const int64_t fitting = cached_bytes / 4 / maximum(1, p->k);
    const int b_in_order = in_rows && !b_lies_well && all_panels > 1 && p->n <= fitting;
    const int whole_a = !p->permuted && !p->directA && batches == 1 && column_blocks > 1;
    // Two workers pack a little a twice in less time than they hand their halves to each other.
    p->ownsA = whole_a && row_blocks == 1 && threads <= maximum_owners && p->m * p->k <= own_elements;
    p->sharesA = (sorts_a && is_gradient) || (whole_a && !p->ownsA);
    p->sharesB = sorts_b || p->keepsPackedB || (!p->directB && batches == 1 && (row_blocks > 1 || b_in_order));
    const int64_t packed_bytes = p->sharesB ? all_panels * tile * p->k * 4 : 0;
    p->packedBBytes = p->keepsPackedB ? packed_bytes : 0;
    p->sharedBytes = (p->sharesA ? round_up(p->m * p->k, 16) * 4 : 0) + (p->permuted ? round_up(p->k, 16) * 4 : 0) +
                     packed_bytes - p->packedBBytes;
    int64_t floats = stores_directly(p) ? 0 : p->rowBlock * p->columnBlock;
    if (!p->sharesA && !p->directA) floats += packed_a_floats(p);
    if (!p->sharesB) floats += tile * p->depthBlock;
    if (p->thin) floats += p->rowBlock * p->columnBlock;
    p->workBytes = floats * 4 + (p->permuted ? martlet_sorted_work_bytes(p)
                                             : (int64_t)p->epilogue->slotCount * p->epilogue->slotBytes);
    if (p->permuted) p->workBytes = maximum(p->workBytes, martlet_sorted_lines_bytes(p));
}
