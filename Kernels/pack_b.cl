// Copies rows k to last of B [k, n], columns n0 to n0 + 64, into `panel` [k - base][64], with masked elements and what
// lies beyond the edges as zeros. Text in the middle of a kernel: `panel`, `from`, `k`, `last`, `base` and `n0` are its own,
// PANEL the address space of the panel.
// Macros: GATHERED, how many permuted elements of a line are held at a time; UNIT_K or UNIT_N where B's elements are
// neighbours along k or n, STRIDE_K, STRIDE_N, and those of mask.cl.
#ifdef UNIT_K
// Sixteen by sixteen elements are transposed in registers. Where k is permuted, a line of memory is put in order first, while it
// is in the cache, so that no more than that line is reached for at random.
#ifdef K_ORDER
#define LINES(i) (lines + (i) * GATHERED + (at - k))
#else
#define LINES(i) (from + (AT_N(n0 + n + (i)) * STRIDE_N + at))
#endif
while (k + 16 <= last) {
    const int count = min(GATHERED, (last - k) & ~15);
    for (int n = 0; n < 64; n += 16) {
#ifdef K_ORDER
        float lines[16 * GATHERED];
        for (int i = 0; i < 16; i++) {
            __global const float* line = from + AT_N(min(n0 + n + i, N - 1)) * STRIDE_N;
            for (int j = 0; j < count; j++) lines[i * GATHERED + j] = line[kOrder[k + j]];
        }
#endif
        for (int at = k; at < k + count; at += 16) {
            int whole = n0 + n + 16 <= N;
#if MASK == 1 && ROLE == 0
            whole = whole && at + 16 <= extents[min(n0 + n, N - 1)];
#elif MASK == 1 && ROLE == 1
            whole = whole && starts[min(n0 + n + 15, N - 1)] <= at;
#elif MASK == 2 && ROLE != 2
            whole = 0;
#endif
            if (whole) {
                float16 r[16];
                _Pragma("unroll") for (int i = 0; i < 16; i++) r[i] = vload16(0, LINES(i));
                MARTLET_TRANSPOSE(r)
                _Pragma("unroll") for (int i = 0; i < 16; i++) {
                    vstore16(r[i], 0, panel + ((at - base + i) * 64 + n));
                }
            } else {
                for (int i = 0; i < 16; i++) {
                    for (int c = n; c < n + 16; c++) {
                        const int live = n0 + c < N && LIVE_AT(at + i, n0 + c);
                        panel[(at - base + i) * 64 + c] = live ? LINES(c - n)[i] : 0.0f;
                    }
                }
            }
        }
    }
    k += count;
}
#undef LINES
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
