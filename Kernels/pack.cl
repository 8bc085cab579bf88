// Copies the operands of a product into panels that the tile kernel of OpenCL processors reads in order.
//
// PACK_A: A [m, k] into panels [m / 6][k][6]. PACK_B: B [k, n] into panels [n / 64][k][64], with masked elements as
// zeros, so that the tile kernel needs no mask. What lies beyond the edges is zero.
//
// Macros: MASK, ROLE and orders as in mask.cl; UNIT_K or UNIT_N where the operand's elements are neighbours along k or n;
// SOURCE_PARAMETERS and SOURCE_BASE(z), the operand's first element in batch z; STRIDE_K and STRIDE_N (of A: STRIDE_M).

#ifdef PACK_A
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(__global float* target, const int M, const int K SOURCE_PARAMETERS K_ORDER_PARAMETER M_ORDER_PARAMETER) {
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
#define MARTLET_ZIP_LOW(a, b) \
    (float16)(a.s0, b.s0, a.s1, b.s1, a.s2, b.s2, a.s3, b.s3, a.s4, b.s4, a.s5, b.s5, a.s6, b.s6, a.s7, b.s7)
#define MARTLET_ZIP_HIGH(a, b) \
    (float16)(a.s8, b.s8, a.s9, b.s9, a.sa, b.sa, a.sb, b.sb, a.sc, b.sc, a.sd, b.sd, a.se, b.se, a.sf, b.sf)

// Whether weight (k, n) of the operand is live.
#if MASK == 0 || ROLE == 2
#define LIVE_AT(k, n) 1
#elif ROLE == 0
#define LIVE_AT(k, n) LIVE(n, k)
#else
#define LIVE_AT(k, n) LIVE(k, n)
#endif

// Rows k0 to k1 of one panel; CHUNK of them belong to a work-item.
#define CHUNK 256
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    __global float* target, const int N, const int K SOURCE_PARAMETERS MASK_PARAMETERS K_ORDER_PARAMETER
        N_ORDER_PARAMETER) {
    const int tile = get_group_id(1);
    const int z = get_group_id(2);
    const int n0 = tile * 64;
    __global const float* from = source + SOURCE_BASE(z);
    __global float* panel = target + (size_t)(z * (int)get_num_groups(1) + tile) * K * 64;
    const int chunkBegin = get_group_id(0) * CHUNK;
    const int chunkEnd = min(K, chunkBegin + CHUNK);
    for (int interval = FIRST_INTERVAL(tile); interval < LAST_INTERVAL(tile); interval++) {
        int k = max(chunkBegin, INTERVAL_BEGIN(interval, n0, 64));
        const int last = min(chunkEnd, INTERVAL_END(interval, n0, 64));
#if defined(UNIT_K) && !defined(K_ORDER)
        // Sixteen by sixteen elements are transposed in registers.
        for (; k + 16 <= last; k += 16) {
            for (int n = 0; n < 64; n += 16) {
                int whole = n0 + n + 16 <= N;
#if MASK == 1 && ROLE == 0
                whole = whole && k + 16 <= extents[min(n0 + n, N - 1)];
#elif MASK == 1 && ROLE == 1
                whole = whole && starts[min(n0 + n + 15, N - 1)] <= k;
#elif MASK == 2 && ROLE != 2
                whole = 0;
#endif
                if (whole) {
                    float16 r[16], s[16];
                    __attribute__((opencl_unroll_hint(16))) for (int i = 0; i < 16; i++) {
                        r[i] = vload16(0, from + (AT_N(n0 + n + i) * STRIDE_N + k));
                    }
                    // Four rounds of interleaving row i with row i + 8.
                    __attribute__((opencl_unroll_hint(8))) for (int i = 0; i < 8; i++) {
                        s[2 * i] = MARTLET_ZIP_LOW(r[i], r[i + 8]);
                        s[2 * i + 1] = MARTLET_ZIP_HIGH(r[i], r[i + 8]);
                    }
                    __attribute__((opencl_unroll_hint(8))) for (int i = 0; i < 8; i++) {
                        r[2 * i] = MARTLET_ZIP_LOW(s[i], s[i + 8]);
                        r[2 * i + 1] = MARTLET_ZIP_HIGH(s[i], s[i + 8]);
                    }
                    __attribute__((opencl_unroll_hint(8))) for (int i = 0; i < 8; i++) {
                        s[2 * i] = MARTLET_ZIP_LOW(r[i], r[i + 8]);
                        s[2 * i + 1] = MARTLET_ZIP_HIGH(r[i], r[i + 8]);
                    }
                    __attribute__((opencl_unroll_hint(8))) for (int i = 0; i < 8; i++) {
                        r[2 * i] = MARTLET_ZIP_LOW(s[i], s[i + 8]);
                        r[2 * i + 1] = MARTLET_ZIP_HIGH(s[i], s[i + 8]);
                    }
                    __attribute__((opencl_unroll_hint(16))) for (int i = 0; i < 16; i++) {
                        vstore16(r[i], 0, panel + ((k + i) * 64 + n));
                    }
                } else {
                    for (int i = 0; i < 16; i++) {
                        for (int c = n; c < n + 16; c++) {
                            const int live = n0 + c < N && LIVE_AT(k + i, n0 + c);
                            panel[(k + i) * 64 + c] = live ? from[AT_N(n0 + c) * STRIDE_N + k + i] : 0.0f;
                        }
                    }
                }
            }
        }
#endif
        for (; k < last; k++) {
            __global const float* row = from + AT_K(k) * STRIDE_K;
            for (int n = 0; n < 64; n += 16) {
#if defined(UNIT_N) && !defined(N_ORDER)
                int whole = n0 + n + 16 <= N;
#if MASK == 1 && ROLE == 0
                whole = whole && k < extents[min(n0 + n, N - 1)];
#elif MASK == 1 && ROLE == 1
                whole = whole && n0 + n + 16 <= extents[k];
#elif MASK == 2 && ROLE != 2
                whole = 0;
#endif
                if (whole) {
                    vstore16(vload16(0, row + (n0 + n)), 0, panel + (k * 64 + n));
                    continue;
                }
#endif
                for (int c = n; c < n + 16; c++) {
                    const int live = n0 + c < N && LIVE_AT(k, n0 + c);
                    panel[k * 64 + c] = live ? row[AT_N(n0 + c) * STRIDE_N] : 0.0f;
                }
            }
        }
    }
}
#undef LIVE_AT
#undef CHUNK
#undef MARTLET_ZIP_LOW
#undef MARTLET_ZIP_HIGH
#endif
