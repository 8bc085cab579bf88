// The product of packed panels on an OpenCL processor: one work-item for a tile of 6 rows and 64 columns, whose 24
// sums of sixteen lanes fill the vector registers. Sums run over k in order.
//
// Macros: MASK, ROLE and orders as in mask.cl; SETTLED where dead tiles may be left alone; A_BATCHES and B_BATCHES where
// an operand has panels for each batch; EPILOGUE_PARAMETERS and EPILOGUE_ARGUMENTS of the functions KERNEL_epilogue1 and
// KERNEL_epilogue16(m, n, z, product, ..).

#define MARTLET_ROW(r) \
    { \
        const float16 x = (float16)(pa[r]); \
        c##r##0 = x * b0 + c##r##0; \
        c##r##1 = x * b1 + c##r##1; \
        c##r##2 = x * b2 + c##r##2; \
        c##r##3 = x * b3 + c##r##3; \
    }
#define MARTLET_ZEROS(r) float16 c##r##0 = (float16)(0.0f), c##r##1 = c##r##0, c##r##2 = c##r##0, c##r##3 = c##r##0;
#define MARTLET_KEEP(r) tile[r * 4] = c##r##0, tile[r * 4 + 1] = c##r##1, tile[r * 4 + 2] = c##r##2, tile[r * 4 + 3] = c##r##3;

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    __global const float* a, __global const float* b, const int M, const int N, const int K MASK_PARAMETERS
        N_ORDER_PARAMETER M_ORDER_PARAMETER COUNTER_PARAMETER EPILOGUE_PARAMETERS) {
    const int mTile = get_group_id(0);
    // The longest columns of a staircase come last in a forward product: they are started first.
    const int nTile = get_num_groups(1) - 1 - get_group_id(1);
    const int z = get_group_id(2);
    const int m0 = mTile * 6, n0 = nTile * 64;
    const int lives = TILE_LIVES(mTile, nTile, m0, 6, n0);
#ifdef SETTLED
    if (!lives) return;
#endif
#ifdef A_BATCHES
    __global const float* panelA = a + (size_t)(z * (int)get_num_groups(0) + mTile) * K * 6;
#else
    __global const float* panelA = a + (size_t)mTile * K * 6;
#endif
#ifdef B_BATCHES
    __global const float* panelB = b + (size_t)(z * (int)get_num_groups(1) + nTile) * K * 64;
#else
    __global const float* panelB = b + (size_t)nTile * K * 64;
#endif
    MARTLET_ZEROS(0) MARTLET_ZEROS(1) MARTLET_ZEROS(2) MARTLET_ZEROS(3) MARTLET_ZEROS(4) MARTLET_ZEROS(5)
    if (lives) {
        for (int interval = FIRST_INTERVAL(nTile); interval < LAST_INTERVAL(nTile); interval++) {
            const int begin = INTERVAL_BEGIN(interval, n0, 64);
            const int end = INTERVAL_END(interval, n0, 64);
#ifdef COUNT_TILES
            atomic_add(executed, (max(end - begin, 0) + 15) / 16);
#endif
            __global const float* pa = panelA + begin * 6;
            __global const float* pb = panelB + begin * 64;
            for (int k = begin; k < end; k++) {
                const float16 b0 = vload16(0, pb), b1 = vload16(1, pb), b2 = vload16(2, pb), b3 = vload16(3, pb);
                MARTLET_ROW(0) MARTLET_ROW(1) MARTLET_ROW(2) MARTLET_ROW(3) MARTLET_ROW(4) MARTLET_ROW(5)
                pa += 6;
                pb += 64;
            }
        }
    }
    // The sums stay in registers until here; a loop over them needs memory.
    float16 tile[24];
    MARTLET_KEEP(0) MARTLET_KEEP(1) MARTLET_KEEP(2) MARTLET_KEEP(3) MARTLET_KEEP(4) MARTLET_KEEP(5)
    const int rows = min(6, M - m0);
    for (int r = 0; r < rows; r++) {
        const int m = m0 + r;
        for (int c = 0; c < 4; c++) {
            const int n = n0 + c * 16;
            float16 product = tile[r * 4 + c];
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
}
#undef MARTLET_ROW
#undef MARTLET_ZEROS
#undef MARTLET_KEEP
