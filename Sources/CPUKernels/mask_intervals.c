// From a mask to the intervals of the inner axis that each panel of columns reads: what the tiles of a forward product or an input
// gradient walk.
#include "mask.h"

// Beginning a run costs as much as these steps of half a tile do.
enum { steps_of_a_beginning = 32 };

// Steps of half a tile that an interval takes.
static int64_t work_of_interval(const martlet_interval *v) {
    return (v->end - v->start) * (v->halves == BOTH_HALVES ? 2 : 1) + steps_of_a_beginning;
}

// What the panel [n0, n1) reads of row k.
static martlet_interval row_state(const martlet_mask *mask, int64_t k, int64_t n0, int64_t n1) {
    const int64_t half = mask->panel_columns / 2, middle = minimum(n0 + half, n1);
    const int64_t left = martlet_mask_live_in_inner_row(mask, k, n0, middle);
    const int64_t right = martlet_mask_live_in_inner_row(mask, k, middle, n1);
    martlet_interval state = {0};
    state.halves = (left ? LEFT_HALF : 0) | (right ? RIGHT_HALF : 0);
    state.full = (!left || left == middle - n0) && (!right || right == n1 - middle);
    return state;
}

// Intervals of the panel [n0, n1); `target` may be NULL to count them. Scattered ones are joined where that is less work.
static int32_t matrix_intervals(const martlet_mask *mask, int64_t n0, int64_t n1, martlet_interval *target) {
    const int64_t inner = martlet_mask_inner_count(mask);
    int32_t count = 0;
    martlet_interval last = {0};
    for (int64_t k = 0; k < inner;) {
        martlet_interval next = row_state(mask, k, n0, n1);
        next.start = (int32_t)k;
        for (k++; k < inner; k++) {
            const martlet_interval state = row_state(mask, k, n0, n1);
            if (state.halves != next.halves || state.full != next.full) break;
        }
        next.end = (int32_t)k;
        if (!next.halves) continue;
        const martlet_interval joined = {last.start, next.end, 0, last.halves | next.halves};
        const int follows = last.end == next.start && last.halves == next.halves;
        if (last.halves && !follows &&
            work_of_interval(&joined) <= work_of_interval(&last) + work_of_interval(&next)) {
            last = joined;
            continue;
        }
        if (last.halves && target) target[count] = last;
        count += last.halves != 0;
        last = next;
    }
    if (last.halves && target) target[count] = last;
    return count + (last.halves != 0);
}

static int32_t add_interval(
    martlet_interval *target, int32_t count, int64_t start, int64_t end, int32_t full, martlet_halves halves) {
    if (start >= end) return count;
    target[count] = (martlet_interval){(int32_t)start, (int32_t)end, full, halves};
    return count + 1;
}

static int32_t staircase_intervals(const martlet_mask *mask, int64_t n0, int64_t n1, martlet_interval *target) {
    const int64_t half = mask->panel_columns / 2, middle = minimum(n0 + half, n1);
    const int32_t *const edges = mask->role == MARTLET_FORWARD ? mask->extents : mask->first;
    const int has_right = middle < n1;
    const martlet_halves all = has_right ? BOTH_HALVES : LEFT_HALF;
    const int32_t left0 = edges[n0];
    int32_t left1 = edges[middle - 1], right0 = has_right ? edges[middle] : left1, count = 0;
    const int32_t right1 = has_right ? edges[n1 - 1] : left1;
    // What one half reads alone is left to both where a run of its own would cost more than the other half's zeros.
    if (mask->role == MARTLET_FORWARD && right1 - left1 <= steps_of_a_beginning) left1 = right0 = right1;
    if (mask->role != MARTLET_FORWARD && right0 - left0 <= steps_of_a_beginning) left1 = right0 = left0;
    if (mask->role == MARTLET_FORWARD) {
        count = add_interval(target, count, 0, left0, 1, all);
        count = add_interval(target, count, left0, left1, 0, all);
        count = add_interval(target, count, left1, right0, 1, RIGHT_HALF);
        count = add_interval(target, count, right0, right1, 0, RIGHT_HALF);
    } else {
        count = add_interval(target, count, left0, left1, 0, LEFT_HALF);
        count = add_interval(target, count, left1, right0, 1, LEFT_HALF);
        count = add_interval(target, count, right0, right1, 0, all);
        count = add_interval(target, count, right1, mask->outputs, 1, all);
    }
    return count;
}

int32_t martlet_mask_find_intervals(martlet_mask *mask) {
    const int64_t columns = martlet_mask_column_count(mask), panels = martlet_mask_panel_count(mask);
    int32_t count = 0;
    for (int64_t panel = 0; panel < panels; panel++) {
        mask->panels[panel] = count;
        const int64_t first = panel * mask->panel_columns, end = minimum(first + mask->panel_columns, columns);
        martlet_interval *target = mask->intervals ? mask->intervals + count : NULL;
        count += mask->bits ? matrix_intervals(mask, first, end, target) : staircase_intervals(mask, first, end, target);
    }
    mask->panels[panels] = count;
    return count;
}

int64_t martlet_mask_work(const martlet_mask *mask, int64_t tile_rows) {
    int64_t work = 0;
    if (mask->role != MARTLET_WEIGHT_GRADIENT) {
        for (int32_t i = 0; i < mask->panels[martlet_mask_panel_count(mask)]; i++) {
            work += work_of_interval(&mask->intervals[i]);
        }
        return work;
    }
    for (int64_t m = 0; m < mask->outputs; m += tile_rows) {
        const int64_t m_end = minimum(m + tile_rows, mask->outputs);
        for (int64_t n = 0; n < mask->inputs; n += mask->panel_columns) {
            const int64_t n_end = minimum(n + mask->panel_columns, mask->inputs);
            work += martlet_mask_tile(mask, m, m_end, n, n_end) != TILE_IS_DEAD;
        }
    }
    return work;
}
