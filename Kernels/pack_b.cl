// Copies rows k to last of B [k, n], columns n0 to n0 + 64, into `panel` [k - base][64], with masked elements and what
// lies beyond the edges as zeros. Text in the middle of a kernel: `panel`, `from`, `k`, `last`, `base` and `n0` are its own,
// PANEL the address space of the panel.
// Macros: UNIT_K or UNIT_N where B's elements are neighbours along k or n, STRIDE_K, STRIDE_N, and those of mask.cl.
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
            _Pragma("unroll") for (int i = 0; i < 16; i++) {
                r[i] = vload16(0, from + (AT_N(n0 + n + i) * STRIDE_N + k));
            }
            // Four rounds of interleaving row i with row i + 8.
            _Pragma("unroll") for (int i = 0; i < 8; i++) {
                s[2 * i] = MARTLET_ZIP_LOW(r[i], r[i + 8]);
                s[2 * i + 1] = MARTLET_ZIP_HIGH(r[i], r[i + 8]);
            }
            _Pragma("unroll") for (int i = 0; i < 8; i++) {
                r[2 * i] = MARTLET_ZIP_LOW(s[i], s[i + 8]);
                r[2 * i + 1] = MARTLET_ZIP_HIGH(s[i], s[i + 8]);
            }
            _Pragma("unroll") for (int i = 0; i < 8; i++) {
                s[2 * i] = MARTLET_ZIP_LOW(r[i], r[i + 8]);
                s[2 * i + 1] = MARTLET_ZIP_HIGH(r[i], r[i + 8]);
            }
            _Pragma("unroll") for (int i = 0; i < 8; i++) {
                r[2 * i] = MARTLET_ZIP_LOW(s[i], s[i + 8]);
                r[2 * i + 1] = MARTLET_ZIP_HIGH(s[i], s[i + 8]);
            }
            _Pragma("unroll") for (int i = 0; i < 16; i++) {
                vstore16(r[i], 0, panel + ((k - base + i) * 64 + n));
            }
        } else {
            for (int i = 0; i < 16; i++) {
                for (int c = n; c < n + 16; c++) {
                    const int live = n0 + c < N && LIVE_AT(k + i, n0 + c);
                    panel[(k - base + i) * 64 + c] = live ? from[AT_N(n0 + c) * STRIDE_N + k + i] : 0.0f;
                }
            }
        }
    }
}
#endif
for (; k < last; k++) {
    __global const float* row = from + AT_K(k) * STRIDE_K;
    PANEL float* target64 = panel + (k - base) * 64;
#if MASK == 2 && ROLE != 2
    for (int c = 0; c < 64; c++) {
        target64[c] = n0 + c < N && LIVE_AT(k, n0 + c) ? row[AT_N(n0 + c) * STRIDE_N] : 0.0f;
    }
#else
    // The live columns of a row are neighbours.
#if MASK == 1 && ROLE == 0
    const int low = clamp(starts[k] - n0, 0, 64), high = min(64, N - n0);
#elif MASK == 1 && ROLE == 1
    const int low = 0, high = clamp(extents[k] - n0, 0, 64);
#else
    const int low = 0, high = min(64, N - n0);
#endif
#if defined(UNIT_N) && !defined(N_ORDER)
    if (low == 0 && high == 64) {
        for (int c = 0; c < 4; c++) vstore16(vload16(c, row + n0), c, target64);
        continue;
    }
#endif
    for (int c = 0; c < low; c++) target64[c] = 0.0f;
    for (int c = low; c < high; c++) target64[c] = row[AT_N(n0 + c) * STRIDE_N];
    for (int c = max(low, high); c < 64; c++) target64[c] = 0.0f;
#endif
}
