#!/usr/bin/env python3
"""Fits the polynomials of Sources/CPUKernels/vector_math.h and prints them as C. Needs mpmath.

Each is the interpolant at Chebyshev nodes of a function whose leading terms are split off, so that they stay exact.
"""
import struct

import mpmath as mp

mp.mp.dps = 40


def interpolate(f, degree, low, high):
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * degree + 2)) for i in range(degree + 1)]
    matrix = mp.matrix(degree + 1, degree + 1)
    right = mp.matrix(degree + 1, 1)
    for row, x in enumerate(nodes):
        for column in range(degree + 1):
            matrix[row, column] = x ** column
        right[row] = f(x)
    return list(mp.lu_solve(matrix, right))


def f32(x):
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def show(name, f, degree, low, high):
    coefficients = interpolate(f, degree, mp.mpf(low), mp.mpf(high))
    worst = 0
    for i in range(400):
        x = mp.mpf(low) + (mp.mpf(high) - mp.mpf(low)) * (i + mp.mpf("0.37")) / 400
        value = mp.polyval([mp.mpf(f32(c)) for c in reversed(coefficients)], x)
        worst = max(worst, abs(value - f(x)))
    print("// %s: error %s on [%s, %s]" % (name, mp.nstr(worst, 2), mp.nstr(low, 4), mp.nstr(high, 4)))
    print("    " + ", ".join("%.9gf" % f32(c) for c in coefficients))


half = mp.log(2) / 2
show("(exp(r) - 1 - r) / r^2", lambda r: (mp.expm1(r) - r) / r ** 2 if abs(r) > 1e-12 else mp.mpf(1) / 2 + r / 6, 4, -half, half)
show("(log(1 + f) - f + f^2/2) / f^3", lambda f: (mp.log1p(f) - f + f * f / 2) / f ** 3, 8,
     mp.sqrt(mp.mpf(1) / 2) - 1, mp.sqrt(2) - 1)
quarter = (mp.pi / 4) ** 2
tiny = mp.mpf(10) ** -10
show("(sin(r) - r) / r^3 in r^2", lambda s: (mp.sin(mp.sqrt(s)) - mp.sqrt(s)) / mp.sqrt(s) ** 3, 3, tiny, quarter)
show("(cos(r) - 1 + r^2/2) / r^4 in r^2", lambda s: (mp.cos(mp.sqrt(s)) - 1 + s / 2) / s ** 2, 2, tiny, quarter)
show("erf(x)/x - 1 in x^2", lambda s: mp.erf(mp.sqrt(s)) / mp.sqrt(s) - 1, 6, tiny, 1)
show("log(1 - erf(t))/t + 1", lambda t: mp.log(mp.erfc(t)) / t + 1, 7, 1, mp.mpf(4))


def hazard_part(p):
    """(h(u) - u) (u + 2.5) for u = 2.5 (1 + p) / (1 - p), h the hazard of the standard normal."""
    u = mp.mpf("2.5") * (1 + p) / (1 - p)
    if u > 1000:
        return (1 / u - 2 / u ** 3) * (u + mp.mpf("2.5"))
    return (mp.sqrt(2 / mp.pi) * mp.exp(-u * u / 2) / mp.erfc(u / mp.sqrt(2)) - u) * (u + mp.mpf("2.5"))


show("(hazard(u) - u) (u + 2.5) in (u - 2.5) / (u + 2.5)", hazard_part, 11, -1, 1)
