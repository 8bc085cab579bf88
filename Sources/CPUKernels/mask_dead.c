// Which elements a mask leaves dead: of a packed panel of b, or of a tile of a weight gradient.
#include "mask.h"

static int bit(const martlet_mask *mask, int64_t output, int64_t input) {
    return (int)(mask->bits[output * mask->words_per_row + (input >> 6)] >> (input & 63) & 1);
}

// Whether column n (sorted) reads row k (sorted) of b.
static int reads(const martlet_mask *mask, int64_t k, int64_t n) {
    if (mask->bits) return mask->role == MARTLET_FORWARD ? bit(mask, n, k) : bit(mask, k, n);
    return mask->role == MARTLET_FORWARD ? k < mask->extents[n] : k >= mask->first[n];
}

// Which of the inputs [n0, n0 + 64) output m reads, as far as they are before n1.
static uint64_t word_of_row(const martlet_mask *mask, int64_t m, int64_t n0, int64_t n1) {
    const uint64_t *words = mask->bits + m * mask->words_per_row;
    const int64_t word = n0 >> 6, shift = n0 & 63;
    uint64_t bits = words[word] >> shift;
    if (shift && word + 1 < mask->words_per_row) bits |= words[word + 1] << (64 - shift);
    return n1 - n0 < 64 ? bits & (((uint64_t)1 << (n1 - n0)) - 1) : bits;
}

// Writes zeros over the elements of a row whose inputs [n0, n1) output m does not read.
static void clear_row(const martlet_mask *mask, float *row, int64_t m, int64_t n0, int64_t n1) {
    for (int64_t n = n0; n < n1; n += 64) {
        const uint64_t all = n1 - n < 64 ? ((uint64_t)1 << (n1 - n)) - 1 : ~(uint64_t)0;
        for (uint64_t dead = all & ~word_of_row(mask, m, n, n1); dead; dead &= dead - 1) {
            row[n - n0 + __builtin_ctzll(dead)] = 0;
        }
    }
}

// Rows [start, end) of a packed panel; `column` is its first.
static void clear_rows(
    const martlet_mask *mask, float *panel, int64_t start, int64_t end, int64_t column, int64_t columns, int32_t width) {
    if (mask->bits && mask->role == MARTLET_INPUT_GRADIENT) {
        for (int64_t k = start; k < end; k++) clear_row(mask, panel + (k - start) * width, k, column, column + columns);
        return;
    }
    if (mask->bits) {
        for (int64_t j = 0; j < columns; j++) {
            for (int64_t k = start; k < end; k += 64) {
                const uint64_t all = end - k < 64 ? ((uint64_t)1 << (end - k)) - 1 : ~(uint64_t)0;
                for (uint64_t dead = all & ~word_of_row(mask, column + j, k, end); dead; dead &= dead - 1) {
                    panel[(k - start + __builtin_ctzll(dead)) * width + j] = 0;
                }
            }
        }
        return;
    }
    // Down the rows of a staircase the edge only moves to the right.
    int64_t edge = 0;
    for (int64_t k = start; k < end; k++) {
        float *row = panel + (k - start) * width;
        if (mask->role == MARTLET_FORWARD) {
            while (edge < columns && mask->extents[column + edge] <= k) edge++;
            for (int64_t j = 0; j < edge; j++) row[j] = 0;
        } else {
            while (edge < columns && mask->first[column + edge] <= k) edge++;
            for (int64_t j = edge; j < columns; j++) row[j] = 0;
        }
    }
}

// How many of the inputs [n0, n1) output m reads.
static int64_t live_in_row(const martlet_mask *mask, int64_t m, int64_t n0, int64_t n1) {
    if (!mask->bits) {
        return maximum(0, minimum(mask->extents[m], n1) - n0);
    }
    int64_t count = 0;
    for (int64_t n = n0; n < n1; n += 64) count += __builtin_popcountll(word_of_row(mask, m, n, n1));
    return count;
}

int64_t martlet_mask_live_in_inner_row(const martlet_mask *mask, int64_t k, int64_t n0, int64_t n1) {
    if (mask->role == MARTLET_INPUT_GRADIENT) return n1 > n0 ? live_in_row(mask, k, n0, n1) : 0;
    int64_t live = 0;
    for (int64_t n = n0; n < n1; n++) live += reads(mask, k, n);
    return live;
}

void martlet_mask_clear_panel(
    const martlet_mask *mask, float *packed, int64_t panel, int64_t start, int64_t end, int32_t width) {
    const int64_t column = panel * mask->panel_columns, rest = martlet_mask_column_count(mask) - column;
    for (int32_t v = mask->panels[panel]; v < mask->panels[panel + 1]; v++) {
        const martlet_interval *interval = &mask->intervals[v];
        const int64_t from = maximum(interval->start, start), to = minimum(interval->end, end);
        if (interval->full || from >= to) continue;
        clear_rows(
            mask, packed + (from - start) * width, from, to, column, minimum(rest, mask->panel_columns), width);
    }
}

martlet_tile_state martlet_mask_tile(const martlet_mask *mask, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    // The extents of sorted rows grow.
    if (!mask->bits) {
        if (mask->extents[m1 - 1] <= n0) return TILE_IS_DEAD;
        return mask->extents[m0] >= n1 ? TILE_IS_LIVE : TILE_IS_MIXED;
    }
    int64_t live = 0;
    for (int64_t m = m0; m < m1; m++) live += live_in_row(mask, m, n0, n1);
    if (live == 0) return TILE_IS_DEAD;
    return live == (m1 - m0) * (n1 - n0) ? TILE_IS_LIVE : TILE_IS_MIXED;
}

void martlet_mask_clear_tile(
    const martlet_mask *mask, float *tile, int64_t stride, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    for (int64_t m = m0; m < m1; m++) {
        float *row = tile + (m - m0) * stride;
        if (mask->bits) {
            clear_row(mask, row, m, n0, n1);
        } else {
            for (int64_t n = maximum(mask->extents[m], n0); n < n1; n++) row[n - n0] = 0;
        }
    }
}

