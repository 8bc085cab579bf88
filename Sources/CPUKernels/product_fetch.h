// Asking for memory before it is read: each tile fetches a few lines of what comes after it into the second-level cache, so that memory
// works while the arithmetic does.
#pragma once

#include "product.h"

/// What will be read soon: lines of memory, `minor` of them `minor_step` bytes apart, `major` times.
typedef struct {
    const char *first;
    /// The order of the major steps; NULL for the identity.
    const int32_t *order;
    int64_t major, major_step, minor, minor_step;
    int64_t of_a_tile;
    /// Where the next tile goes on.
    int64_t at_major, at_minor;
} fetching;

/// Fetches all of it within some tiles, as far as they take no longer for it.
static inline void fetch_within(fetching *f, int64_t tiles) {
    enum { fetched_of_a_tile = 128 };
    f->of_a_tile = tiles > 0 ? minimum(divide_up(f->major * f->minor, tiles), fetched_of_a_tile) : 0;
}

/// The share of one more tile.
static inline void fetch_with(fetching *f, martlet_tile *tile) {
    for (int64_t rest = f->of_a_tile; rest > 0 && f->at_major < f->major && tile->ahead_count < maximum_lines;) {
        const int64_t major = f->order ? f->order[f->at_major] : f->at_major, count = minimum(rest, f->minor - f->at_minor);
        const char *const line = f->first + major * f->major_step + f->at_minor * f->minor_step;
        tile->ahead[tile->ahead_count++] = (martlet_lines){line, f->minor_step, count};
        rest -= count;
        f->at_minor += count;
        if (f->at_minor < f->minor) continue;
        f->at_minor = 0;
        f->at_major++;
    }
}

/// Inner steps [from, to) of panel `next` of b, as they will be read or packed, for some tiles to fetch. Columns that are contiguous
/// along the inner axis are fetched while they are packed.
static inline fetching fetching_of_b(
    const product_job *j, const float *base, int64_t next, int64_t from, int64_t to, int64_t tiles) {
    const martlet_product *p = j->p;
    const int64_t tile = j->isa->tile_columns, inner = p->b.strides[p->batchRank];
    fetching f = {0};
    if (from >= to) return f;
    if (p->sharesB) {
        const int32_t width = panel_width(j, next * tile);
        const float *first = j->shared_b + next * tile * p->k + from * width;
        f = (fetching){(const char *)first, NULL, 1, 0, divide_up((to - from) * width, 16), 64};
    } else if (p->b.strides[p->batchRank + 1] == 1) {
        const float *first = base + from * inner + next * tile;
        // Where lines of memory are not aligned with the panel, it begins in one and ends in another.
        const int64_t lines = divide_up(tile, 16) + (inner % 16 != 0);
        f = (fetching){(const char *)first, NULL, lines, 64, to - from, inner * 4};
    }
    fetch_within(&f, tiles);
    return f;
}

/// What the chunk that begins at inner step `start` reads of a for rows [m0, m0 + rows), unless it has to be packed first.
static inline fetching fetching_of_a(
    const product_job *j, const float *base, int64_t m0, int64_t rows, int64_t start, int64_t tiles) {
    const martlet_product *p = j->p;
    const int64_t depth = minimum(p->depthBlock, p->k - start);
    const int64_t a_row = p->a.strides[p->batchRank], a_inner = p->a.strides[p->batchRank + 1];
    fetching f = {0};
    if (depth <= 0) return f;
    if (p->sharesA) {
        const float *first = j->shared_a + p->m * start + m0 * depth;
        f = (fetching){(const char *)first, NULL, 1, 0, divide_up(rows * depth, 16), 64};
    } else if (p->directA) {
        const float *first = base + m0 * a_row + start * a_inner;
        f = a_inner == 1 ? (fetching){(const char *)first, NULL, rows, a_row * 4, divide_up(depth, 16), 64}
                         : (fetching){(const char *)first, NULL, divide_up(rows, 16), 64, depth, a_inner * 4};
    }
    fetch_within(&f, tiles);
    return f;
}

/// What an epilogue reads or writes row by row, each value once.
typedef struct {
    int32_t count;
    /// At the block's first row and the first column of all.
    martlet_block rows[8];
} epilogue_rows;

/// Adds to `found`, which is empty, what the epilogue of a block reaches for along rows.
static inline void find_epilogue_rows(const product_block *block, epilogue_rows *found) {
    const product_job *j = block->j;
    const martlet_product *p = j->p;
    if (j->order.rows || j->order.columns) return;
    int32_t seen[8];
    for (int32_t side = 0; side < 2; side++) {
        const int32_t count = side ? p->epilogue->outputCount : p->epilogue->inputCount;
        for (int32_t i = side ? 0 : 1; i < count && found->count < 8; i++) {
            const martlet_operand *operand = side ? &p->outputs[i] : &p->inputs[i];
            const int64_t rows = operand->strides[p->batchRank], columns = operand->strides[p->batchRank + 1];
            int known = operand->source < 0 || operand->element != MARTLET_FLOAT32 || rows == 0 || columns != 1;
            for (int32_t k = 0; k < found->count; k++) known |= seen[k] == operand->source;
            if (known) continue;
            seen[found->count] = operand->source;
            const float *base = martlet_product_base(j, operand, block->batch) + block->m0 * rows;
            found->rows[found->count++] = (martlet_block){(char *)(uintptr_t)base, 0, rows, 1};
        }
    }
}

/// The lines of memory that the epilogue will touch for a tile.
static inline void fetch_for_epilogue(
    const epilogue_rows *all, int64_t row, int64_t rows, int64_t column, int64_t columns, martlet_tile *tile) {
    for (int32_t i = 0; i < all->count; i++) {
        const char *first = all->rows[i].base + (row * all->rows[i].rowStride + column) * 4;
        for (int64_t byte = 0; byte < columns * 4 && tile->ahead_count < maximum_lines; byte += 64) {
            tile->ahead[tile->ahead_count++] = (martlet_lines){first + byte, all->rows[i].rowStride * 4, rows};
        }
    }
}
