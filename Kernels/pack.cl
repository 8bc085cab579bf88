// Copies the operands of a product into panels that the tile kernel of OpenCL processors reads in order.
//
// PACK_A: A [m, k] into panels [m / 6][k][6]. PACK_B: B [k, n] into panels [n / 64][k][64], with masked elements as
// zeros, so that the tile kernel needs no mask. What lies beyond the edges is zero.
//
// Macros: MASK, ROLE and orders as in mask.cl; SOURCE_PARAMETERS and SOURCE_BASE(z), the operand's first element in batch
// z; STRIDE_K and STRIDE_N (of A: STRIDE_M); for B those of pack_b.cl.

#ifdef PACK_A
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(__global float* restrict target, const int M, const int K SOURCE_PARAMETERS K_ORDER_PARAMETER M_ORDER_PARAMETER) {
    const int tile = get_group_id(0);
    const int z = get_group_id(1);
    const int m0 = tile * 6;
    __global const float* from = source + SOURCE_BASE(z);
    __global float* panel = target + (size_t)(z * (int)get_num_groups(0) + tile) * K * 6;
    if (m0 + 6 <= M) {
        __global const float* a0 = from + AT_M(m0) * STRIDE_M;
        __global const float* a1 = from + AT_M(m0 + 1) * STRIDE_M;
        __global const float* a2 = from + AT_M(m0 + 2) * STRIDE_M;
        __global const float* a3 = from + AT_M(m0 + 3) * STRIDE_M;
        __global const float* a4 = from + AT_M(m0 + 4) * STRIDE_M;
        __global const float* a5 = from + AT_M(m0 + 5) * STRIDE_M;
        for (int k = 0; k < K; k++) {
            const int at = AT_K(k) * STRIDE_K;
            panel[k * 6] = a0[at];
            panel[k * 6 + 1] = a1[at];
            panel[k * 6 + 2] = a2[at];
            panel[k * 6 + 3] = a3[at];
            panel[k * 6 + 4] = a4[at];
            panel[k * 6 + 5] = a5[at];
        }
    } else {
        for (int k = 0; k < K; k++) {
            for (int r = 0; r < 6; r++) {
                panel[k * 6 + r] = m0 + r < M ? from[AT_M(m0 + r) * STRIDE_M + AT_K(k) * STRIDE_K] : 0.0f;
            }
        }
    }
}
#endif

#ifdef PACK_B
// CHUNK rows of one panel belong to a work-item. Work-items that run after each other read the same rows of memory: along
// k where B's elements are neighbours there, along n otherwise.
#ifdef UNIT_K
#define CHUNK 1024
#define GATHERED 1024
#define CHUNK_INDEX 0
#define TILE_INDEX 1
#else
#define CHUNK 32
#define CHUNK_INDEX 1
#define TILE_INDEX 0
#endif
#define PANEL __global
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    __global float* restrict target, const int N, const int K SOURCE_PARAMETERS MASK_PARAMETERS K_ORDER_PARAMETER
        N_ORDER_PARAMETER) {
    const int tile = get_group_id(TILE_INDEX);
    const int z = get_group_id(2);
    const int n0 = tile * 64;
    __global const float* from = source + SOURCE_BASE(z);
    __global float* panel = target + (size_t)(z * (int)get_num_groups(TILE_INDEX) + tile) * K * 64;
    const int chunkBegin = get_group_id(CHUNK_INDEX) * CHUNK;
    const int chunkEnd = min(K, chunkBegin + CHUNK);
    const int base = 0;
    for (int interval = FIRST_INTERVAL(tile); interval < LAST_INTERVAL(tile); interval++) {
        int k = max(chunkBegin, INTERVAL_BEGIN(interval, n0, 64));
        const int last = min(chunkEnd, INTERVAL_END(interval, n0, 64));
// @include pack_b
    }
}
#undef CHUNK
#undef GATHERED
#undef CHUNK_INDEX
#undef TILE_INDEX
#undef PANEL
#endif
