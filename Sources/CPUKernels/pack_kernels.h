// Packing: lines of an operand (rows of a, columns of b) become panels whose inner steps are contiguous.

typedef float v4 __attribute__((ext_vector_type(4)));
typedef v4 v4_at __attribute__((aligned(4), may_alias));

#if WIDTH == 16
#define LANES(a, b, c, d) \
    a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8, c + 8, d + 8, a + 12, b + 12, c + 12, d + 12
#elif WIDTH == 8
#define LANES(a, b, c, d) a, b, c, d, a + 4, b + 4, c + 4, d + 4
#else
#define LANES(a, b, c, d) a, b, c, d
#endif
// Four vectors whose 128-bit lane l holds four inner positions of line 4 l + j become four whose element i is line i.
INLINE void transpose_lanes(vf v[4]) {
    const vf a = __builtin_shufflevector(v[0], v[1], LANES(0, WIDTH, 1, WIDTH + 1));
    const vf b = __builtin_shufflevector(v[0], v[1], LANES(2, WIDTH + 2, 3, WIDTH + 3));
    const vf c = __builtin_shufflevector(v[2], v[3], LANES(0, WIDTH, 1, WIDTH + 1));
    const vf d = __builtin_shufflevector(v[2], v[3], LANES(2, WIDTH + 2, 3, WIDTH + 3));
    v[0] = __builtin_shufflevector(a, c, LANES(0, 1, WIDTH, WIDTH + 1));
    v[1] = __builtin_shufflevector(a, c, LANES(2, 3, WIDTH + 2, WIDTH + 3));
    v[2] = __builtin_shufflevector(b, d, LANES(0, 1, WIDTH, WIDTH + 1));
    v[3] = __builtin_shufflevector(b, d, LANES(2, 3, WIDTH + 2, WIDTH + 3));
}
#undef LANES

// Four inner positions of WIDTH lines that are contiguous along the inner axis.
INLINE void load_lanes(vf v[4], const float *const lines[WIDTH], int64_t k) {
    for (int j = 0; j < 4; j++) {
        const v4 a = *(const v4_at *)(lines[j] + k);
#if WIDTH == 16
        typedef float v8 __attribute__((ext_vector_type(8)));
        const v4 b = *(const v4_at *)(lines[4 + j] + k);
        const v4 c = *(const v4_at *)(lines[8 + j] + k), d = *(const v4_at *)(lines[12 + j] + k);
        const v8 low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
        const v8 high = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
        v[j] = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#elif WIDTH == 8
        const v4 b = *(const v4_at *)(lines[4 + j] + k);
        v[j] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
#else
        v[j] = a;
#endif
    }
}

// `present` of WIDTH lines of a panel that are contiguous along the inner axis; the others of `width` become zeros, as far as
// there are fewer. Inner step p goes to step rank[p] of the panel, or to p.
INLINE void pack_transposed(
    float *target, const float *const *lines, const int32_t *rank, int64_t k, int32_t first, int32_t present, int32_t width,
    int32_t height, int collides) {
    // Steps that whole vectors may be stored for: what one writes beyond its step is written again by the steps after it, and a
    // masked store costs more.
    const int overlaps = !rank && first == 0 && width == height;
    const int64_t whole = present == WIDTH ? k : overlaps ? k - (WIDTH - 1) / height : 0;
    float strip[WIDTH * 16];
    int64_t p = 0;
    for (; p + 16 <= k; p += 16) {
        const float *from[WIDTH];
        if (collides) {
            for (int32_t i = 0; i < WIDTH; i++) {
                // Eight lines of memory ahead: many lines of the operand are read at once, more than a processor follows.
                __builtin_prefetch(lines[i] + p + 128);
                for (int32_t q = 0; q < 16; q += WIDTH) STORE_F(strip, i * 16 + q, LOAD_F(lines[i], p + q));
                from[i] = strip + i * 16;
            }
        } else {
            for (int32_t i = 0; i < WIDTH; i++) {
                __builtin_prefetch(lines[i] + p + 64);
                from[i] = lines[i] + p;
            }
        }
        for (int32_t q = 0; q < 16; q += 4) {
            vf v[4];
            load_lanes(v, from, q);
            transpose_lanes(v);
            for (int32_t t = 0; t < 4; t++) {
                float *d = target + (rank ? rank[p + q + t] : p + q + t) * height + first;
                if (p + q + t < whole) STORE_F(d, 0, v[t]);
                else store_first(d, present, v[t]);
            }
        }
    }
    for (; p < k; p++) {
        for (int32_t i = 0; i < present; i++) target[(rank ? rank[p] : p) * height + first + i] = lines[i][p];
    }
    if (present < width) {
        for (p = 0; p < k; p++) {
            for (int32_t i = present; i < width; i++) target[p * height + first + i] = 0;
        }
    }
}

// Lines a multiple of a page apart share one set of the first-level cache: strips are copied out of it first.
INLINE int lines_collide(int64_t stride) { return (stride * (int64_t)sizeof(float)) % 4096 == 0; }

INLINE void pack_all_lines(
    float *target, const float *const *lines, const float *source, const int32_t *rank, int64_t k, int32_t live,
    int64_t stride, int32_t height) {
    int32_t first = 0;
    for (; first < live; first += WIDTH) {
        const int32_t width = height - first < WIDTH ? height - first : WIDTH;
        const int32_t present = live - first < width ? live - first : width;
        // Lines that are not there repeat the last one; their elements are not stored.
        const float *group[WIDTH];
        for (int32_t i = 0; i < WIDTH; i++) {
            const int32_t line = first + (i < present ? i : present - 1);
            group[i] = lines ? lines[line] : source + line * stride;
        }
        pack_transposed(target, group, rank, k, first, present, width, height, lines_collide(stride));
    }
    for (int64_t p = 0; first < height && p < k; p++) {
        for (int32_t i = first; i < height; i++) target[p * height + i] = 0;
    }
}

static void pack_in_order(
    float *target, const float *const *lines, const int32_t *rank, int64_t k, int32_t live, int64_t stride, int32_t height) {
    pack_all_lines(target, lines, NULL, rank, k, live, stride, height);
}

// Lines that are contiguous across the inner axis.
INLINE void pack_across(float *target, const float *source, int64_t k, int64_t k_stride, int32_t live, int32_t height) {
    int64_t p = 0;
    // What a vector writes beyond its step is written again by the steps after it: a masked store costs more.
    for (; height <= WIDTH && p * height + WIDTH <= k * height; p++) {
        STORE_F(target, p * height, load_first(source + p * k_stride, live));
    }
    for (; p < k; p++) {
        float *d = target + p * height;
        const float *s = source + p * k_stride;
        int32_t i = 0;
        for (; i + WIDTH <= live; i += WIDTH) STORE_F(d, i, LOAD_F(s, i));
        for (; i < height; i += WIDTH) {
            const int32_t here = height - i < WIDTH ? height - i : WIDTH, rest = live > i ? live - i : 0;
            store_first(d + i, here, load_first(s + i, rest < here ? rest : here));
        }
    }
}

static void pack(
    float *target, const float *source, int64_t k, int64_t k_stride, int32_t live, int64_t stride, int32_t height) {
    if (k_stride == 1) {
        pack_all_lines(target, NULL, source, NULL, k, live, stride, height);
    } else if (stride == 1) {
        pack_across(target, source, k, k_stride, live, height);
    } else {
        for (int64_t p = 0; p < k; p++) {
            float *d = target + p * height;
            const float *s = source + p * k_stride;
            for (int32_t i = 0; i < live; i++) d[i] = s[i * stride];
            for (int32_t i = live; i < height; i++) d[i] = 0;
        }
    }
}

static void stream(float *target, const float *source, int64_t count) {
    int64_t i = 0;
    for (; i < count && (uintptr_t)(target + i) % sizeof(vf) != 0; i++) target[i] = source ? source[i] : 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        __builtin_nontemporal_store(source ? LOAD_F(source, i) : splat(0), (vf *)(void *)(target + i));
    }
    for (; i < count; i++) target[i] = source ? source[i] : 0;
}
