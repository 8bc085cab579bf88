// The product on a GPU: a work-group of 16 by 16 makes a tile of TILE by TILE elements, TILE = 16, 32, 64 or 128, each work-item
// a block of TILE/16 by TILE/16 in registers. Slices of DEPTH rows of k pass through local memory; while one is
// multiplied, the next is on its way into registers. Sums run over k in order, whatever the size of tiles.
//
// Macros: MASK, ROLE and orders as in mask.cl; TILE, DEPTH; UNIT_A where A's elements are neighbours along k (else its
// loads run along m); UNIT_B where B's are neighbours along k (else its loads run along n); DEAD_STAY_ZERO;
// A_PARAMETERS, A_BASE(z), A_STRIDE_M, A_STRIDE_K, the same for B; EPILOGUE_PARAMETERS and EPILOGUE_ARGUMENTS of the
// function KERNEL_epilogue1(m, n, z, product, ..).

#define SIDE (TILE / 16)
#define LOADS (TILE * DEPTH / 256)
// Rows of local memory keep the alignment of four floats and do not all start in one bank.
#define PITCH (TILE + 4)

#if MASK == 1 && ROLE == 0
#define LIVE_B(k, l) ((k) < limit[l])
#elif MASK == 1 && ROLE == 1
#define LIVE_B(k, l) ((k) >= limit[l])
#elif MASK == 2 && ROLE == 0
#define LIVE_B(k, l) LIVE(n0 + columnB(l), k)
#elif MASK == 2 && ROLE == 1
#define LIVE_B(k, l) LIVE(k, n0 + columnB(l))
#else
#define LIVE_B(k, l) 1
#endif

// Which element of a slice work-item `id` fetches with its l-th load.
#ifdef UNIT_A
#define depthA(l) ((id + 256 * (l)) % DEPTH)
#define rowA(l) ((id + 256 * (l)) / DEPTH)
#else
#define depthA(l) ((id + 256 * (l)) / TILE)
#define rowA(l) ((id + 256 * (l)) % TILE)
#endif
#ifdef UNIT_B
#define depthB(l) ((id + 256 * (l)) % DEPTH)
#define columnB(l) ((id + 256 * (l)) / DEPTH)
#else
#define depthB(l) ((id + 256 * (l)) / TILE)
#define columnB(l) ((id + 256 * (l)) % TILE)
#endif

#define FETCH(k0) \
    _Pragma("unroll") for (int l = 0; l < LOADS; l++) { \
        const int ka = (k0) + depthA(l), kb = (k0) + depthB(l); \
        nextA[l] = m0 + rowA(l) < M && ka < end ? sourceA[fromA[l] + AT_K(ka) * A_STRIDE_K] : 0.0f; \
        nextB[l] = n0 + columnB(l) < N && kb < end && LIVE_B(kb, l) ? sourceB[fromB[l] + AT_K(kb) * B_STRIDE_K] : 0.0f; \
    }

__kernel __attribute__((reqd_work_group_size(16, 16, 1)))
void KERNEL(
    const int M, const int N, const int K A_PARAMETERS B_PARAMETERS MASK_PARAMETERS K_ORDER_PARAMETER N_ORDER_PARAMETER
        M_ORDER_PARAMETER COUNTER_PARAMETER EPILOGUE_PARAMETERS) {
    __local float sliceA[DEPTH * PITCH];
    __local float sliceB[DEPTH * PITCH];
    const int x = get_local_id(0), y = get_local_id(1);
    const int id = y * 16 + x;
    const int nTile = get_num_groups(0) - 1 - get_group_id(0), mTile = get_group_id(1), z = get_group_id(2);
    const int m0 = mTile * TILE, n0 = nTile * TILE;
    // The same for every work-item of the group, as the barriers need.
    const int lives = TILE_LIVES(mTile, nTile, m0, TILE, n0);
#ifdef DEAD_STAY_ZERO
    if (!lives) return;
#endif
    __global const float* sourceA = a + A_BASE(z);
    __global const float* sourceB = b + B_BASE(z);
    int fromA[LOADS], fromB[LOADS];
#if MASK == 1 && ROLE != 2
    int limit[LOADS];
#endif
    _Pragma("unroll") for (int l = 0; l < LOADS; l++) {
        fromA[l] = AT_M(min(m0 + rowA(l), M - 1)) * A_STRIDE_M;
        fromB[l] = AT_N(min(n0 + columnB(l), N - 1)) * B_STRIDE_N;
#if MASK == 1 && ROLE == 0
        limit[l] = extents[min(n0 + columnB(l), N - 1)];
#elif MASK == 1 && ROLE == 1
        limit[l] = starts[min(n0 + columnB(l), N - 1)];
#endif
    }
    float sum[SIDE][SIDE];
    _Pragma("unroll") for (int i = 0; i < SIDE; i++) {
        _Pragma("unroll") for (int j = 0; j < SIDE; j++) sum[i][j] = 0.0f;
    }
    float nextA[LOADS], nextB[LOADS];
    for (int interval = FIRST_INTERVAL(nTile); interval < LAST_INTERVAL(nTile); interval++) {
        const int begin = INTERVAL_BEGIN(interval, n0, TILE);
        const int end = lives ? INTERVAL_END(interval, n0, TILE) : begin;
#ifdef COUNT_TILES
        if (id == 0) atomic_add(executed, (max(end - begin, 0) + 15) / 16);
#endif
        if (begin < end) { FETCH(begin) }
        for (int k = begin; k < end; k += DEPTH) {
            _Pragma("unroll") for (int l = 0; l < LOADS; l++) {
                sliceA[depthA(l) * PITCH + rowA(l)] = nextA[l];
                sliceB[depthB(l) * PITCH + columnB(l)] = nextB[l];
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            if (k + DEPTH < end) { FETCH(k + DEPTH) }
            _Pragma("unroll 16") for (int d = 0; d < DEPTH; d++) {
                float u[SIDE], v[SIDE];
                MARTLET_TILE_TAKE(SIDE, u, sliceA + d * PITCH, y)
                MARTLET_TILE_TAKE(SIDE, v, sliceB + d * PITCH, x)
                _Pragma("unroll") for (int i = 0; i < SIDE; i++) {
                    _Pragma("unroll") for (int j = 0; j < SIDE; j++) sum[i][j] = u[i] * v[j] + sum[i][j];
                }
            }
            barrier(CLK_LOCAL_MEM_FENCE);
        }
    }
    _Pragma("unroll") for (int i = 0; i < SIDE; i++) {
        const int m = m0 + MARTLET_TILE_AT(SIDE, i, y);
        if (m < M) {
            _Pragma("unroll") for (int j = 0; j < SIDE; j++) {
                const int n = n0 + MARTLET_TILE_AT(SIDE, j, x);
                if (n < N) {
#if ROLE == 2
                    const float product = LIVE(m, n) ? sum[i][j] : 0.0f;
#else
                    const float product = sum[i][j];
#endif
                    MARTLET_NAME(KERNEL, _epilogue1)(AT_M(m), AT_N(n), z, product EPILOGUE_ARGUMENTS);
                }
            }
        }
    }
}
#undef SIDE
#undef LOADS
#undef PITCH
#undef LIVE_B
#undef depthA
#undef rowA
#undef depthB
#undef columnB
#undef FETCH
