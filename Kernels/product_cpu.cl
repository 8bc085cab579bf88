// The product on an OpenCL processor: one work-item for a strip of up to STRIP tiles of 6 rows, 64 columns wide.
//
// The walk of a strip (KERNEL_strip): DEPTH rows of k of B at a time become a panel that stays in the cache of its core, with masked
// elements as zeros, and meet every tile of the strip there (KERNEL_multiply); A has been packed by another kernel. The 24 sums of a
// tile, of sixteen lanes each, fill the vector registers and rest in memory between two panels. Sums run over k in order.
//
// There are two kernels of this text. One takes a strip and hands its rows to the epilogue. With WHOLE_ROWS a work-item takes
// strip after strip, every live tile of columns of each, and then whole rows through product_finish.cl: the way of a weight gradient
// whose columns are sorted.
//
// Macros: MASK, ROLE and orders as in mask.cl; DEAD_STAY_ZERO where dead tiles may be left alone; A_BATCHES where A has
// panels for each batch; PACKED_B where B has been packed as well (then B_BATCHES like A_BATCHES), else those of pack_b.cl with
// SOURCE_PARAMETERS, SOURCE_ARGUMENTS and SOURCE_BASE(z); EPILOGUE_PARAMETERS and EPILOGUE_ARGUMENTS of the functions
// KERNEL_epilogue1 and KERNEL_epilogue16(m, n, z, product, ..).

#define STRIP 48
#define DEPTH 256
#define GATHERED DEPTH

#ifdef PACKED_B
#define PANEL __global
#define B_PARAMETERS , __global const float* b
#define B_ARGUMENTS , b
#define B_START(z) 0
#else
#define PANEL __private
#define B_PARAMETERS SOURCE_PARAMETERS
#define B_ARGUMENTS SOURCE_ARGUMENTS
// Where batch z begins: by the extents of the batch, which are among the kernel's parameters.
#define B_START(z) (SOURCE_BASE(z))
#endif

// What every function that knows the problem takes and hands on.
#define PRODUCT_PARAMETERS \
    __global const float* a, const int M, const int N, const int K, const int strip B_PARAMETERS MASK_PARAMETERS \
        K_ORDER_PARAMETER N_ORDER_PARAMETER M_ORDER_PARAMETER COUNTER_PARAMETER
#define PRODUCT_ARGUMENTS \
    a, M, N, K, strip B_ARGUMENTS MASK_ARGUMENTS K_ORDER_ARGUMENT N_ORDER_ARGUMENT M_ORDER_ARGUMENT COUNTER_ARGUMENT

// Row r of a tile in registers: taken from memory, multiplied by a row of the panel (b0 to b3), put back.
#define MARTLET_TAKE(r) \
    float16 c##r##0 = tile[r * 4], c##r##1 = tile[r * 4 + 1], c##r##2 = tile[r * 4 + 2], c##r##3 = tile[r * 4 + 3];
#define MARTLET_ROW(r) \
    { \
        const float16 x = (float16)(pa[r]); \
        c##r##0 = x * b0 + c##r##0; \
        c##r##1 = x * b1 + c##r##1; \
        c##r##2 = x * b2 + c##r##2; \
        c##r##3 = x * b3 + c##r##3; \
    }
#define MARTLET_KEEP(r) tile[r * 4] = c##r##0, tile[r * 4 + 1] = c##r##1, tile[r * 4 + 2] = c##r##2, tile[r * 4 + 3] = c##r##3;

// Adds the product of a panel of A and a panel of B, `depth` rows of k, to the sums of a tile.
static inline void MARTLET_NAME(KERNEL, _multiply)(
    __global const float* pa, PANEL const float* panel, const int depth, float16* tile) {
    MARTLET_TAKE(0) MARTLET_TAKE(1) MARTLET_TAKE(2) MARTLET_TAKE(3) MARTLET_TAKE(4) MARTLET_TAKE(5)
    for (int i = 0; i < depth; i++) {
        const float16 b0 = vload16(i * 4, panel), b1 = vload16(i * 4 + 1, panel);
        const float16 b2 = vload16(i * 4 + 2, panel), b3 = vload16(i * 4 + 3, panel);
        MARTLET_ROW(0) MARTLET_ROW(1) MARTLET_ROW(2) MARTLET_ROW(3) MARTLET_ROW(4) MARTLET_ROW(5)
        pa += 6;
    }
    MARTLET_KEEP(0) MARTLET_KEEP(1) MARTLET_KEEP(2) MARTLET_KEEP(3) MARTLET_KEEP(4) MARTLET_KEEP(5)
}

// Makes `tiles` tiles of rows from `firstTile` on, in tile `nTile` of columns: row r of the strip is sums[r * 4] to sums[r * 4 + 3].
// Returns whether any of the tiles lives; where none does, the sums are zeros.
static inline int MARTLET_NAME(KERNEL, _strip)(
    float16* sums, const int firstTile, const int tiles, const int nTile, const int nTiles, const int z, const int startB,
    PRODUCT_PARAMETERS) {
    const int n0 = nTile * 64;
#ifdef A_BATCHES
    __global const float* panelsA = a + (size_t)(z * ((M + 5) / 6) + firstTile) * K * 6;
#else
    __global const float* panelsA = a + (size_t)firstTile * K * 6;
#endif
#ifndef PACKED_B
    __global const float* from = source + startB;
    float16 aligned[DEPTH * 4];
    float* panel = (float*)aligned;
#elif defined(B_BATCHES)
    __global const float* panelB = b + (size_t)(z * nTiles + nTile) * K * 64;
#else
    __global const float* panelB = b + (size_t)nTile * K * 64;
#endif
    for (int i = 0; i < tiles * 24; i++) sums[i] = (float16)(0.0f);
    // Sorted rows live from some tile on: where the last does not, none does.
    int lives = 0;
    for (int t = 0; t < tiles; t++) lives |= TILE_LIVES(firstTile + t, nTile, (firstTile + t) * 6, 6, n0);
    if (!lives) return 0;
    for (int interval = FIRST_INTERVAL(nTile); interval < LAST_INTERVAL(nTile); interval++) {
        const int end = INTERVAL_END(interval, n0, 64);
        for (int base = INTERVAL_BEGIN(interval, n0, 64); base < end; base += DEPTH) {
            const int last = min(end, base + DEPTH);
#ifdef PACKED_B
            __global const float* panel = panelB + (size_t)base * 64;
#else
            int k = base;
// @include pack_b
#endif
            for (int t = 0; t < tiles; t++) {
                if (!TILE_LIVES(firstTile + t, nTile, (firstTile + t) * 6, 6, n0)) continue;
#ifdef COUNT_TILES
                atomic_add(executed, (last - base + 15) / 16);
#endif
                MARTLET_NAME(KERNEL, _multiply)(panelsA + ((size_t)t * K + base) * 6, panel, last - base, sums + t * 24);
            }
        }
    }
    return 1;
}

#ifdef WHOLE_ROWS
// The sums of a strip go to their place among whole rows.
static inline void MARTLET_NAME(KERNEL, _keep)(
    const float16* sums, const int rows, __global float* target, const size_t pitch) {
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < 4; c++) vstore16(sums[r * 4 + c], 0, target + r * pitch + c * 16);
    }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(PRODUCT_PARAMETERS, __global float* rowsOfAll PLACE_PARAMETER EPILOGUE_PARAMETERS) {
    const int z = 0;
    const int mTiles = (M + 5) / 6, nTiles = (N + 63) / 64;
    const size_t pitch = (size_t)nTiles * 64;
    __global float* whole = rowsOfAll + get_group_id(0) * strip * 6 * pitch;
    float16 sums[STRIP * 24];
    // The longest rows come first.
    const int stride = (int)get_num_groups(0) * strip;
    for (int firstTile = ((mTiles - 1) / strip - (int)get_group_id(0)) * strip; firstTile >= 0; firstTile -= stride) {
        const int tiles = min(strip, mTiles - firstTile);
        const int firstRow = firstTile * 6, rows = min(tiles * 6, M - firstRow);
        const int longest = extents[min(M, (firstTile + tiles) * 6) - 1];
        for (int nTile = 0; nTile * 64 < longest; nTile++) {
            MARTLET_NAME(KERNEL, _strip)(sums, firstTile, tiles, nTile, nTiles, z, B_START(z), PRODUCT_ARGUMENTS);
            MARTLET_NAME(KERNEL, _keep)(sums, rows, whole + nTile * 64, pitch);
        }
        for (int r = 0; r < rows; r++) {
            const int m = firstRow + r;
            MARTLET_NAME(KERNEL, _finish)(
                whole + r * pitch, AT_M(m), z, N, extents[m] PLACE_ARGUMENT EPILOGUE_ARGUMENTS);
        }
    }
}
#else
// Sixteen elements of row m of a weight gradient, from column n on, with dead ones as zeros. Other products are what they are.
static inline float16 MARTLET_NAME(KERNEL, _live)(const float16 product, const int m, const int n MASK_PARAMETERS) {
#if MASK == 1 && ROLE == 2
    return martlet_select((int16)(n) + martlet_lanes < (int16)(extents[m]), product, (float16)(0.0f));
#elif MASK == 2 && ROLE == 2
    const uint16 word = (uint16)(bits[m * wordsPerRow + (n >> 5)] >> (n & 31));
    const int16 live = as_int16((word >> as_uint16(martlet_lanes)) & 1u);
    return martlet_select(live != 0, product, (float16)(0.0f));
#else
    return product;
#endif
}

// Takes sixteen elements of row m through the epilogue, or as many as lie before the end of the row.
static inline void MARTLET_NAME(KERNEL, _store)(
    const float16 product, const int m, const int n, const int z,
    const int N N_ORDER_PARAMETER M_ORDER_PARAMETER EPILOGUE_PARAMETERS) {
    if (n + 16 <= N) {
        MARTLET_NAME(KERNEL, _epilogue16)(AT_M(m), n, z, product N_ORDER_ARGUMENT EPILOGUE_ARGUMENTS);
        return;
    }
    float lanes[16];
    vstore16(product, 0, lanes);
    for (int i = 0; i < N - n; i++) {
        MARTLET_NAME(KERNEL, _epilogue1)(AT_M(m), AT_N(n + i), z, lanes[i] EPILOGUE_ARGUMENTS);
    }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(PRODUCT_PARAMETERS EPILOGUE_PARAMETERS) {
    const int z = get_group_id(2);
    const int nTiles = get_num_groups(0);
    // The columns of a staircase get longer or shorter from one end to the other: taken from both ends in turns, neighbouring
    // work-items have equal work, however a device deals them out.
    const int turn = get_group_id(0);
    const int nTile = turn & 1 ? turn >> 1 : nTiles - 1 - (turn >> 1);
    const int n0 = nTile * 64;
    const int firstTile = get_group_id(1) * strip;
    const int tiles = min(strip, (M + 5) / 6 - firstTile);
    float16 sums[STRIP * 24];
    const int lives = MARTLET_NAME(KERNEL, _strip)(sums, firstTile, tiles, nTile, nTiles, z, B_START(z), PRODUCT_ARGUMENTS);
#ifdef DEAD_STAY_ZERO
    if (!lives) return;
#endif
    const int firstRow = firstTile * 6, rows = min(tiles * 6, M - firstRow);
    for (int r = 0; r < rows; r++) {
        const int m = firstRow + r;
#ifdef DEAD_STAY_ZERO
        if (!TILE_LIVES(firstTile + r / 6, nTile, m / 6 * 6, 6, n0)) continue;
#endif
        for (int c = 0; c < 4 && n0 + c * 16 < N; c++) {
            const int n = n0 + c * 16;
            const float16 product = MARTLET_NAME(KERNEL, _live)(sums[r * 4 + c], m, n MASK_ARGUMENTS);
            MARTLET_NAME(KERNEL, _store)(product, m, n, z, N N_ORDER_ARGUMENT M_ORDER_ARGUMENT EPILOGUE_ARGUMENTS);
        }
    }
}
#endif
#undef STRIP
#undef DEPTH
#undef GATHERED
#undef PANEL
#undef B_PARAMETERS
#undef B_ARGUMENTS
#undef B_START
#undef PRODUCT_PARAMETERS
#undef PRODUCT_ARGUMENTS
#undef MARTLET_TAKE
#undef MARTLET_ROW
#undef MARTLET_KEEP
