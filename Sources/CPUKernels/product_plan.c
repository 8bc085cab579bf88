// How a product is cut into blocks, and what is packed. Nothing here changes a result: an element's sum depends on
// `depthBlock` alone, and that on the shapes and strides.
#include "product.h"

// Lines a multiple of 256 bytes apart fall on few sets of the first-level cache and are better packed.
static int lies_well(int64_t stride) { return stride % 64 != 0; }

void martlet_product_plan(martlet_product *p, int32_t threads, int32_t permutes) {
    const martlet_level_functions *level = martlet_level_table(p->level);
    const int64_t tile = level->tile_columns, batches = martlet_product_batches(p);
    const int permuted = p->mask && (permutes || martlet_mask_column_order(p->mask) || martlet_mask_inner_order(p->mask) ||
                                     martlet_mask_row_order(p->mask));
    p->sorted = permuted && p->role != MARTLET_WEIGHT_GRADIENT;
    const int full_rows = permuted;
    p->directA = !full_rows && p->a.strides[p->batchRank] == 1 && lies_well(p->a.strides[p->batchRank + 1]);
    // What is used once only is not worth packing.
    p->directB = !full_rows && p->b.strides[p->batchRank + 1] == 1 &&
                 (lies_well(p->b.strides[p->batchRank]) || p->m <= level->tile_rows);
    // A panel of b stays in the first-level cache with a panel of a; where it lies it takes up to half as much again. With
    // hardly any rows there is nothing to reuse, and short chunks read b nearly along its rows.
    const int64_t depth_blocks = divide_up(p->k, !p->directB ? 208 : p->m <= level->tile_rows ? 32 : 144);
    p->depthBlock = depth_blocks ? divide_up(p->k, depth_blocks) : 1;
    if (p->sorted) {
        martlet_sorted_product_plan(p);
        return;
    }

    // Enough blocks to share out evenly, more of them where a mask makes them uneven.
    const int64_t wanted = divide_up((p->mask ? 4 : 2) * (int64_t)threads, batches);
    const int64_t all_panels = divide_up(maximum(p->n, 1), tile), row_panels = divide_up(maximum(p->m, 1), level->tile_rows);
    int64_t rows, columns;
    if (full_rows) {
        // The epilogue wants whole rows, to put their columns in order.
        columns = all_panels;
        rows = maximum(1, minimum((1 << 18) / (all_panels * tile * level->tile_rows), divide_up(row_panels, wanted)));
    } else if (depth_blocks <= 1 && row_panels > 8) {
        // Much result for little depth, as in a weight gradient: long rows for the epilogue.
        columns = minimum(all_panels, 1024 / tile);
        rows = minimum(divide_up(row_panels, divide_up(wanted, divide_up(all_panels, columns))), 12);
    } else {
        rows = divide_up(row_panels, divide_up(p->m, 512));
        columns = minimum(256 / tile, divide_up(all_panels, divide_up(wanted, divide_up(row_panels, rows))));
    }
    p->rowBlock = minimum(p->m, rows * level->tile_rows);
    if (p->rowBlock < 1) p->rowBlock = 1;
    // Blocks of nearly equal size.
    columns = divide_up(all_panels, divide_up(all_panels, columns));
    p->columnBlock = columns * tile;
    const int64_t row_blocks = divide_up(p->m, p->rowBlock), column_blocks = divide_up(p->n, p->columnBlock);
    if (row_blocks > 0 && !full_rows) p->rowBlock = divide_up(p->m, row_blocks);
    p->sharesA = !p->directA && batches == 1 && column_blocks > 1;
    // A sorted gradient goes through its batch elements one by one.
    p->sharesB = full_rows || (!p->directB && batches == 1 && row_blocks > 1);
    p->sharedBytes = (p->sharesA ? round_up(p->m * p->k, 16) * 4 : 0) + (p->sharesB ? all_panels * tile * p->k * 4 : 0);
    int64_t floats = p->rowBlock * p->columnBlock;
    if (!p->sharesA && !p->directA) floats += round_up(p->rowBlock * p->depthBlock, 16);
    if (!p->sharesB) floats += tile * p->depthBlock;
    p->workBytes = floats * 4 + (permuted ? round_up(p->n * 4, 64) : 0) +
                   (int64_t)p->epilogue->slotCount * p->epilogue->slotBytes;
}
