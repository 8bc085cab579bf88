// Reductions whose tree depends on the count alone: it is the same for every vector width. Floats are added up in double
// precision, so that a sum of floats is rounded once.

#define DOUBLES(x) __builtin_convertvector((x), vd)

// Lane j of 32 adds up elements j, j + 32, ..; then the lanes are added pairwise, the upper half to the lower.
static double sum_line(const float *source, int64_t count) {
    vd lanes[32 / WIDTH];
    for (int l = 0; l < 32 / WIDTH; l++) lanes[l] = (vd)(0.0);
    int64_t i = 0;
    for (; i + 32 <= count; i += 32) {
        for (int l = 0; l < 32 / WIDTH; l++) lanes[l] += DOUBLES(LOAD_F(source, i + l * WIDTH));
        // Two additions a line leave little time to look ahead.
        __builtin_prefetch(source + i + 512);
        __builtin_prefetch(source + i + 528);
    }
    for (int l = 0; l < 32 / WIDTH && i < count; l++, i += WIDTH) {
        lanes[l] += i + WIDTH <= count ? DOUBLES(LOAD_F(source, i))
                                       : DOUBLES(load_first(source + i, count - i));
    }
    double sums[32];
    memcpy(sums, lanes, sizeof sums);
    for (int half = 16; half > 0; half /= 2) {
        for (int j = 0; j < half; j++) sums[j] += sums[j + half];
    }
    return sums[0];
}

// sums[j] += source[row][j] over the rows, one after the other.
static void add_rows(double *sums, const float *source, int64_t rows, int64_t stride, int64_t columns) {
    int64_t j = 0;
    for (; j + 2 * WIDTH <= columns; j += 2 * WIDTH) {
        vd a, b;
        memcpy(&a, sums + j, sizeof a);
        memcpy(&b, sums + j + WIDTH, sizeof b);
        for (int64_t r = 0; r < rows; r++) {
            a += DOUBLES(LOAD_F(source, r * stride + j));
            b += DOUBLES(LOAD_F(source, r * stride + j + WIDTH));
        }
        memcpy(sums + j, &a, sizeof a);
        memcpy(sums + j + WIDTH, &b, sizeof b);
    }
    for (; j < columns; j++) {
        for (int64_t r = 0; r < rows; r++) sums[j] += (double)source[r * stride + j];
    }
}

// The larger (or smaller) of two, or the one that is no number.
INLINE vf further(vf a, vf b, int is_minimum) { return choose((is_minimum ? a < b : a > b) | (a != a), a, b); }
INLINE double further_of_two(double a, double b, int is_minimum) {
    return (is_minimum ? a < b : a > b) || a != a ? a : b;
}

// The largest (or smallest) of some elements, at least one.
static double extreme_of_line(const float *source, int64_t count, int is_minimum) {
    double best = (double)source[0];
    int64_t i = 0;
    if (count >= 2 * WIDTH) {
        vf a = LOAD_F(source, 0), b = LOAD_F(source, WIDTH);
        for (i = 2 * WIDTH; i + 2 * WIDTH <= count; i += 2 * WIDTH) {
            a = further(a, LOAD_F(source, i), is_minimum);
            b = further(b, LOAD_F(source, i + WIDTH), is_minimum);
        }
        a = further(a, b, is_minimum);
        for (int j = 0; j < WIDTH; j++) best = further_of_two(best, (double)a[j], is_minimum);
    }
    for (; i < count; i++) best = further_of_two(best, (double)source[i], is_minimum);
    return best;
}

// best[j] = the larger (or smaller) of it and source[row][j] over the rows.
static void extreme_of_rows(
    double *best, const float *source, int64_t rows, int64_t stride, int64_t columns, int is_minimum) {
    int64_t j = 0;
    for (; j + WIDTH <= columns; j += WIDTH) {
        vf a = LOAD_F(source, j);
        for (int64_t r = 1; r < rows; r++) a = further(a, LOAD_F(source, r * stride + j), is_minimum);
        for (int k = 0; k < WIDTH; k++) best[j + k] = further_of_two(best[j + k], (double)a[k], is_minimum);
    }
    for (; j < columns; j++) {
        for (int64_t r = 0; r < rows; r++) best[j] = further_of_two(best[j], (double)source[r * stride + j], is_minimum);
    }
}

#define ISA_FUNCTIONS                                                                                     \
    {                                                                                                     \
        .float_kernels = float_kernels, .integer_kernels = integer_kernels, .tile_rows = TILE_ROWS,       \
        .tile_columns = TILE_VECTORS * WIDTH, .tile = tile, .pack = pack, .pack_in_order = pack_in_order, \
        .stream = stream, .sum_line = sum_line, .add_rows = add_rows,                                     \
        .extreme_of_line = extreme_of_line, .extreme_of_rows = extreme_of_rows,                           \
        .add_shared_products = add_shared_products, .add_lane_products = add_lane_products,               \
        .add_shared_products_of_four = add_shared_products_of_four, .add_products = add_products,         \
        .add_packed_products = add_packed_products, .lane_attention = lane_attention, .width = WIDTH,     \
        .conv_rows = CONV_ROWS, .conv_vectors = CONV_VECTORS, .gradient_vectors = GRADIENT_VECTORS,       \
        .gradient_rows = gradient_rows, .convolution_sums = convolution_sums,                             \
        .convolution_gradient = convolution_gradient, .convolution_dots = convolution_dots,               \
        .copy_row = copy_row, .copy_rows = copy_rows, .add_row = add_row,                                 \
        .pair_forms = pair_forms, .pair_results = pair_results, .pair_columns = pair_columns,             \
        .attention_forward = attention_forward, .attention_queries = attention_queries,                   \
        .attention_keys = attention_keys                                                                  \
    }
