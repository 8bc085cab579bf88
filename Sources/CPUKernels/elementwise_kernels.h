// Elementwise kernels on vectors of WIDTH floats or int32; see vector.h for what the including file defines.
#include "MartletRandom.h"

// Ends that are not a whole vector go through a zero-padded one, so that an element's result never depends on where in a
// block it lies.
INLINE vf load_part(const float *p, int64_t n) { return load_first(p, n); }
INLINE vi load_part_int(const int32_t *p, int64_t n) { return as_int(load_first((const float *)(const void *)p, n)); }
INLINE vb load_part_byte(const uint8_t *p, int64_t n) {
    vb x = (vb)(0);
    memcpy(&x, p, (size_t)n);
    return x;
}

#define LOAD_F(p, i) (*(const vf_at *)((p) + (i)))
#define LOAD_I(p, i) (*(const vi_at *)((p) + (i)))
#define LOAD_B(p, i) (*(const vb_at *)((p) + (i)))
#define STORE_F(p, i, x) (*(vf_at *)((p) + (i)) = (x))
#define STORE_I(p, i, x) (*(vi_at *)((p) + (i)) = (x))
#define STORE_B(p, i, x) (*(vb_at *)((p) + (i)) = (x))

// The first n elements of `bytes` bytes of the vector at x.
INLINE void store_part(void *p, int64_t n, const void *x, int64_t bytes) {
    if (bytes == 4) {
        vf whole;
        memcpy(&whole, x, sizeof whole);
        store_first(p, n, whole);
    } else {
        memcpy(p, x, (size_t)(n * bytes));
    }
}

INLINE vb as_bytes(vi mask) { return __builtin_convertvector(mask, vb) & (uint8_t)1; }
INLINE vi as_mask(vb flags) { return __builtin_convertvector(flags != (uint8_t)0, vi); }

// One loop over whole vectors and one partial vector. A, B and C say how operands are read: V from memory, S the same
// element everywhere.
#define READ_V(type, p, i, part, tail) ((part) ? tail((p) + (i), n - (i)) : LOAD_##type(p, i))
#define LOOP(store, bytes, expression)                          \
    int64_t i = 0;                                              \
    for (; i + WIDTH <= n; i += WIDTH) {                        \
        const int part = 0;                                     \
        store(d, i, expression);                                \
        (void)part;                                             \
    }                                                           \
    if (i < n) {                                                \
        const int part = 1;                                     \
        __typeof__(expression) result = expression;             \
        store_part(d + i, n - i, &result, bytes);               \
        (void)part;                                             \
    }

#define UNARY(name, read, from, to, store, bytes, tail, expression)                                        \
    static void name(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {          \
        (void)scalar;                                                                                      \
        to *d = target;                                                                                    \
        const from *pa = source[0];                                                                        \
        LOOP(store, bytes, ({                                                                              \
                 const __auto_type x = READ_V(read, pa, i, part, tail);                                    \
                 expression;                                                                               \
             }))                                                                                           \
    }

#define BINARY_LOOP(vector, store, bytes, A, B, expression) \
    LOOP(store, bytes, ({                                   \
             const vector a = A;                            \
             const vector b = B;                            \
             expression;                                    \
         }))

#define BINARY(name, read, vector, from, to, store, bytes, tail, expression)                               \
    static void name(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {          \
        to *d = target;                                                                                    \
        const from *pa = source[0], *pb = source[1];                                                       \
        if (scalar[0]) {                                                                                   \
            const vector sa = (vector)(*pa);                                                               \
            BINARY_LOOP(vector, store, bytes, sa, READ_V(read, pb, i, part, tail), expression)             \
        } else if (scalar[1]) {                                                                            \
            const vector sb = (vector)(*pb);                                                               \
            BINARY_LOOP(vector, store, bytes, READ_V(read, pa, i, part, tail), sb, expression)             \
        } else {                                                                                           \
            BINARY_LOOP(vector, store, bytes, READ_V(read, pa, i, part, tail), READ_V(read, pb, i, part, tail), expression) \
        }                                                                                                  \
    }

#define UNARY_F(name, expression) UNARY(name, F, float, float, STORE_F, 4, load_part, expression)
#define UNARY_I(name, expression) UNARY(name, I, int32_t, int32_t, STORE_I, 4, load_part_int, expression)
#define BINARY_F(name, expression) BINARY(name, F, vf, float, float, STORE_F, 4, load_part, expression)
#define COMPARE_F(name, expression) BINARY(name, F, vf, float, uint8_t, STORE_B, 1, load_part, as_bytes(expression))
#define BINARY_I(name, expression) BINARY(name, I, vi, int32_t, int32_t, STORE_I, 4, load_part_int, expression)
#define COMPARE_I(name, expression) BINARY(name, I, vi, int32_t, uint8_t, STORE_B, 1, load_part_int, as_bytes(expression))

INLINE vf rectified(vf x) { return choose(x < 0.0f, splat(0.0f), x); }

#define VECTOR_FUNCTION(NAME, name, ...) UNARY_F(f_##name, (__VA_ARGS__))
MARTLET_VECTOR_FUNCTIONS(VECTOR_FUNCTION)
#undef VECTOR_FUNCTION

UNARY_F(f_negate, -x)
UNARY_F(f_absolute, absolute(x))
UNARY_F(f_sign, choose(x > 0.0f, splat(1.0f), choose(x < 0.0f, splat(-1.0f), x)))
UNARY_F(f_relu, rectified(x))
UNARY(f_is_finite, F, float, uint8_t, STORE_B, 1, load_part, as_bytes((as_int(x) & 0x7f800000) != 0x7f800000))
BINARY_F(f_add, a + b)
BINARY_F(f_rectified_sum, rectified(a + b))
BINARY_F(f_subtract, a - b)
BINARY_F(f_multiply, a *b)
BINARY_F(f_divide, a / b)
BINARY_F(f_power, vector_power(a, b))
BINARY_F(f_maximum, choose((a > b) | (a != a), a, b))
BINARY_F(f_minimum, choose((a < b) | (a != a), a, b))
COMPARE_F(f_less, a < b)
COMPARE_F(f_less_equal, a <= b)
COMPARE_F(f_equal, a == b)

// Several functions in one pass, rounded like one after the other. Each operand is read from memory, or is the same
// everywhere.
#define OPERANDS(count)                                                          \
    _Pragma("clang fp contract(off)")                                            \
    float *d = target;                                                           \
    const float *p[count];                                                       \
    vf same[count];                                                              \
    for (int k = 0; k < count; k++) {                                            \
        p[k] = source[k];                                                        \
        same[k] = splat(*p[k]);                                                  \
    }
#define OPERAND(k) (scalar[k] ? same[k] : READ_V(F, p[k], i, part, load_part))

static void f_add_add(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    OPERANDS(3)
    LOOP(STORE_F, 4, OPERAND(0) + OPERAND(1) + OPERAND(2))
}

static void f_multiply_multiply(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    OPERANDS(3)
    LOOP(STORE_F, 4, OPERAND(0) * OPERAND(1) * OPERAND(2))
}

static void multiply_add_any(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    OPERANDS(3)
    LOOP(STORE_F, 4, OPERAND(0) * OPERAND(1) + OPERAND(2))
}

// One factor is mostly the same everywhere.
static void f_multiply_add(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    if (scalar[0] == scalar[1] || scalar[2]) return multiply_add_any(target, source, scalar, n);
    float *d = target;
    const vf factor = splat(*(const float *)source[scalar[0] ? 0 : 1]);
    const float *pa = source[scalar[0] ? 1 : 0], *pb = source[2];
    LOOP(STORE_F, 4, factor * READ_V(F, pa, i, part, load_part) + READ_V(F, pb, i, part, load_part))
}

static void f_blend(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    OPERANDS(4)
    LOOP(STORE_F, 4, OPERAND(0) * OPERAND(1) + OPERAND(2) * OPERAND(3))
}

static void f_damped_step(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    OPERANDS(6)
    LOOP(STORE_F, 4, ({
             const vf size = __builtin_elementwise_sqrt(OPERAND(3)) * OPERAND(4) + OPERAND(5);
             OPERAND(0) - OPERAND(1) * OPERAND(2) / size;
         }))
}

static void f_moments_step(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    OPERANDS(12)
    float *const first = (float *)(uintptr_t)source[12], *const second = (float *)(uintptr_t)source[13];
#define STORE_PART(p, x) (part ? store_first((p) + i, n - i, x) : (void)STORE_F(p, i, x))
    LOOP(STORE_F, 4, ({
             const vf gradient = OPERAND(7);
             const vf m = OPERAND(0) * OPERAND(1) + OPERAND(2) * OPERAND(3);
             const vf v = OPERAND(4) * OPERAND(5) + OPERAND(6) * (gradient * gradient);
             const vf size = __builtin_elementwise_sqrt(v) * OPERAND(10) + OPERAND(11);
             const vf step = OPERAND(8) - m * OPERAND(9) / size;
             STORE_PART(first, m);
             STORE_PART(second, v);
             step;
         }))
#undef STORE_PART
}

// Conditions follow in a second loop: stores that alternate between two lines that are not in the first-level cache wait for each
// other.
static void f_rectified_condition(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    float *const sum = (float *)(uintptr_t)source[2];
    f_rectified_sum(sum, source, scalar, n);
    const float zero = 0;
    const void *const pair[2] = {&zero, sum};
    const uint8_t first[2] = {1, 0};
    f_less(target, pair, first, n);
}
#undef OPERANDS
#undef OPERAND

UNARY_I(i_negate, (vi)(0u - (vu)x))
UNARY_I(i_absolute, (x < 0) ? (vi)(0u - (vu)x) : x)
UNARY_I(i_sign, (vi)((x < 0) | -(x > 0)))
UNARY_I(i_relu, (x < 0) ? (vi)(0) : x)
UNARY_I(i_same, x)
BINARY_I(i_add, (vi)((vu)a + (vu)b))
BINARY_I(i_subtract, (vi)((vu)a - (vu)b))
BINARY_I(i_multiply, (vi)((vu)a * (vu)b))
BINARY_I(i_maximum, (a > b) ? a : b)
BINARY_I(i_minimum, (a < b) ? a : b)
COMPARE_I(i_less, a < b)
COMPARE_I(i_less_equal, a <= b)
COMPARE_I(i_equal, a == b)

// condition ? a : b on four-byte elements, as bits.
static void select_32(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    int32_t *d = target;
    const uint8_t *pc = source[0];
    const int32_t *pa = source[1], *pb = source[2];
    if (scalar[0]) {
        const int taken = *pc ? 1 : 2;
        const void *chosen[1] = {source[taken]};
        if (!scalar[taken]) return i_same(target, chosen, scalar, n);
        const vi same = (vi)(*(const int32_t *)chosen[0]);
        LOOP(STORE_I, 4, same)
    } else if (scalar[1] && scalar[2]) {
        const vi sa = (vi)(*pa), sb = (vi)(*pb);
#define MASK as_mask(READ_V(B, pc, i, part, load_part_byte))
        LOOP(STORE_I, 4, ({ const vi m = MASK; (m & sa) | (~m & sb); }))
    } else if (scalar[1]) {
        const vi sa = (vi)(*pa);
        LOOP(STORE_I, 4, ({ const vi m = MASK; (m & sa) | (~m & READ_V(I, pb, i, part, load_part_int)); }))
    } else if (scalar[2]) {
        const vi sb = (vi)(*pb);
        LOOP(STORE_I, 4, ({ const vi m = MASK; (m & READ_V(I, pa, i, part, load_part_int)) | (~m & sb); }))
    } else {
        LOOP(STORE_I, 4, ({
                 const vi m = MASK;
                 (m & READ_V(I, pa, i, part, load_part_int)) | (~m & READ_V(I, pb, i, part, load_part_int));
             }))
    }
#undef MASK
}

// Operands: key low, key high, stream, step, example, variable.
static void philox(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    uint32_t *d = target;
    const uint32_t *p[6];
    int64_t step[6];
    for (int k = 0; k < 6; k++) {
        p[k] = source[k];
        step[k] = scalar[k] ? 0 : 1;
    }
    const uint32_t key0 = p[0][0], key1 = p[1][0], stream = p[2][0];
    if (scalar[0] && scalar[1] && scalar[2] && scalar[3] && scalar[4] && !scalar[5]) {
        const uint32_t now = p[3][0], example = p[4][0];
        const uint32_t *variable = p[5];
        for (int64_t i = 0; i < n; i++) d[i] = martlet_philox(key0, key1, variable[i], example, now, stream).x;
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        d[i] = martlet_philox(
                   p[0][i * step[0]], p[1][i * step[1]], p[5][i * step[5]], p[4][i * step[4]], p[3][i * step[3]],
                   p[2][i * step[2]])
                   .x;
    }
}

static void uniform_from_bits(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    (void)scalar;
    float *d = target;
    const uint32_t *a = source[0];
    for (int64_t i = 0; i < n; i++) d[i] = martlet_uniform(a[i]);
}

static void normal_from_bits(void *target, const void *const *source, const uint8_t *scalar, int64_t n) {
    (void)scalar;
    float *d = target;
    const uint32_t *a = source[0];
    for (int64_t i = 0; i < n; i++) d[i] = martlet_normal(a[i]);
}

#define ENTRY(NAME, name, ...) [MARTLET_##NAME] = f_##name,
static const martlet_kernel float_kernels[MARTLET_FUNCTION_COUNT] = {
    MARTLET_VECTOR_FUNCTIONS(ENTRY)
    [MARTLET_NEGATE] = f_negate,
    [MARTLET_ABSOLUTE] = f_absolute,
    [MARTLET_SIGN] = f_sign,
    [MARTLET_RELU] = f_relu,
    [MARTLET_IS_FINITE] = f_is_finite,
    [MARTLET_ADD] = f_add,
    [MARTLET_SUBTRACT] = f_subtract,
    [MARTLET_MULTIPLY] = f_multiply,
    [MARTLET_DIVIDE] = f_divide,
    [MARTLET_POWER] = f_power,
    [MARTLET_MAXIMUM] = f_maximum,
    [MARTLET_MINIMUM] = f_minimum,
    [MARTLET_LESS] = f_less,
    [MARTLET_LESS_EQUAL] = f_less_equal,
    [MARTLET_EQUAL] = f_equal,
    [MARTLET_SELECT] = select_32,
    [MARTLET_ADD_ADD] = f_add_add,
    [MARTLET_MULTIPLY_MULTIPLY] = f_multiply_multiply,
    [MARTLET_MULTIPLY_ADD] = f_multiply_add,
    [MARTLET_BLEND] = f_blend,
    [MARTLET_RECTIFIED_SUM] = f_rectified_sum,
    [MARTLET_DAMPED_STEP] = f_damped_step,
    [MARTLET_MOMENTS_STEP] = f_moments_step,
    [MARTLET_RECTIFIED_CONDITION] = f_rectified_condition,
};
#undef ENTRY

static const martlet_kernel integer_kernels[MARTLET_FUNCTION_COUNT] = {
    [MARTLET_NEGATE] = i_negate,
    [MARTLET_ABSOLUTE] = i_absolute,
    [MARTLET_SIGN] = i_sign,
    [MARTLET_RELU] = i_relu,
    [MARTLET_ADD] = i_add,
    [MARTLET_SUBTRACT] = i_subtract,
    [MARTLET_MULTIPLY] = i_multiply,
    [MARTLET_MAXIMUM] = i_maximum,
    [MARTLET_MINIMUM] = i_minimum,
    [MARTLET_LESS] = i_less,
    [MARTLET_LESS_EQUAL] = i_less_equal,
    [MARTLET_EQUAL] = i_equal,
    [MARTLET_SELECT] = select_32,
    [MARTLET_PHILOX] = philox,
    [MARTLET_UNIFORM_FROM_BITS] = uniform_from_bits,
    [MARTLET_NORMAL_FROM_BITS] = normal_from_bits,
};
