// The elementwise functions that have kernels, by the names that the graph's table (ElementwiseTable.swift) gives them.
#pragma once

/// Functions whose kernels are written one by one, in elementwise_kernels.h and scalar_kernels.c.
#define MARTLET_FUNCTIONS(F)          \
    F(NEGATE, negate)                 \
    F(ABSOLUTE, absolute)             \
    F(RELU, relu)                     \
    F(SIGN, sign)                     \
    F(IS_FINITE, isFinite)            \
    F(LOGICAL_NOT, logicalNot)        \
    F(CAST, cast)                     \
    F(ADD, add)                       \
    F(SUBTRACT, subtract)             \
    F(MULTIPLY, multiply)             \
    F(DIVIDE, divide)                 \
    F(POWER, power)                   \
    F(MAXIMUM, maximum)               \
    F(MINIMUM, minimum)               \
    F(LESS, less)                     \
    F(LESS_EQUAL, lessEqual)          \
    F(EQUAL, equal)                   \
    F(LOGICAL_AND, logicalAnd)        \
    F(LOGICAL_OR, logicalOr)          \
    F(SELECT, select)                 \
    F(PHILOX, philox)                 \
    F(UNIFORM_FROM_BITS, uniformFromBits) \
    F(NORMAL_FROM_BITS, normalFromBits)

/// Functions of one float, each by an expression of a vector x, of what vector.h and vector_math.h offer. A row here is the vector function
/// of a row of the graph's table; without one the processor takes its meaning, element by element.
#define MARTLET_VECTOR_FUNCTIONS(F)   \
    F(EXP, exp, vector_exp(x))        \
    F(LOG, log, vector_log(x))        \
    F(LOG1P, log1p, vector_log1p(x))  \
    F(EXPM1, expm1, vector_expm1(x))  \
    F(SQRT, sqrt, __builtin_elementwise_sqrt(x)) \
    F(TANH, tanh, vector_tanh(x))     \
    F(SIGMOID, sigmoid, vector_sigmoid(x)) \
    F(SOFTPLUS, softplus, vector_softplus(x)) \
    F(FLOOR, floor, __builtin_elementwise_floor(x)) \
    F(SIN, sin, vector_sin(x))        \
    F(COS, cos, vector_cos(x))        \
    F(ERF, erf, vector_erf(x))        \
    F(HAZARD, hazard, vector_hazard(x)) \
    F(LOG1MEXP, log1mexp, choose(x > 0.6931472f, vector_log1p(-vector_exp(-x)), vector_log(-vector_expm1(-x))))
