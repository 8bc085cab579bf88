// Kernels whose speed hardly matters: float64 (for checks), bytes and truth values, division of integers, conversions.
#include <math.h>

#include "kernels.h"

#define AT(p, k) ((p)[scalar[k] ? 0 : i])

#define UNARY(name, from, to, expression)                                                         \
    static void name(void *target, const void *const *source, const uint8_t *scalar, int64_t n) { \
        to *d = target;                                                                           \
        const from *pa = source[0];                                                               \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const from a = AT(pa, 0);                                                             \
            d[i] = (to)(expression);                                                              \
        }                                                                                         \
    }
#define BINARY(name, from, to, expression)                                                        \
    static void name(void *target, const void *const *source, const uint8_t *scalar, int64_t n) { \
        to *d = target;                                                                           \
        const from *pa = source[0], *pb = source[1];                                              \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const from a = AT(pa, 0), b = AT(pb, 1);                                              \
            d[i] = (to)(expression);                                                              \
        }                                                                                         \
    }
#define SELECT(name, type)                                                                        \
    static void name(void *target, const void *const *source, const uint8_t *scalar, int64_t n) { \
        type *d = target;                                                                         \
        const uint8_t *pc = source[0];                                                            \
        const type *pa = source[1], *pb = source[2];                                              \
        for (int64_t i = 0; i < n; i++) d[i] = AT(pc, 0) ? AT(pa, 1) : AT(pb, 2);                 \
    }

// As `Math.hazard` in Swift: the continued fraction (Abramowitz and Stegun 1964, 26.2.14) where the tail gets small.
static double hazard(double x) {
    const double u = fabs(x);
    if (u < 5) return exp(-u * u / 2) * 0.79788456080286536 / erfc(u * 0.70710678118654752);
    double fraction = u;
    for (int k = 30; k >= 1; k--) fraction = u + k / fraction;
    return fraction;
}

UNARY(d_negate, double, double, -a)
UNARY(d_absolute, double, double, fabs(a))
UNARY(d_sign, double, double, a > 0 ? 1 : a < 0 ? -1 : a)
UNARY(d_exp, double, double, exp(a))
UNARY(d_log, double, double, log(a))
UNARY(d_log1p, double, double, log1p(a))
UNARY(d_expm1, double, double, expm1(a))
UNARY(d_sqrt, double, double, sqrt(a))
UNARY(d_tanh, double, double, tanh(a))
UNARY(d_sigmoid, double, double, a < 0 ? exp(a) / (1 + exp(a)) : 1 / (1 + exp(-a)))
UNARY(d_softplus, double, double, (a > 0 ? a : 0) + (a == a ? log1p(exp(-fabs(a))) : a))
UNARY(d_relu, double, double, a < 0 ? 0 : a)
UNARY(d_floor, double, double, floor(a))
UNARY(d_sin, double, double, sin(a))
UNARY(d_cos, double, double, cos(a))
UNARY(d_erf, double, double, erf(a))
UNARY(d_hazard, double, double, hazard(a))
UNARY(d_is_finite, double, uint8_t, a - a == 0)
BINARY(d_add, double, double, a + b)
BINARY(d_subtract, double, double, a - b)
BINARY(d_multiply, double, double, a *b)
BINARY(d_divide, double, double, a / b)
BINARY(d_power, double, double, pow(a, b))
BINARY(d_maximum, double, double, a > b || a != a ? a : b)
BINARY(d_minimum, double, double, a < b || a != a ? a : b)
BINARY(d_less, double, uint8_t, a < b)
BINARY(d_less_equal, double, uint8_t, a <= b)
BINARY(d_equal, double, uint8_t, a == b)
SELECT(d_select, double)

// A quotient that the processor would trap on is zero (division by zero) or wraps around.
BINARY(i_divide, int32_t, int32_t, b == 0 ? 0 : b == -1 ? (int32_t)(0u - (uint32_t)a) : a / b)
UNARY(i_is_finite, int32_t, uint8_t, ((void)a, 1))

UNARY(b_negate, uint8_t, uint8_t, -a)
UNARY(b_same, uint8_t, uint8_t, a)
UNARY(b_sign, uint8_t, uint8_t, a != 0)
UNARY(b_is_finite, uint8_t, uint8_t, ((void)a, 1))
BINARY(b_add, uint8_t, uint8_t, a + b)
BINARY(b_subtract, uint8_t, uint8_t, a - b)
BINARY(b_multiply, uint8_t, uint8_t, a *b)
BINARY(b_divide, uint8_t, uint8_t, b == 0 ? 0 : a / b)
BINARY(b_maximum, uint8_t, uint8_t, a > b ? a : b)
BINARY(b_minimum, uint8_t, uint8_t, a < b ? a : b)
BINARY(b_less, uint8_t, uint8_t, a < b)
BINARY(b_less_equal, uint8_t, uint8_t, a <= b)
BINARY(b_equal, uint8_t, uint8_t, a == b)
SELECT(b_select, uint8_t)
UNARY(b_not, uint8_t, uint8_t, a == 0)
BINARY(b_and, uint8_t, uint8_t, a != 0 && b != 0)
BINARY(b_or, uint8_t, uint8_t, a != 0 || b != 0)

// Conversions truncate toward zero; what an integer cannot hold becomes the nearest it can, and NaN zero.
#define CONVERT(name, from, to, expression)                                                       \
    static void name(void *target, const void *const *source, const uint8_t *scalar, int64_t n) { \
        (void)scalar;                                                                             \
        to *d = target;                                                                           \
        const from *pa = source[0];                                                               \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const from a = pa[i];                                                                 \
            d[i] = (to)(expression);                                                              \
        }                                                                                         \
    }
static inline int32_t to_int(double a) {
    return a >= 2147483647.0 ? INT32_MAX : a <= -2147483648.0 ? INT32_MIN : a == a ? (int32_t)a : 0;
}
static inline int32_t float_to_int(float a) {
    return a >= 2147483648.0f ? INT32_MAX : a <= -2147483648.0f ? INT32_MIN : a == a ? (int32_t)a : 0;
}
static inline int32_t to_byte(int32_t a) { return a < 0 ? 0 : a > 255 ? 255 : a; }
CONVERT(f_to_f, float, float, a)
CONVERT(f_to_d, float, double, a)
CONVERT(f_to_i, float, int32_t, float_to_int(a))
CONVERT(f_to_b, float, uint8_t, to_byte(float_to_int(a)))
CONVERT(f_to_t, float, uint8_t, a != 0)
CONVERT(d_to_f, double, float, a)
CONVERT(d_to_d, double, double, a)
CONVERT(d_to_i, double, int32_t, to_int(a))
CONVERT(d_to_b, double, uint8_t, to_byte(to_int(a)))
CONVERT(d_to_t, double, uint8_t, a != 0)
CONVERT(i_to_f, int32_t, float, a)
CONVERT(i_to_d, int32_t, double, a)
CONVERT(i_to_i, int32_t, int32_t, a)
CONVERT(i_to_b, int32_t, uint8_t, to_byte(a))
CONVERT(i_to_t, int32_t, uint8_t, a != 0)
CONVERT(b_to_f, uint8_t, float, a)
CONVERT(b_to_d, uint8_t, double, a)
CONVERT(b_to_i, uint8_t, int32_t, a)
CONVERT(b_to_b, uint8_t, uint8_t, a)
CONVERT(b_to_t, uint8_t, uint8_t, a != 0)

static const martlet_kernel conversions[MARTLET_ELEMENT_COUNT][MARTLET_ELEMENT_COUNT] = {
    [MARTLET_FLOAT32] = {f_to_f, f_to_d, f_to_i, f_to_b, f_to_t},
    [MARTLET_FLOAT64] = {d_to_f, d_to_d, d_to_i, d_to_b, d_to_t},
    [MARTLET_INT32] = {i_to_f, i_to_d, i_to_i, i_to_b, i_to_t},
    [MARTLET_UINT8] = {b_to_f, b_to_d, b_to_i, b_to_b, b_to_t},
    [MARTLET_BOOL] = {b_to_f, b_to_d, b_to_i, b_to_b, b_to_b},
};

static const martlet_kernel doubles[MARTLET_FUNCTION_COUNT] = {
    [MARTLET_NEGATE] = d_negate,     [MARTLET_ABSOLUTE] = d_absolute,
    [MARTLET_SIGN] = d_sign,         [MARTLET_EXP] = d_exp,
    [MARTLET_LOG] = d_log,           [MARTLET_LOG1P] = d_log1p,
    [MARTLET_EXPM1] = d_expm1,       [MARTLET_SQRT] = d_sqrt,
    [MARTLET_TANH] = d_tanh,         [MARTLET_SIGMOID] = d_sigmoid,
    [MARTLET_SOFTPLUS] = d_softplus, [MARTLET_RELU] = d_relu,
    [MARTLET_FLOOR] = d_floor,       [MARTLET_SIN] = d_sin,
    [MARTLET_COS] = d_cos,           [MARTLET_ERF] = d_erf,
    [MARTLET_HAZARD] = d_hazard,
    [MARTLET_ADD] = d_add,           [MARTLET_SUBTRACT] = d_subtract,
    [MARTLET_MULTIPLY] = d_multiply, [MARTLET_DIVIDE] = d_divide,
    [MARTLET_POWER] = d_power,       [MARTLET_MAXIMUM] = d_maximum,
    [MARTLET_MINIMUM] = d_minimum,   [MARTLET_LESS] = d_less,
    [MARTLET_EQUAL] = d_equal,       [MARTLET_LESS_EQUAL] = d_less_equal,
    [MARTLET_SELECT] = d_select,     [MARTLET_IS_FINITE] = d_is_finite,
};

static const martlet_kernel bytes[MARTLET_FUNCTION_COUNT] = {
    [MARTLET_NEGATE] = b_negate,      [MARTLET_ABSOLUTE] = b_same,
    [MARTLET_SIGN] = b_sign,          [MARTLET_RELU] = b_same,
    [MARTLET_ADD] = b_add,            [MARTLET_SUBTRACT] = b_subtract,
    [MARTLET_MULTIPLY] = b_multiply,  [MARTLET_DIVIDE] = b_divide,
    [MARTLET_MAXIMUM] = b_maximum,    [MARTLET_MINIMUM] = b_minimum,
    [MARTLET_LESS] = b_less,          [MARTLET_LESS_EQUAL] = b_less_equal,
    [MARTLET_EQUAL] = b_equal,        [MARTLET_SELECT] = b_select,
    [MARTLET_LOGICAL_NOT] = b_not,    [MARTLET_LOGICAL_AND] = b_and,
    [MARTLET_LOGICAL_OR] = b_or,      [MARTLET_IS_FINITE] = b_is_finite,
};

martlet_function martlet_function_named(const char *name) {
#define NAME(NAME, name, ...) #name,
    static const char *const names[] = {MARTLET_FUNCTIONS(NAME) MARTLET_VECTOR_FUNCTIONS(NAME)};
#undef NAME
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) return (martlet_function)i;
    }
    return MARTLET_FUNCTION_COUNT;
}

static int is_comparison(martlet_function function) {
    return function == MARTLET_LESS || function == MARTLET_LESS_EQUAL || function == MARTLET_EQUAL ||
           function == MARTLET_IS_FINITE || function == MARTLET_RECTIFIED_CONDITION;
}

martlet_kernel martlet_find_kernel(
    martlet_isa isa, martlet_function function, martlet_element from, martlet_element to) {
    if (function == MARTLET_CAST) return conversions[from][to];
    const martlet_isa_functions *vectors = martlet_isa_table(isa);
    // Of a kernel's types the result's is what remains to be checked.
    martlet_element expected = is_comparison(function) ? MARTLET_BOOL : from;
    if (function == MARTLET_UNIFORM_FROM_BITS || function == MARTLET_NORMAL_FROM_BITS) expected = MARTLET_FLOAT32;
    if (to != expected) return NULL;
    switch (from) {
        case MARTLET_FLOAT32: return vectors->float_kernels[function];
        case MARTLET_FLOAT64: return doubles[function];
        case MARTLET_INT32:
            if (function == MARTLET_DIVIDE) return i_divide;
            if (function == MARTLET_IS_FINITE) return i_is_finite;
            return vectors->integer_kernels[function];
        case MARTLET_UINT8:
        case MARTLET_BOOL: return bytes[function];
        default: return NULL;
    }
}
