// Register tiles of convolutions.

// The rows and vectors of the largest tile of sums, and of the largest tile of a weight gradient, by its vectors.
#if WIDTH == 16
#define CONV_ROWS 8
#define CONV_VECTORS 3
#define GRADIENT_VECTORS 4
#define GRADIENT_ROWS(vectors) ((vectors) == 1 ? 12 : 24 / (vectors))
#elif WIDTH == 8
#define CONV_ROWS 4
#define CONV_VECTORS 3
#define GRADIENT_VECTORS 2
#define GRADIENT_ROWS(vectors) ((vectors) == 1 ? 8 : 6)
#else
#define CONV_ROWS 4
#define CONV_VECTORS 2
#define GRADIENT_VECTORS 2
#define GRADIENT_ROWS(vectors) 4
#endif
enum { DOT_ROWS = 8 };

// target[r][..] = sum over steps k of weights[k][r] * source[offsets[k] ..]: neighbouring pixels are neighbours in memory, so
// a vector of them is a load from anywhere. With `continues` the sums go on from what the target holds. With `fetches` the
// pixels of the next tile are on their way when it starts.
INLINE void sum_body(
    const int rows, const int vectors, int64_t steps, const float *weights, const float *source, const int32_t *offsets,
    float *target, int64_t stride, int continues, int fetches) {
    vf sums[CONV_ROWS][CONV_VECTORS];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) sums[r][v] = continues ? LOAD_F(target, r * stride + v * WIDTH) : splat(0);
    }
    for (int64_t k = 0; k < steps; k++) {
        const float *s = source + offsets[k];
        vf line[CONV_VECTORS];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) line[v] = LOAD_F(s, v * WIDTH);
        if (fetches) {
#pragma clang loop unroll(full)
            for (int v = 0; v < vectors; v++) __builtin_prefetch(s + (vectors + v) * WIDTH);
        }
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; r++) {
            const vf x = splat(weights[r]);
#pragma clang loop unroll(full)
            for (int v = 0; v < vectors; v++) sums[r][v] = FMA(x, line[v], sums[r][v]);
        }
        weights += rows;
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) STORE_F(target, r * stride + v * WIDTH, sums[r][v]);
    }
}

#define SUM(rows, vectors)                                                                                   \
    static void sum_##rows##_##vectors(                                                                      \
        int64_t steps, const float *weights, const float *source, const int32_t *offsets, float *target,     \
        int64_t stride, int continues, int fetches) {                                                        \
        sum_body(rows, vectors, steps, weights, source, offsets, target, stride, continues, fetches);        \
    }
#if CONV_VECTORS > 2
#define SUMS(rows) SUM(rows, 1) SUM(rows, 2) SUM(rows, 3)
#define SUM_ENTRY(rows) [rows] = {NULL, sum_##rows##_1, sum_##rows##_2, sum_##rows##_3}
#else
#define SUMS(rows) SUM(rows, 1) SUM(rows, 2)
#define SUM_ENTRY(rows) [rows] = {NULL, sum_##rows##_1, sum_##rows##_2}
#endif
typedef void (*sum_function)(
    int64_t steps, const float *weights, const float *source, const int32_t *offsets, float *target, int64_t stride,
    int continues, int fetches);
SUMS(1)
SUMS(2)
SUMS(3)
SUMS(4)
#if CONV_ROWS > 4
SUMS(5)
SUMS(6)
SUMS(7)
SUMS(8)
#endif
static const sum_function sum_functions[CONV_ROWS + 1][CONV_VECTORS + 1] = {
    SUM_ENTRY(1), SUM_ENTRY(2), SUM_ENTRY(3), SUM_ENTRY(4),
#if CONV_ROWS > 4
    SUM_ENTRY(5), SUM_ENTRY(6), SUM_ENTRY(7), SUM_ENTRY(8),
#endif
};
#undef SUM
#undef SUMS
#undef SUM_ENTRY

static void convolution_sums(
    int32_t rows, int32_t vectors, int64_t steps, const float *weights, const float *source, const int32_t *offsets,
    float *target, int64_t stride, int continues, int fetches) {
    sum_functions[rows][vectors](steps, weights, source, offsets, target, stride, continues, fetches);
}

// target[r][columns] += sum over pixels of sources[r][pixel] * columns[pixel][..]; pixels are `lines` rows of `length` of some
// images, `pitch` and `image_pitch` apart in the sources and contiguous in the columns.
INLINE void gradient_body(
    const int rows, const int vectors, const float *const *sources, martlet_pixels pixels, const float *columns,
    float *target) {
    vf sums[12][GRADIENT_VECTORS];
    const float *from[12];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
        from[r] = sources[r];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) sums[r][v] = LOAD_F(target, (r * vectors + v) * WIDTH);
    }
    for (int64_t i = 0; i < pixels.images; i++) {
        for (int64_t l = 0; l < pixels.lines; l++) {
            const int64_t first = i * pixels.image_pitch + l * pixels.pitch;
            for (int64_t p = first; p < first + pixels.length; p++) {
                vf line[GRADIENT_VECTORS];
#pragma clang loop unroll(full)
                for (int v = 0; v < vectors; v++) line[v] = LOAD_F(columns, v * WIDTH);
#pragma clang loop unroll(full)
                for (int r = 0; r < rows; r++) {
                    const vf x = splat(from[r][p]);
#pragma clang loop unroll(full)
                    for (int v = 0; v < vectors; v++) sums[r][v] = FMA(x, line[v], sums[r][v]);
                }
                columns += vectors * WIDTH;
            }
        }
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) STORE_F(target, (r * vectors + v) * WIDTH, sums[r][v]);
    }
}

typedef void (*gradient_function)(
    const float *const *sources, martlet_pixels pixels, const float *columns, float *target);
#define GRADIENT(rows, vectors)                                                                       \
    static void gradient_##rows##_##vectors(                                                          \
        const float *const *sources, martlet_pixels pixels, const float *columns, float *target) {    \
        gradient_body(rows, vectors, sources, pixels, columns, target);                               \
    }
#define GRADIENTS_TO_4(vectors) GRADIENT(1, vectors) GRADIENT(2, vectors) GRADIENT(3, vectors) GRADIENT(4, vectors)
#define GRADIENTS_TO_6(vectors) GRADIENTS_TO_4(vectors) GRADIENT(5, vectors) GRADIENT(6, vectors)
#define GRADIENTS_TO_8(vectors) GRADIENTS_TO_6(vectors) GRADIENT(7, vectors) GRADIENT(8, vectors)
#define GRADIENTS_TO_12(vectors) \
    GRADIENTS_TO_8(vectors) GRADIENT(9, vectors) GRADIENT(10, vectors) GRADIENT(11, vectors) GRADIENT(12, vectors)
#define G(rows, vectors) gradient_##rows##_##vectors
#define TO_4(v) NULL, G(1, v), G(2, v), G(3, v), G(4, v)
#define TO_6(v) TO_4(v), G(5, v), G(6, v)
#define TO_8(v) TO_6(v), G(7, v), G(8, v)
#define TO_12(v) TO_8(v), G(9, v), G(10, v), G(11, v), G(12, v)
#if WIDTH == 16
GRADIENTS_TO_12(1)
GRADIENTS_TO_12(2)
GRADIENTS_TO_8(3)
GRADIENTS_TO_6(4)
static const gradient_function gradient_functions[5][13] = {{NULL}, {TO_12(1)}, {TO_12(2)}, {TO_8(3)}, {TO_6(4)}};
#elif WIDTH == 8
GRADIENTS_TO_8(1)
GRADIENTS_TO_6(2)
static const gradient_function gradient_functions[3][13] = {{NULL}, {TO_8(1)}, {TO_6(2)}};
#else
GRADIENTS_TO_4(1)
GRADIENTS_TO_4(2)
static const gradient_function gradient_functions[3][13] = {{NULL}, {TO_4(1)}, {TO_4(2)}};
#endif
#undef GRADIENT
#undef G
#undef TO_4
#undef TO_6
#undef TO_8
#undef TO_12

static int32_t gradient_rows(int32_t vectors) {
    (void)vectors;
    return GRADIENT_ROWS(vectors);
}

static void convolution_gradient(
    int32_t rows, int32_t vectors, const float *const *sources, martlet_pixels pixels, const float *columns,
    float *target) {
    gradient_functions[vectors][rows](sources, pixels, columns, target);
}

// target[r] += sum over pixels of line[pixel] * source[offsets[r] + pixel], a vector of pixels at a time.
INLINE void dot_body(
    const int rows, const float *line, const float *source, const int32_t *offsets, int64_t count, float *target) {
    vf sums[DOT_ROWS];
    const float *from[DOT_ROWS];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
        sums[r] = splat(0);
        from[r] = source + offsets[r];
    }
    int64_t p = 0;
    for (; p + WIDTH <= count; p += WIDTH) {
        const vf x = LOAD_F(line, p);
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; r++) sums[r] = FMA(x, LOAD_F(from[r], p), sums[r]);
    }
    if (p < count) {
        const vf x = load_first(line + p, count - p);
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; r++) sums[r] = FMA(x, load_first(from[r] + p, count - p), sums[r]);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
        float lanes[WIDTH];
        STORE_F(lanes, 0, sums[r]);
        for (int half = WIDTH / 2; half > 0; half /= 2) {
            for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
        }
        target[r] += lanes[0];
    }
}

static void convolution_dots(
    int32_t rows, const float *line, const float *source, const int32_t *offsets, int64_t count, float *target) {
    for (; rows >= DOT_ROWS; rows -= DOT_ROWS) {
        dot_body(DOT_ROWS, line, source, offsets, count, target);
        offsets += DOT_ROWS;
        target += DOT_ROWS;
    }
    for (; rows >= 2; rows -= 2) {
        dot_body(2, line, source, offsets, count, target);
        offsets += 2;
        target += 2;
    }
    if (rows) dot_body(1, line, source, offsets, count, target);
}

// target[i] = source[i * stride] for i below count, then zeros up to `width`.
static void copy_row(float *target, const float *source, int64_t stride, int64_t count, int64_t width) {
    int64_t i = 0;
    if (stride == 1) {
        for (; i + WIDTH <= count; i += WIDTH) STORE_F(target, i, LOAD_F(source, i));
        if (i < count) store_first(target + i, count - i, load_first(source + i, count - i));
    } else {
        for (; i < count; i++) target[i] = source[i * stride];
    }
    for (i = count; i < width; i++) target[i] = 0;
}

// Rows of `count` neighbours, `from` apart in the source and `to` apart in the target; with `fills`, zeros behind each row up
// to the next. Whole vectors are stored where what they write too much is overwritten by the rows that follow.
static void copy_rows(
    float *target, int64_t to, const float *source, int64_t from, int64_t rows, int64_t count, int fills) {
    const int64_t whole = count / WIDTH * WIDTH, rest = count - whole, reach = rest ? whole + WIDTH : whole;
    const int64_t end = (rows - 1) * to + (fills ? to : count);
    for (int64_t r = 0; r < rows; r++, target += to, source += from) {
        for (int64_t i = 0; i < whole; i += WIDTH) STORE_F(target, i, LOAD_F(source, i));
        if (rest) {
            const vf x = load_first(source + whole, rest);
            if (r * to + reach <= end && (fills || reach <= to + count)) STORE_F(target, whole, x);
            else store_first(target + whole, rest, x);
        }
        if (fills) {
            for (int64_t i = r * to + reach <= end ? reach : count; i < to; i++) target[i] = 0;
        }
    }
}

// target[i] += source[i]
static void add_row(float *target, const float *source, int64_t count) {
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) STORE_F(target, i, LOAD_F(target, i) + LOAD_F(source, i));
    for (; i < count; i++) target[i] += source[i];
}

#if WIDTH == 16
#define FROM(step, first)                                                                                    \
    first, first + step, first + 2 * step, first + 3 * step, first + 4 * step, first + 5 * step,             \
        first + 6 * step, first + 7 * step, first + 8 * step, first + 9 * step, first + 10 * step,           \
        first + 11 * step, first + 12 * step, first + 13 * step, first + 14 * step, first + 15 * step
#define WOVEN(first)                                                                                        \
    first, first + 16, first + 1, first + 17, first + 2, first + 18, first + 3, first + 19, first + 4,      \
        first + 20, first + 5, first + 21, first + 6, first + 22, first + 7, first + 23
#elif WIDTH == 8
#define FROM(step, first)                                                                                    \
    first, first + step, first + 2 * step, first + 3 * step, first + 4 * step, first + 5 * step,             \
        first + 6 * step, first + 7 * step
#define WOVEN(first) first, first + 8, first + 1, first + 9, first + 2, first + 10, first + 3, first + 11
#else
#define FROM(step, first) first, first + step, first + 2 * step, first + 3 * step
#define WOVEN(first) first, first + 4, first + 1, first + 5
#endif

// WIDTH neighbours of two pixels each, from `low` on and before `high`, with zeros around them.
INLINE void load_pixels(vf *even, vf *odd, const float *source, int64_t low, int64_t high) {
    vf a, b;
    if (low <= 0 && high >= 2 * WIDTH) {
        a = LOAD_F(source, 0);
        b = LOAD_F(source, WIDTH);
    } else {
        a = load_between(source, low, high);
        b = load_between(source + WIDTH, low - WIDTH, high - WIDTH);
    }
    *even = __builtin_shufflevector(a, b, FROM(2, 0));
    *odd = __builtin_shufflevector(a, b, FROM(2, 1));
}

// Vectors of pairs whose forms are made together.
enum { PAIR_VECTORS = 32 };

// target[f pitch + l count + q] = form f at pair q of line l, for `count` pairs of lines of pixels that lie `stride` apart; up to
// a whole vector behind the last is overwritten. Forms reach over `reach` pixels. Of a line, pixels before `low` and from `high` on
// are zeros and not read. With `masks`, the line is several: a vector for every vector of pairs and every pixel that a form reaches
// says which of them a pair's own line has.
static void pair_forms(
    int32_t reach, float *target, int64_t pitch, const float *source, int64_t stride, int64_t lines, int64_t low,
    int64_t high, int64_t count, const int32_t *masks, const martlet_pair_form *forms, int64_t form_count) {
    vf x[MARTLET_PAIR_REACH][PAIR_VECTORS];
    for (int64_t l = 0; l < lines; l++, source += stride, target += count) {
        vf even, odd;
        load_pixels(&even, &odd, source, low, high);
        // What a line's last vector writes too much, the next line overwrites.
        for (int64_t q = 0; q < count;) {
            float *to = target + q;
            int32_t vectors = 0;
            for (; q < count && vectors < PAIR_VECTORS; vectors++) {
                q += WIDTH;
                // The pixels from 2 q + 2 i on are those from 2 q on, a lane further.
                vf next_even, next_odd;
                load_pixels(&next_even, &next_odd, source + 2 * q, low - 2 * q, high - 2 * q);
                vf e = even, o = odd, later_even = next_even, later_odd = next_odd;
                for (int32_t i = 0; i < reach; i += 2) {
                    x[i][vectors] = masks ? as_float(as_int(e) & *(const vi_at *)masks) : e;
                    x[i + 1][vectors] = masks ? as_float(as_int(o) & *(const vi_at *)(masks + WIDTH)) : o;
                    if (masks) masks += 2 * WIDTH;
                    e = __builtin_shufflevector(e, later_even, FROM(1, 1));
                    o = __builtin_shufflevector(o, later_odd, FROM(1, 1));
                    later_even = __builtin_shufflevector(later_even, later_even, FROM(1, 1));
                    later_odd = __builtin_shufflevector(later_odd, later_odd, FROM(1, 1));
                }
                even = next_even, odd = next_odd;
            }
            for (int64_t f = 0; f < form_count; f++, to += pitch) {
                const vf *first = x[forms[f].first], *second = x[forms[f].second];
                const vi flip = (vi)(forms[f].sign < 0 ? INT32_MIN : 0);
                for (int32_t v = 0; v < vectors; v++) {
                    const vf other = as_float(as_int(second[v]) ^ flip);
                    STORE_F(to, v * WIDTH, forms[f].sign ? first[v] + other : first[v]);
                }
            }
        }
    }
}

// `count` results from the four sums of each pair, which lie `between` apart.
static void pair_results(float *target, const float *sums, int64_t between, int64_t count) {
    for (; count > 0; count -= 2 * WIDTH, sums += WIDTH, target += 2 * WIDTH) {
        const vf m1 = LOAD_F(sums + between, 0), m2 = LOAD_F(sums + 2 * between, 0);
        const vf even = LOAD_F(sums, 0) + m1 + m2, odd = m1 - m2 - LOAD_F(sums + 3 * between, 0);
        const vf low = __builtin_shufflevector(even, odd, WOVEN(0)), high = __builtin_shufflevector(even, odd, WOVEN(WIDTH / 2));
        if (count >= WIDTH) STORE_F(target, 0, low);
        else store_first(target, count, low);
        if (count >= 2 * WIDTH) STORE_F(target, WIDTH, high);
        else if (count > WIDTH) store_first(target + WIDTH, count - WIDTH, high);
    }
}
#undef FROM
#undef WOVEN

// What a pair of pixels of the result's gradient, `height` channels each, gives one of the four sums.
static void pair_columns(float *target, const float *source, int32_t sum, int64_t pairs, int64_t height) {
    for (int64_t p = 0; p < pairs; p++, source += 2 * height) {
        for (int64_t i = 0; i < height; i += WIDTH, target += WIDTH) {
            const vf even = LOAD_F(source, i), odd = LOAD_F(source + height, i);
            STORE_F(target, 0, sum == 0 ? even : sum == 1 ? even + odd : sum == 2 ? even - odd : -odd);
        }
    }
}
