// The inside of a mask.
#pragma once

#include "kernels.h"

/// A panel of columns is two vectors wide.
typedef enum {
    LEFT_HALF = 1,
    RIGHT_HALF = 2,
    BOTH_HALVES = 3,
} martlet_halves;

/// Rows [start, end) of the inner axis that some column of these halves of a panel reads, and none of the others; `full` when
/// every column of the halves reads all of them. A last panel of one vector has a left half only.
typedef struct {
    int32_t start, end;
    int32_t full;
    martlet_halves halves;
} martlet_interval;

struct martlet_mask {
    martlet_role role;
    int64_t inputs, outputs;
    int32_t strict;
    int32_t panel_columns;

    /// The degrees that the orders belong to.
    int32_t *input_degrees, *output_degrees;
    int32_t valid;
    /// Original index of each sorted input and output, and whether they are sorted already.
    int32_t *input_order, *output_order;
    int32_t input_sorted, output_sorted;
    /// Sorted output o reads the first extents[o] sorted inputs; sorted input i is read from sorted output first[i] on.
    int32_t *extents, *first;
    int32_t *scratch;

    /// A matrix instead: NULL for degrees.
    uint64_t *bits;
    int64_t words_per_row;

    /// For the roles whose mask lies in b: intervals of panel p are panels[p] .. panels[p + 1].
    int32_t *panels;
    martlet_interval *intervals;
};

/// Takes intervals of a panel from *v on, before `last`, that follow one another and are read by the same halves, as one run;
/// `joins` says whether those that are not full may be joined with those that are.
static inline martlet_interval martlet_next_run(const martlet_mask *mask, int32_t *v, int32_t last, int joins) {
    martlet_interval run = mask->intervals[(*v)++];
    while (joins && *v < last && mask->intervals[*v].start == run.end && mask->intervals[*v].halves == run.halves) {
        run.full &= mask->intervals[*v].full;
        run.end = mask->intervals[(*v)++].end;
    }
    return run;
}

static inline int64_t martlet_mask_inner_count(const martlet_mask *mask) {
    return mask->role == MARTLET_FORWARD ? mask->inputs : mask->outputs;
}
static inline int64_t martlet_mask_column_count(const martlet_mask *mask) {
    return mask->role == MARTLET_FORWARD ? mask->outputs : mask->inputs;
}
static inline int64_t martlet_mask_panel_count(const martlet_mask *mask) {
    return divide_up(martlet_mask_column_count(mask), mask->panel_columns);
}

/// Where each sorted element of an axis of the product lies; NULL where the order is the identity.
typedef struct {
    const int32_t *rows, *columns, *inner;
} martlet_orders;

/// The orders of the product's axes (mask.c); none for a matrix.
martlet_orders martlet_mask_orders(const martlet_mask *mask);

// What panels of b read (mask_intervals.c).

/// The most intervals of a panel under a staircase.
enum { intervals_of_a_staircase = 4 };

/// Finds the intervals of all panels and returns how many there are; where `mask->intervals` is NULL they are only counted.
int32_t martlet_mask_find_intervals(martlet_mask *mask);
/// What tiles have to do under the mask: steps of half a tile; whole tiles for a weight gradient.
int64_t martlet_mask_work(const martlet_mask *mask, int64_t tile_rows);

// What is dead (mask_dead.c); rows, columns and the inner axis are in the order of the mask.

/// How many of the columns [n0, n1) read row k of b.
int64_t martlet_mask_live_in_inner_row(const martlet_mask *mask, int64_t k, int64_t n0, int64_t n1);
/// Writes zeros over the dead elements in the live rows of a panel of b, packed from inner row `start` to `end`.
void martlet_mask_clear_panel(
    const martlet_mask *mask, float *packed, int64_t panel, int64_t start, int64_t end, int32_t width);

/// What a mask leaves of a tile of a weight gradient.
typedef enum {
    TILE_IS_DEAD,
    TILE_IS_MIXED,
    TILE_IS_LIVE,
} martlet_tile_state;

/// Of rows [m0, m1) x columns [n0, n1).
martlet_tile_state martlet_mask_tile(const martlet_mask *mask, int64_t m0, int64_t m1, int64_t n0, int64_t n1);
/// Writes zeros over the dead elements of such a tile.
void martlet_mask_clear_tile(
    const martlet_mask *mask, float *tile, int64_t stride, int64_t m0, int64_t m1, int64_t n0, int64_t n1);
