// Sums whose tree depends on the count alone: it is the same for every vector width.

// Lane j of 64 adds up elements j, j + 64, ..; then the lanes are added pairwise, the upper half to the lower.
static float sum_chunk(const float *source, int64_t count) {
    vf lanes[64 / WIDTH];
    for (int l = 0; l < 64 / WIDTH; l++) lanes[l] = splat(0);
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) {
        for (int l = 0; l < 64 / WIDTH; l++) lanes[l] += LOAD_F(source, i + l * WIDTH);
    }
    for (int l = 0; l < 64 / WIDTH && i < count; l++, i += WIDTH) {
        lanes[l] += i + WIDTH <= count ? LOAD_F(source, i) : load_part(source + i, count - i);
    }
    float sums[64];
    memcpy(sums, lanes, sizeof sums);
    for (int half = 32; half > 0; half /= 2) {
        for (int j = 0; j < half; j++) sums[j] += sums[j + half];
    }
    return sums[0];
}

// sums[j] += source[row][j] over the rows, one after the other.
static void add_rows(float *sums, const float *source, int64_t rows, int64_t stride, int64_t columns) {
    int64_t j = 0;
    for (; j + 2 * WIDTH <= columns; j += 2 * WIDTH) {
        vf a = LOAD_F(sums, j), b = LOAD_F(sums, j + WIDTH);
        for (int64_t r = 0; r < rows; r++) {
            a += LOAD_F(source, r * stride + j);
            b += LOAD_F(source, r * stride + j + WIDTH);
        }
        STORE_F(sums, j, a);
        STORE_F(sums, j + WIDTH, b);
    }
    for (; j < columns; j++) {
        float a = sums[j];
        for (int64_t r = 0; r < rows; r++) a += source[r * stride + j];
        sums[j] = a;
    }
}

#define LEVEL_FUNCTIONS                                                                                       \
    {                                                                                                         \
        .float_kernels = float_kernels, .integer_kernels = integer_kernels, .tile_rows = TILE_ROWS,           \
        .tile_columns = TILE_VECTORS * WIDTH, .tile = tile, .pack = pack, .sum = sum_chunk, .add_rows = add_rows, \
        .add_shared_products = add_shared_products, .add_lane_products = add_lane_products,                    \
        .add_shared_products_of_four = add_shared_products_of_four, .add_products = add_products,              \
        .add_packed_products = add_packed_products, .width = WIDTH,                                            \
        .conv_rows = CONV_ROWS, .conv_vectors = CONV_VECTORS, .gradient_vectors = GRADIENT_VECTORS,            \
        .gradient_rows = gradient_rows, .convolution_sums = convolution_sums,                                  \
        .convolution_gradient = convolution_gradient, .convolution_dots = convolution_dots,                    \
        .copy_row = copy_row, .copy_rows = copy_rows, .add_row = add_row                                       \
    }
