// Sums of products over lanes. Every lane has the same tree (four partial sums, by position in the range), whatever the
// number of lanes, so that an example is the same to the bit in any batch.

#define LANE_VECTORS (16 / WIDTH)

/// sums[4][16] += over j of a[j * aStride + lane] * b[j * bStride (+ lane)].
#define ADD_PRODUCTS(name, load_b)                                                                                     \
    static void name(                                                                                                  \
        float *sums, const float *a, int64_t aStride, const float *b, int64_t bStride, int64_t count) {                \
        vf s[4][LANE_VECTORS];                                                                                         \
        for (int p = 0; p < 4; p++)                                                                                    \
            for (int v = 0; v < LANE_VECTORS; v++) s[p][v] = *(const vf_at *)(sums + p * 16 + v * WIDTH);              \
        int64_t j = 0;                                                                                                 \
        for (; j + 4 <= count; j += 4) {                                                                               \
            for (int p = 0; p < 4; p++) {                                                                              \
                const float *x = a + (j + p) * aStride, *y = b + (j + p) * bStride;                                    \
                for (int v = 0; v < LANE_VECTORS; v++) s[p][v] = FMA(*(const vf_at *)(x + v * WIDTH), load_b, s[p][v]); \
            }                                                                                                          \
        }                                                                                                              \
        for (; j < count; j++) {                                                                                       \
            const int p = (int)(j & 3);                                                                                \
            const float *x = a + j * aStride, *y = b + j * bStride;                                                    \
            for (int v = 0; v < LANE_VECTORS; v++) s[p][v] = FMA(*(const vf_at *)(x + v * WIDTH), load_b, s[p][v]);     \
        }                                                                                                              \
        for (int p = 0; p < 4; p++)                                                                                    \
            for (int v = 0; v < LANE_VECTORS; v++) *(vf_at *)(sums + p * 16 + v * WIDTH) = s[p][v];                    \
    }

ADD_PRODUCTS(add_shared_products, splat(*y))
ADD_PRODUCTS(add_lane_products, *(const vf_at *)(y + v * WIDTH))

/// sums[4][4][16], one block of four partial sums for each of four rows of b, which lie `bRow` apart.
static void add_shared_products_of_four(
    float *sums, const float *a, int64_t aStride, const float *b, int64_t bStride, int64_t bRow, int64_t count) {
    // As many rows at once as leave their sums in registers.
    enum { ROWS = LANE_VECTORS == 1 ? 4 : 1 };
    for (int r0 = 0; r0 < 4; r0 += ROWS) {
        vf s[ROWS][4][LANE_VECTORS];
        for (int r = 0; r < ROWS; r++)
            for (int p = 0; p < 4; p++)
                for (int v = 0; v < LANE_VECTORS; v++)
                    s[r][p][v] = *(const vf_at *)(sums + ((r0 + r) * 4 + p) * 16 + v * WIDTH);
        int64_t j = 0;
        for (; j + 4 <= count; j += 4) {
            for (int p = 0; p < 4; p++) {
                const float *x = a + (j + p) * aStride, *y = b + (j + p) * bStride + r0 * bRow;
                for (int v = 0; v < LANE_VECTORS; v++) {
                    const vf value = *(const vf_at *)(x + v * WIDTH);
                    for (int r = 0; r < ROWS; r++) s[r][p][v] = FMA(value, splat(y[r * bRow]), s[r][p][v]);
                }
            }
        }
        for (int p = 0; p < 3; p++) {
            if (j + p >= count) break;
            const float *x = a + (j + p) * aStride, *y = b + (j + p) * bStride + r0 * bRow;
            for (int v = 0; v < LANE_VECTORS; v++) {
                const vf value = *(const vf_at *)(x + v * WIDTH);
                for (int r = 0; r < ROWS; r++) s[r][p][v] = FMA(value, splat(y[r * bRow]), s[r][p][v]);
            }
        }
        for (int r = 0; r < ROWS; r++)
            for (int p = 0; p < 4; p++)
                for (int v = 0; v < LANE_VECTORS; v++)
                    *(vf_at *)(sums + ((r0 + r) * 4 + p) * 16 + v * WIDTH) = s[r][p][v];
    }
}

/// sums[4] += over j of a[j * aStride] * b[j * bStride].
static void add_products(
    float *sums, const float *a, int64_t aStride, const float *b, int64_t bStride, int64_t count) {
    for (int64_t j = 0; j < count; j++) sums[j & 3] = FMA(a[j * aStride], b[j * bStride], sums[j & 3]);
}

/// sums[block][4][16] += over j of a[j * aStride] * packed[block][j][16].
static void add_packed_products(
    float *sums, const float *a, int64_t aStride, const float *packed, int64_t count, int64_t blocks) {
    // As many blocks at once as leave their sums in registers.
    enum { BLOCKS = LANE_VECTORS == 1 ? 2 : 1 };
    for (int64_t first = 0; first < blocks; first += BLOCKS) {
        const int64_t n = blocks - first < BLOCKS ? 1 : BLOCKS;
        vf s[BLOCKS][4][LANE_VECTORS];
        const float *y[BLOCKS];
        for (int k = 0; k < BLOCKS; k++) {
            // A block that is not there repeats the last one and is not stored.
            const int64_t block = first + (k < n ? k : 0);
            y[k] = packed + block * count * 16;
            for (int p = 0; p < 4; p++)
                for (int v = 0; v < LANE_VECTORS; v++)
                    s[k][p][v] = *(const vf_at *)(sums + (block * 4 + p) * 16 + v * WIDTH);
        }
        int64_t j = 0;
        for (; j + 4 <= count; j += 4) {
            for (int p = 0; p < 4; p++) {
                const vf x = splat(a[(j + p) * aStride]);
                for (int k = 0; k < BLOCKS; k++)
                    for (int v = 0; v < LANE_VECTORS; v++)
                        s[k][p][v] = FMA(x, *(const vf_at *)(y[k] + (j + p) * 16 + v * WIDTH), s[k][p][v]);
            }
        }
        for (int p = 0; p < 3; p++) {
            if (j + p >= count) break;
            const vf x = splat(a[(j + p) * aStride]);
            for (int k = 0; k < BLOCKS; k++)
                for (int v = 0; v < LANE_VECTORS; v++)
                    s[k][p][v] = FMA(x, *(const vf_at *)(y[k] + (j + p) * 16 + v * WIDTH), s[k][p][v]);
        }
        for (int k = 0; k < n; k++)
            for (int p = 0; p < 4; p++)
                for (int v = 0; v < LANE_VECTORS; v++)
                    *(vf_at *)(sums + ((first + k) * 4 + p) * 16 + v * WIDTH) = s[k][p][v];
    }
}
