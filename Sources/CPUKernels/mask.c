// Masks as structure: from degrees or a matrix to the intervals of the inner axis that each panel of columns reads, and to
// dead, mixed and live tiles of a weight gradient.
#include "mask.h"

#include <stdlib.h>

const int32_t *martlet_mask_inner_order(const martlet_mask *mask) {
    if (mask->bits) return NULL;
    if (mask->role == MARTLET_FORWARD) return mask->input_sorted ? NULL : mask->input_order;
    if (mask->role == MARTLET_INPUT_GRADIENT) return mask->output_sorted ? NULL : mask->output_order;
    return NULL;
}

const int32_t *martlet_mask_column_order(const martlet_mask *mask) {
    if (mask->bits) return NULL;
    if (mask->role == MARTLET_FORWARD) return mask->output_sorted ? NULL : mask->output_order;
    return mask->input_sorted ? NULL : mask->input_order;
}

const int32_t *martlet_mask_row_order(const martlet_mask *mask) {
    if (mask->bits || mask->role != MARTLET_WEIGHT_GRADIENT) return NULL;
    return mask->output_sorted ? NULL : mask->output_order;
}

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
        const int64_t end = mask->extents[m] < n1 ? mask->extents[m] : n1;
        return end > n0 ? end - n0 : 0;
    }
    int64_t count = 0;
    for (int64_t n = n0; n < n1; n += 64) count += __builtin_popcountll(word_of_row(mask, m, n, n1));
    return count;
}

int martlet_mask_tile(const martlet_mask *mask, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    // The extents of sorted rows grow.
    if (!mask->bits) return mask->extents[m1 - 1] <= n0 ? 0 : mask->extents[m0] >= n1 ? 2 : 1;
    int64_t live = 0;
    for (int64_t m = m0; m < m1; m++) live += live_in_row(mask, m, n0, n1);
    return live == 0 ? 0 : live == (m1 - m0) * (n1 - n0) ? 2 : 1;
}

void martlet_mask_clear_tile(
    const martlet_mask *mask, float *tile, int64_t stride, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    for (int64_t m = m0; m < m1; m++) {
        float *row = tile + (m - m0) * stride;
        if (mask->bits) {
            clear_row(mask, row, m, n0, n1);
        } else {
            for (int64_t n = mask->extents[m] > n0 ? mask->extents[m] : n0; n < n1; n++) row[n - n0] = 0;
        }
    }
}

// A stable merge sort of indices by degree.
static int32_t sort_by_degree(const int32_t *degrees, int64_t count, int32_t *order, int32_t *scratch) {
    int32_t sorted = 1;
    for (int64_t i = 0; i < count; i++) {
        order[i] = (int32_t)i;
        if (i > 0 && degrees[i] < degrees[i - 1]) sorted = 0;
    }
    if (sorted) return 1;
    int32_t *from = order, *to = scratch;
    for (int64_t width = 1; width < count; width *= 2) {
        for (int64_t low = 0; low < count; low += 2 * width) {
            const int64_t middle = low + width < count ? low + width : count;
            const int64_t high = low + 2 * width < count ? low + 2 * width : count;
            int64_t a = low, b = middle;
            for (int64_t i = low; i < high; i++) {
                const int take_a = a < middle && (b >= high || degrees[from[a]] <= degrees[from[b]]);
                to[i] = take_a ? from[a++] : from[b++];
            }
        }
        int32_t *other = from;
        from = to;
        to = other;
    }
    if (from != order) {
        for (int64_t i = 0; i < count; i++) order[i] = from[i];
    }
    return 0;
}

static int64_t inner_count(const martlet_mask *mask) {
    return mask->role == MARTLET_FORWARD ? mask->inputs : mask->outputs;
}
static int64_t column_count(const martlet_mask *mask) {
    return mask->role == MARTLET_FORWARD ? mask->outputs : mask->inputs;
}

// How many of the columns [n0, n1) read row k.
static int64_t live_in_inner_row(const martlet_mask *mask, int64_t k, int64_t n0, int64_t n1) {
    if (mask->role == MARTLET_INPUT_GRADIENT) return n1 > n0 ? live_in_row(mask, k, n0, n1) : 0;
    int64_t live = 0;
    for (int64_t n = n0; n < n1; n++) live += reads(mask, k, n);
    return live;
}

// What the panel [n0, n1) reads of row k.
static martlet_interval row_state(const martlet_mask *mask, int64_t k, int64_t n0, int64_t n1) {
    const int64_t half = mask->panel_columns / 2, middle = n0 + half < n1 ? n0 + half : n1;
    const int64_t left = live_in_inner_row(mask, k, n0, middle), right = live_in_inner_row(mask, k, middle, n1);
    martlet_interval state = {0};
    state.halves = (left ? LEFT_HALF : 0) | (right ? RIGHT_HALF : 0);
    state.full = (!left || left == middle - n0) && (!right || right == n1 - middle);
    return state;
}

void martlet_mask_clear_panel(
    const martlet_mask *mask, float *packed, int64_t panel, int64_t start, int64_t end, int32_t width) {
    const int64_t column = panel * mask->panel_columns, rest = column_count(mask) - column;
    for (int32_t v = mask->panels[panel]; v < mask->panels[panel + 1]; v++) {
        const martlet_interval *interval = &mask->intervals[v];
        const int64_t from = interval->start > start ? interval->start : start, to = interval->end < end ? interval->end : end;
        if (interval->full || from >= to) continue;
        clear_rows(
            mask, packed + (from - start) * width, from, to, column, rest < mask->panel_columns ? rest : mask->panel_columns,
            width);
    }
}

// Beginning a run costs as much as these steps of half a tile do.
enum { steps_of_a_beginning = 32 };

// Steps of half a tile that an interval takes.
static int64_t work_of_interval(const martlet_interval *v) {
    return (v->end - v->start) * (v->halves == BOTH_HALVES ? 2 : 1) + steps_of_a_beginning;
}

// Intervals of the panel [n0, n1); `target` may be NULL to count them. Scattered ones are joined where that is less work.
static int32_t matrix_intervals(const martlet_mask *mask, int64_t n0, int64_t n1, martlet_interval *target) {
    const int64_t inner = inner_count(mask);
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

enum { intervals_of_a_staircase = 4 };

static int32_t add_interval(
    martlet_interval *target, int32_t count, int64_t start, int64_t end, int32_t full, martlet_halves halves) {
    if (start >= end) return count;
    target[count] = (martlet_interval){(int32_t)start, (int32_t)end, full, halves};
    return count + 1;
}

static int32_t staircase_intervals(const martlet_mask *mask, int64_t n0, int64_t n1, martlet_interval *target) {
    const int64_t half = mask->panel_columns / 2, middle = n0 + half < n1 ? n0 + half : n1;
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

static void *allocate(size_t count, size_t size) { return calloc(count > 0 ? count : 1, size); }

static martlet_mask *create(martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs) {
    martlet_mask *mask = calloc(1, sizeof *mask);
    if (!mask) return NULL;
    mask->role = role;
    mask->inputs = inputs;
    mask->outputs = outputs;
    mask->panel_columns = martlet_isa_table(isa)->tile_columns;
    return mask;
}

static int64_t panel_count(const martlet_mask *mask) {
    return (column_count(mask) + mask->panel_columns - 1) / mask->panel_columns;
}

martlet_mask *martlet_mask_create_degrees(
    martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs, int32_t strict) {
    martlet_mask *mask = create(isa, role, inputs, outputs);
    if (!mask) return NULL;
    mask->strict = strict;
    const size_t larger = (size_t)(inputs > outputs ? inputs : outputs);
    mask->input_degrees = allocate((size_t)inputs, 4);
    mask->output_degrees = allocate((size_t)outputs, 4);
    mask->input_order = allocate((size_t)inputs, 4);
    mask->output_order = allocate((size_t)outputs, 4);
    mask->extents = allocate((size_t)outputs, 4);
    mask->first = allocate((size_t)inputs, 4);
    mask->scratch = allocate(larger, 4);
    mask->panels = allocate((size_t)panel_count(mask) + 1, 4);
    mask->intervals = allocate(intervals_of_a_staircase * (size_t)panel_count(mask), sizeof(martlet_interval));
    if (mask->input_degrees && mask->output_degrees && mask->input_order && mask->output_order && mask->extents &&
        mask->first && mask->scratch && mask->panels && mask->intervals) {
        return mask;
    }
    martlet_mask_destroy(mask);
    return NULL;
}

void martlet_mask_set_degrees(martlet_mask *mask, const int32_t *input, const int32_t *output) {
    const size_t input_bytes = (size_t)mask->inputs * 4, output_bytes = (size_t)mask->outputs * 4;
    if (mask->valid && memcmp(mask->input_degrees, input, input_bytes) == 0 &&
        memcmp(mask->output_degrees, output, output_bytes) == 0) {
        return;
    }
    memcpy(mask->input_degrees, input, input_bytes);
    memcpy(mask->output_degrees, output, output_bytes);
    mask->valid = 1;
    mask->input_sorted = sort_by_degree(input, mask->inputs, mask->input_order, mask->scratch);
    mask->output_sorted = sort_by_degree(output, mask->outputs, mask->output_order, mask->scratch);
    int64_t live = 0;
    for (int64_t o = 0; o < mask->outputs; o++) {
        const int32_t degree = output[mask->output_order[o]];
        while (live < mask->inputs) {
            const int32_t other = input[mask->input_order[live]];
            if (mask->strict ? other >= degree : other > degree) break;
            live++;
        }
        mask->extents[o] = (int32_t)live;
    }
    int64_t o = 0;
    for (int64_t i = 0; i < mask->inputs; i++) {
        while (o < mask->outputs && mask->extents[o] <= i) o++;
        mask->first[i] = (int32_t)o;
    }
    if (mask->role == MARTLET_WEIGHT_GRADIENT) return;
    const int64_t columns = column_count(mask), width = mask->panel_columns;
    int32_t count = 0;
    for (int64_t panel = 0; panel < panel_count(mask); panel++) {
        mask->panels[panel] = count;
        const int64_t end = (panel + 1) * width < columns ? (panel + 1) * width : columns;
        count += staircase_intervals(mask, panel * width, end, mask->intervals + count);
    }
    mask->panels[panel_count(mask)] = count;
}

martlet_mask *martlet_mask_create_matrix(
    martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs, const uint64_t *bits,
    int64_t words_per_row) {
    martlet_mask *mask = create(isa, role, inputs, outputs);
    if (!mask) return NULL;
    mask->words_per_row = words_per_row;
    const size_t words = (size_t)(outputs * words_per_row);
    mask->bits = allocate(words, 8);
    mask->panels = allocate((size_t)panel_count(mask) + 1, 4);
    if (!mask->bits || !mask->panels) {
        martlet_mask_destroy(mask);
        return NULL;
    }
    memcpy(mask->bits, bits, words * 8);
    if (role == MARTLET_WEIGHT_GRADIENT) return mask;
    const int64_t columns = column_count(mask), width = mask->panel_columns;
    int32_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            mask->intervals = allocate((size_t)count, sizeof(martlet_interval));
            if (!mask->intervals) {
                martlet_mask_destroy(mask);
                return NULL;
            }
        }
        count = 0;
        for (int64_t panel = 0; panel < panel_count(mask); panel++) {
            mask->panels[panel] = count;
            const int64_t end = (panel + 1) * width < columns ? (panel + 1) * width : columns;
            count += matrix_intervals(mask, panel * width, end, pass ? mask->intervals + count : NULL);
        }
        mask->panels[panel_count(mask)] = count;
    }
    return mask;
}

// Steps of half a tile that a mask leaves to be done; tiles for a weight gradient.
static int64_t work_of(const martlet_mask *mask, int64_t tile_rows) {
    int64_t work = 0;
    if (mask->role != MARTLET_WEIGHT_GRADIENT) {
        for (int32_t i = 0; i < mask->panels[panel_count(mask)]; i++) {
            work += work_of_interval(&mask->intervals[i]);
        }
        return work;
    }
    for (int64_t m = 0; m < mask->outputs; m += tile_rows) {
        const int64_t m_end = m + tile_rows < mask->outputs ? m + tile_rows : mask->outputs;
        for (int64_t n = 0; n < mask->inputs; n += mask->panel_columns) {
            const int64_t n_end = n + mask->panel_columns < mask->inputs ? n + mask->panel_columns : mask->inputs;
            work += martlet_mask_tile(mask, m, m_end, n, n_end) != 0;
        }
    }
    return work;
}

martlet_mask *martlet_mask_create_constant(
    martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs, const int32_t *input, const int32_t *output,
    int32_t strict) {
    martlet_mask *sorted = martlet_mask_create_degrees(isa, role, inputs, outputs, strict);
    if (!sorted) return NULL;
    martlet_mask_set_degrees(sorted, input, output);
    if (sorted->input_sorted && sorted->output_sorted) return sorted;
    const int64_t words_per_row = (inputs + 63) / 64;
    uint64_t *bits = allocate((size_t)(outputs * words_per_row), 8);
    martlet_mask *plain = NULL;
    if (bits) {
        for (int64_t o = 0; o < outputs; o++) {
            for (int64_t i = 0; i < inputs; i++) {
                const int live = strict ? input[i] < output[o] : input[i] <= output[o];
                bits[o * words_per_row + (i >> 6)] |= (uint64_t)live << (i & 63);
            }
        }
        plain = martlet_mask_create_matrix(isa, role, inputs, outputs, bits, words_per_row);
        free(bits);
    }
    const int64_t tile_rows = martlet_isa_table(isa)->tile_rows;
    // Sorting reads and writes what it sorts once more; for a weight gradient that is packed in any case.
    const int64_t gain = role == MARTLET_WEIGHT_GRADIENT ? 16 : 4;
    if (plain && gain * work_of(plain, tile_rows) <= (gain + 1) * work_of(sorted, tile_rows)) {
        martlet_mask_destroy(sorted);
        return plain;
    }
    if (plain) martlet_mask_destroy(plain);
    return sorted;
}

void martlet_mask_destroy(martlet_mask *mask) {
    free(mask->input_degrees);
    free(mask->output_degrees);
    free(mask->input_order);
    free(mask->output_order);
    free(mask->extents);
    free(mask->first);
    free(mask->scratch);
    free(mask->bits);
    free(mask->panels);
    free(mask->intervals);
    free(mask);
}
