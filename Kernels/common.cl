// What every generated program begins with. Functions of a name are there for one element (suffix _1) and for sixteen (suffix _16);
// those of the graph's table that have a body of their own follow where a program uses them.
//
// A bool register is an int that is 0 or 1. Comparisons give 1 for scalars and -1 for vectors, hence `& 1`.

#pragma OPENCL FP_CONTRACT ON

// A vector chooses by the sign bit and a scalar by "not zero": `condition` must be a comparison.
#define martlet_select(condition, a, b) ((condition) ? (a) : (b))

// NaN if either operand is.
#define MARTLET_MAXIMUM(a, b) martlet_select(((a) > (b)) | ((a) != (a)), (a), (b))
#define MARTLET_MINIMUM(a, b) martlet_select(((a) < (b)) | ((a) != (a)), (a), (b))

// total + value, and what that rounds away into the rest. A sum that leaves the range of floats leaves no number behind it.
#define MARTLET_ADD(T, total, rest, value) \
    { \
        const T added = (value), sum = (total) + added, back = sum - (total); \
        rest += ((total) - (sum - back)) + (added - back); \
        total = sum; \
    }
#define MARTLET_ROUNDED(total, rest) martlet_select(fabs(rest) < INFINITY, (total) + (rest), (total))

#define martlet_lanes ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))

// Sixteen elements that lie `s` apart.
#define MARTLET_GATHER(V, p, i, s) \
    ((V)((p)[i], (p)[(i) + (s)], (p)[(i) + 2 * (s)], (p)[(i) + 3 * (s)], (p)[(i) + 4 * (s)], (p)[(i) + 5 * (s)], \
         (p)[(i) + 6 * (s)], (p)[(i) + 7 * (s)], (p)[(i) + 8 * (s)], (p)[(i) + 9 * (s)], (p)[(i) + 10 * (s)], \
         (p)[(i) + 11 * (s)], (p)[(i) + 12 * (s)], (p)[(i) + 13 * (s)], (p)[(i) + 14 * (s)], (p)[(i) + 15 * (s)]))

#define MARTLET_SCATTER(T, p, i, s, v) \
    do { \
        (p)[i] = (T)(v).s0, (p)[(i) + (s)] = (T)(v).s1, (p)[(i) + 2 * (s)] = (T)(v).s2; \
        (p)[(i) + 3 * (s)] = (T)(v).s3, (p)[(i) + 4 * (s)] = (T)(v).s4, (p)[(i) + 5 * (s)] = (T)(v).s5; \
        (p)[(i) + 6 * (s)] = (T)(v).s6, (p)[(i) + 7 * (s)] = (T)(v).s7, (p)[(i) + 8 * (s)] = (T)(v).s8; \
        (p)[(i) + 9 * (s)] = (T)(v).s9, (p)[(i) + 10 * (s)] = (T)(v).sa, (p)[(i) + 11 * (s)] = (T)(v).sb; \
        (p)[(i) + 12 * (s)] = (T)(v).sc, (p)[(i) + 13 * (s)] = (T)(v).sd, (p)[(i) + 14 * (s)] = (T)(v).se; \
        (p)[(i) + 15 * (s)] = (T)(v).sf; \
    } while (0)

// The same at sixteen given indices.
#define MARTLET_GATHER_AT(V, p, i) \
    ((V)((p)[(i).s0], (p)[(i).s1], (p)[(i).s2], (p)[(i).s3], (p)[(i).s4], (p)[(i).s5], (p)[(i).s6], (p)[(i).s7], \
         (p)[(i).s8], (p)[(i).s9], (p)[(i).sa], (p)[(i).sb], (p)[(i).sc], (p)[(i).sd], (p)[(i).se], (p)[(i).sf]))

#define MARTLET_SCATTER_AT(T, p, i, v) \
    do { \
        (p)[(i).s0] = (T)(v).s0, (p)[(i).s1] = (T)(v).s1, (p)[(i).s2] = (T)(v).s2, (p)[(i).s3] = (T)(v).s3; \
        (p)[(i).s4] = (T)(v).s4, (p)[(i).s5] = (T)(v).s5, (p)[(i).s6] = (T)(v).s6, (p)[(i).s7] = (T)(v).s7; \
        (p)[(i).s8] = (T)(v).s8, (p)[(i).s9] = (T)(v).s9, (p)[(i).sa] = (T)(v).sa, (p)[(i).sb] = (T)(v).sb; \
        (p)[(i).sc] = (T)(v).sc, (p)[(i).sd] = (T)(v).sd, (p)[(i).se] = (T)(v).se, (p)[(i).sf] = (T)(v).sf; \
    } while (0)

// Two vectors interleaved.
#define MARTLET_ZIP_LOW(a, b) \
    (float16)(a.s0, b.s0, a.s1, b.s1, a.s2, b.s2, a.s3, b.s3, a.s4, b.s4, a.s5, b.s5, a.s6, b.s6, a.s7, b.s7)
#define MARTLET_ZIP_HIGH(a, b) \
    (float16)(a.s8, b.s8, a.s9, b.s9, a.sa, b.sa, a.sb, b.sb, a.sc, b.sc, a.sd, b.sd, a.se, b.se, a.sf, b.sf)

// Sixteen vectors transposed where they are: four rounds of interleaving vector i with vector i + 8.
#define MARTLET_ZIP(from, to) \
    _Pragma("unroll") for (int i = 0; i < 8; i++) { \
        to[2 * i] = MARTLET_ZIP_LOW(from[i], from[i + 8]); \
        to[2 * i + 1] = MARTLET_ZIP_HIGH(from[i], from[i + 8]); \
    }
#define MARTLET_TRANSPOSE(r) \
    { \
        float16 zipped[16]; \
        MARTLET_ZIP(r, zipped) MARTLET_ZIP(zipped, r) MARTLET_ZIP(r, zipped) MARTLET_ZIP(zipped, r) \
    }

#define MARTLET_PASTE(a, b) a##b
#define MARTLET_NAME(a, b) MARTLET_PASTE(a, b)

// The language leaves division by zero open, and processors stop at it.
static inline int martlet_divide_1(int a, int b) { return b == 0 ? 0 : b == -1 ? -a : a / b; }
static inline int16 martlet_divide_16(int16 a, int16 b) {
    const int16 safe = martlet_select((b == 0) | (b == -1), (int16)(1), b);
    return martlet_select(b == 0, (int16)(0), martlet_select(b == -1, -a, a / safe));
}

// A tile on a GPU: of 16 by 16 work-items each has SIDE by SIDE elements, runs of up to four neighbours with the other work-items' runs in
// between. Row (or column) i of those that work-item `own` of sixteen has:
#define MARTLET_RUN(side) ((side) < 4 ? (side) : 4)
#define MARTLET_TILE_AT(side, i, own) \
    ((i) / MARTLET_RUN(side) * 16 * MARTLET_RUN(side) + (own) * MARTLET_RUN(side) + (i) % MARTLET_RUN(side))
// All of them out of a row of a tile in local memory.
#define MARTLET_TILE_TAKE(side, u, row, own) \
    _Pragma("unroll") for (int i = 0; i < (side); i += MARTLET_RUN(side)) { \
        if ((side) >= 4) { \
            vstore4(vload4(0, (row) + (i * 16 + (own) * 4)), 0, u + i); \
        } else { \
            _Pragma("unroll") for (int q = 0; q < MARTLET_RUN(side); q++) u[i + q] = (row)[MARTLET_TILE_AT(side, i + q, own)]; \
        } \
    }
