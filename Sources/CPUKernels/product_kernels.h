// Register tiles of the product: what a block of it is multiplied by, once for each instruction set.

#define STEP                                                                                              \
    vf line[TILE_VECTORS];                                                                                \
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) line[v] = LOAD_F(b, v * WIDTH);  \
    _Pragma("clang loop unroll(full)") for (int r = 0; r < rows; r++) {                                   \
        const vf x = splat(is_along ? rows_of_three[r / 3][r % 3 * a_row] : a[r]);                        \
        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) {                            \
            sums[r][v] = FMA(x, line[v], sums[r][v]);                                                     \
        }                                                                                                 \
    }                                                                                                     \
    if (is_along) {                                                                                       \
        _Pragma("clang loop unroll(full)") for (int i = 0; i < (rows + 2) / 3; i++) rows_of_three[i]++;   \
    }                                                                                                     \
    a += a_step;                                                                                          \
    b += b_step;

// A tile of `rows` x `vectors` accumulators; both are constants where this is inlined, so that the accumulators are
// registers. The inner steps of b lie `b_step` elements apart. Of a, rows are neighbours and the inner steps lie `a_step` apart, or
// (`is_along`, a constant too) the inner steps are neighbours and rows lie `a_row` apart: then an address serves three rows, as
// one for each would take more registers than there are. A line of `ahead` is fetched into the second-level cache with each of the
// first steps, so that memory works while the arithmetic does.
INLINE void tile_body(const int rows, const int vectors, const int is_along, const martlet_tile *t) {
    const int64_t k = t->k, a_row = t->a_row, a_step = t->a_step, b_step = t->b_step, stride = t->stride;
    const float *a = t->a, *b = t->b;
    float *const c = t->c;
    const int32_t live = t->live, accumulate = t->accumulate;
    const float *rows_of_three[(TILE_ROWS + 2) / 3];
    for (int i = 0; i < (rows + 2) / 3; i++) rows_of_three[i] = a + 3 * i * a_row;
    vf sums[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
            sums[r][v] = accumulate == TILE_CONTINUES ? LOAD_F(c, r * stride + v * WIDTH) : splat(0);
            if (accumulate == TILE_ADDS) __builtin_prefetch(c + r * stride + v * WIDTH);
        }
    }
    int64_t p = 0;
    for (int32_t i = 0; i < t->ahead_count; i++) {
        const char *line = t->ahead[i].first;
        const int64_t end = k - p < t->ahead[i].count ? k : p + t->ahead[i].count, step = t->ahead[i].step;
        for (; p < end; p++, line += step) {
            __builtin_prefetch(line, 0, 2);
            STEP
        }
    }
    for (; p < k; p++) {
        STEP
    }
#undef STEP
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
            float *place = c + r * stride + v * WIDTH;
            if (live - v * WIDTH >= WIDTH) {
                STORE_F(place, 0, accumulate == TILE_ADDS ? LOAD_F(place, 0) + sums[r][v] : sums[r][v]);
            } else if (live > v * WIDTH) {
                const int64_t n = live - v * WIDTH;
                store_first(place, n, accumulate == TILE_ADDS ? load_first(place, n) + sums[r][v] : sums[r][v]);
            }
        }
    }
}

typedef void (*tile_function)(const martlet_tile *t);

#define TILE(rows, vectors, is_along) \
    static void tile_##rows##_##vectors##_##is_along(const martlet_tile *t) { tile_body(rows, vectors, is_along, t); }
#define TILES(rows) TILE(rows, 1, 0) TILE(rows, 1, 1) TILE(rows, 2, 0) TILE(rows, 2, 1)
#define ENTRY(rows) [rows] = {{NULL}, {tile_##rows##_1_0, tile_##rows##_1_1}, {tile_##rows##_2_0, tile_##rows##_2_1}}

TILES(1)
TILES(2)
TILES(3)
TILES(4)
#if TILE_ROWS > 4
TILES(5)
TILES(6)
#endif
#if TILE_ROWS > 6
TILES(7)
TILES(8)
TILES(9)
TILES(10)
TILES(11)
#endif

static const tile_function tile_functions[TILE_ROWS + 1][TILE_VECTORS + 1][2] = {
    ENTRY(1), ENTRY(2), ENTRY(3), ENTRY(4),
#if TILE_ROWS > 4
    ENTRY(5), ENTRY(6),
#endif
#if TILE_ROWS > 6
    ENTRY(7), ENTRY(8), ENTRY(9), ENTRY(10), ENTRY(11),
#endif
};
#undef TILE
#undef TILES
#undef ENTRY

static void tile(const martlet_tile *t) { tile_functions[t->rows][t->columns / WIDTH][t->a_row != 1](t); }
