// The product on an OpenCL processor: one work-item for a strip of up to STRIP tiles of 6 rows, 64 columns wide.
//
// B is copied, DEPTH rows of k at a time, into a panel that stays in the cache of its core, with masked elements as zeros,
// and meets every tile of the strip there; A has been packed by another kernel. The 24 sums of a tile, of sixteen lanes
// each, fill the vector registers and rest in memory between two panels. Sums run over k in order.
//
// With WHOLE_ROWS a work-item takes every live tile of its strips, one strip after the other, and then whole rows through
// product_finish.cl: the way of a weight gradient whose columns are sorted.
//
// Macros: MASK, ROLE and orders as in mask.cl; DEAD_STAY_ZERO where dead tiles may be left alone; A_BATCHES where A has
// panels for each batch; PACKED_B where B has been packed as well (then B_BATCHES like A_BATCHES), else those of pack_b.cl with
// SOURCE_PARAMETERS and SOURCE_BASE(z); EPILOGUE_PARAMETERS and EPILOGUE_ARGUMENTS of the functions KERNEL_epilogue1 and
// KERNEL_epilogue16(m, n, z, product, ..).

#define STRIP 48
#define DEPTH 256
#define GATHERED DEPTH
#define PANEL __private

#define MARTLET_ROW(r) \
    { \
        const float16 x = (float16)(pa[r]); \
        c##r##0 = x * b0 + c##r##0; \
        c##r##1 = x * b1 + c##r##1; \
        c##r##2 = x * b2 + c##r##2; \
        c##r##3 = x * b3 + c##r##3; \
    }
#define MARTLET_TAKE(r) \
    float16 c##r##0 = tile[r * 4], c##r##1 = tile[r * 4 + 1], c##r##2 = tile[r * 4 + 2], c##r##3 = tile[r * 4 + 3];
#define MARTLET_KEEP(r) tile[r * 4] = c##r##0, tile[r * 4 + 1] = c##r##1, tile[r * 4 + 2] = c##r##2, tile[r * 4 + 3] = c##r##3;

#ifdef PACKED_B
#define B_PARAMETERS , __global const float* b
#else
#define B_PARAMETERS SOURCE_PARAMETERS
#endif
#ifdef WHOLE_ROWS
#define FINISH_PARAMETERS , __global float* rowsOfAll PLACE_PARAMETER
#else
#define FINISH_PARAMETERS
#endif

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    __global const float* a, const int M, const int N, const int K, const int strip B_PARAMETERS MASK_PARAMETERS
        K_ORDER_PARAMETER N_ORDER_PARAMETER M_ORDER_PARAMETER COUNTER_PARAMETER FINISH_PARAMETERS EPILOGUE_PARAMETERS) {
    const int mTiles = (M + 5) / 6;
#ifdef WHOLE_ROWS
    const int z = 0;
    const int nTiles = (N + 63) / 64;
    __global float* rowsOut = rowsOfAll + (size_t)get_group_id(0) * strip * 6 * nTiles * 64;
    // The longest rows come first.
    const int stride = (int)get_num_groups(0) * strip;
    for (int firstTile = ((mTiles - 1) / strip - (int)get_group_id(0)) * strip; firstTile >= 0; firstTile -= stride) {
    const int tiles = min(strip, mTiles - firstTile);
    const int rows = min(tiles * 6, M - firstTile * 6);
    const int longest = extents[min(M, (firstTile + tiles) * 6) - 1];
    for (int nTile = 0; nTile * 64 < longest; nTile++) {
    const int n0 = nTile * 64;
#else
    const int z = get_group_id(2);
    const int nTiles = get_num_groups(0);
    // The columns of a staircase get longer or shorter from one end to the other: taken from both ends in turns, neighbouring
    // work-items have equal work, however a device deals them out.
    const int turn = get_group_id(0);
    const int nTile = turn & 1 ? turn >> 1 : nTiles - 1 - (turn >> 1);
    const int n0 = nTile * 64;
    const int firstTile = get_group_id(1) * strip;
    const int tiles = min(strip, mTiles - firstTile);
    const int rows = min(tiles * 6, M - firstTile * 6);
#endif
#ifdef A_BATCHES
    __global const float* panelsA = a + (size_t)(z * mTiles + firstTile) * K * 6;
#else
    __global const float* panelsA = a + (size_t)firstTile * K * 6;
#endif
#ifndef PACKED_B
    __global const float* from = source + SOURCE_BASE(z);
    float16 aligned[DEPTH * 4];
    float* panel = (float*)aligned;
#elif defined(B_BATCHES)
    __global const float* panelB = b + (size_t)(z * nTiles + nTile) * K * 64;
#else
    __global const float* panelB = b + (size_t)nTile * K * 64;
#endif
    float16 sums[STRIP * 24];
    for (int i = 0; i < tiles * 24; i++) sums[i] = (float16)(0.0f);
    // Sorted rows live from some tile on: where the last does not, none does.
    int lives = 0;
    for (int t = 0; t < tiles; t++) lives |= TILE_LIVES(firstTile + t, nTile, (firstTile + t) * 6, 6, n0);
#ifdef DEAD_STAY_ZERO
    if (!lives) return;
#endif
    for (int interval = FIRST_INTERVAL(nTile); interval < LAST_INTERVAL(nTile); interval++) {
        const int begin = INTERVAL_BEGIN(interval, n0, 64);
        const int end = lives ? INTERVAL_END(interval, n0, 64) : begin;
        for (int base = begin; base < end; base += DEPTH) {
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
                __global const float* pa = panelsA + ((size_t)t * K + base) * 6;
                float16* tile = sums + t * 24;
                MARTLET_TAKE(0) MARTLET_TAKE(1) MARTLET_TAKE(2) MARTLET_TAKE(3) MARTLET_TAKE(4) MARTLET_TAKE(5)
                for (int i = 0; i < last - base; i++) {
                    const float16 b0 = vload16(i * 4, panel), b1 = vload16(i * 4 + 1, panel);
                    const float16 b2 = vload16(i * 4 + 2, panel), b3 = vload16(i * 4 + 3, panel);
                    MARTLET_ROW(0) MARTLET_ROW(1) MARTLET_ROW(2) MARTLET_ROW(3) MARTLET_ROW(4) MARTLET_ROW(5)
                    pa += 6;
                }
                MARTLET_KEEP(0) MARTLET_KEEP(1) MARTLET_KEEP(2) MARTLET_KEEP(3) MARTLET_KEEP(4) MARTLET_KEEP(5)
            }
        }
    }
#ifdef WHOLE_ROWS
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < 4; c++) vstore16(sums[r * 4 + c], 0, rowsOut + (size_t)r * nTiles * 64 + n0 + c * 16);
    }
    }
    for (int r = 0; r < rows; r++) {
        const int m = firstTile * 6 + r;
        MARTLET_NAME(KERNEL, _finish)(
            rowsOut + (size_t)r * nTiles * 64, AT_M(m), z, N, extents[m] PLACE_ARGUMENT EPILOGUE_ARGUMENTS);
    }
    }
#else
    for (int r = 0; r < rows; r++) {
        const int m = firstTile * 6 + r;
#ifdef DEAD_STAY_ZERO
        if (!TILE_LIVES(firstTile + r / 6, nTile, m / 6 * 6, 6, n0)) continue;
#endif
        for (int c = 0; c < 4; c++) {
            const int n = n0 + c * 16;
            float16 product = sums[r * 4 + c];
#if MASK == 1 && ROLE == 2
            product = martlet_select((int16)(n) + martlet_lanes < (int16)(extents[m]), product, (float16)(0.0f));
#elif MASK == 2 && ROLE == 2
            if (n < N) {
                const uint16 word = (uint16)(bits[m * wordsPerRow + (n >> 5)] >> (n & 31));
                const int16 live = as_int16((word >> as_uint16(martlet_lanes)) & 1u);
                product = martlet_select(live != 0, product, (float16)(0.0f));
            }
#endif
            if (n + 16 <= N) {
                MARTLET_NAME(KERNEL, _epilogue16)(AT_M(m), n, z, product N_ORDER_ARGUMENT EPILOGUE_ARGUMENTS);
            } else if (n < N) {
                float lanes[16];
                vstore16(product, 0, lanes);
                for (int i = 0; i < N - n; i++) {
                    MARTLET_NAME(KERNEL, _epilogue1)(AT_M(m), AT_N(n + i), z, lanes[i] EPILOGUE_ARGUMENTS);
                }
            }
        }
    }
#endif
}
#undef STRIP
#undef DEPTH
#undef GATHERED
#undef PANEL
#undef B_PARAMETERS
#undef FINISH_PARAMETERS
#undef MARTLET_ROW
#undef MARTLET_TAKE
#undef MARTLET_KEEP
