// Masks as structure: degrees are sorted, and the mask is a staircase; any other matrix is kept as bits. From either come the intervals
// that panels of columns read (mask_intervals.c) and the dead elements of what is packed or multiplied (mask_dead.c).
#include "mask.h"

#include <stdlib.h>

martlet_orders martlet_mask_orders(const martlet_mask *mask) {
    if (mask->bits) return (martlet_orders){NULL, NULL, NULL};
    const int32_t *const inputs = mask->input_sorted ? NULL : mask->input_order;
    const int32_t *const outputs = mask->output_sorted ? NULL : mask->output_order;
    switch (mask->role) {
        case MARTLET_FORWARD: return (martlet_orders){.columns = outputs, .inner = inputs};
        case MARTLET_INPUT_GRADIENT: return (martlet_orders){.columns = inputs, .inner = outputs};
        case MARTLET_WEIGHT_GRADIENT: return (martlet_orders){.rows = outputs, .columns = inputs};
    }
    return (martlet_orders){NULL, NULL, NULL};
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
            const int64_t middle = minimum(low + width, count);
            const int64_t high = minimum(low + 2 * width, count);
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
    mask->panels = allocate((size_t)martlet_mask_panel_count(mask) + 1, 4);
    mask->intervals = allocate(intervals_of_a_staircase * (size_t)martlet_mask_panel_count(mask), sizeof(martlet_interval));
    if (mask->input_degrees && mask->output_degrees && mask->input_order && mask->output_order && mask->extents &&
        mask->first && mask->scratch && mask->panels && mask->intervals) {
        return mask;
    }
    martlet_mask_destroy(mask);
    return NULL;
}

// Which sorted inputs each sorted output reads, and the other way round.
static void find_staircase(martlet_mask *mask) {
    int64_t live = 0;
    for (int64_t o = 0; o < mask->outputs; o++) {
        const int32_t degree = mask->output_degrees[mask->output_order[o]];
        while (live < mask->inputs) {
            const int32_t other = mask->input_degrees[mask->input_order[live]];
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
    find_staircase(mask);
    if (mask->role != MARTLET_WEIGHT_GRADIENT) martlet_mask_find_intervals(mask);
}

martlet_mask *martlet_mask_create_matrix(
    martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs, const uint64_t *bits,
    int64_t words_per_row) {
    martlet_mask *mask = create(isa, role, inputs, outputs);
    if (!mask) return NULL;
    mask->words_per_row = words_per_row;
    const size_t words = (size_t)(outputs * words_per_row);
    mask->bits = allocate(words, 8);
    mask->panels = allocate((size_t)martlet_mask_panel_count(mask) + 1, 4);
    if (!mask->bits || !mask->panels) {
        martlet_mask_destroy(mask);
        return NULL;
    }
    memcpy(mask->bits, bits, words * 8);
    if (role == MARTLET_WEIGHT_GRADIENT) return mask;
    // Counted first, then found.
    const int32_t count = martlet_mask_find_intervals(mask);
    mask->intervals = allocate((size_t)count, sizeof(martlet_interval));
    if (!mask->intervals) {
        martlet_mask_destroy(mask);
        return NULL;
    }
    martlet_mask_find_intervals(mask);
    return mask;
}

// The matrix of constant degrees, as they lie.
static martlet_mask *create_unsorted(
    martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs, const int32_t *input, const int32_t *output,
    int32_t strict) {
    const int64_t words_per_row = divide_up(inputs, 64);
    uint64_t *bits = allocate((size_t)(outputs * words_per_row), 8);
    if (!bits) return NULL;
    for (int64_t o = 0; o < outputs; o++) {
        for (int64_t i = 0; i < inputs; i++) {
            const int live = strict ? input[i] < output[o] : input[i] <= output[o];
            bits[o * words_per_row + (i >> 6)] |= (uint64_t)live << (i & 63);
        }
    }
    martlet_mask *mask = martlet_mask_create_matrix(isa, role, inputs, outputs, bits, words_per_row);
    free(bits);
    return mask;
}

martlet_mask *martlet_mask_create_constant(
    martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs, const int32_t *input, const int32_t *output,
    int32_t strict) {
    martlet_mask *sorted = martlet_mask_create_degrees(isa, role, inputs, outputs, strict);
    if (!sorted) return NULL;
    martlet_mask_set_degrees(sorted, input, output);
    if (sorted->input_sorted && sorted->output_sorted) return sorted;
    martlet_mask *plain = create_unsorted(isa, role, inputs, outputs, input, output, strict);
    if (!plain) return sorted;
    const int64_t tile_rows = martlet_isa_table(isa)->tile_rows;
    // Sorting reads and writes what it sorts once more; for a weight gradient that is packed in any case.
    const int64_t gain = role == MARTLET_WEIGHT_GRADIENT ? 16 : 4;
    const int pays = gain * martlet_mask_work(plain, tile_rows) > (gain + 1) * martlet_mask_work(sorted, tile_rows);
    martlet_mask_destroy(pays ? plain : sorted);
    return pays ? sorted : plain;
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
