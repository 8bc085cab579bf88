#!/usr/bin/env python3
"""Fits the coefficients of the inverse normal distribution in Kernels/include/MartletRandom.h.

Prints the two tables as C. Needs mpmath. The tail probability p = w / 2^33 of an odd 32-bit integer w is split by the
leading zeros of w and its next two bits; each piece is a polynomial of degree 5 in the rest. The central piece
p in [1/4, 1/2) is y times a polynomial of degree 6 in y^2, y = 1 - 2 p, so that it is accurate relative to z near zero.

Run with --check N to compare N points of the float32 evaluation with mpmath.
"""
import random
import struct
import sys

import mpmath as mp

mp.mp.dps = 40
DEGREE, CENTRAL = 5, 6


def quantile(p):
    """z with upper tail probability p, 0 < p < 1/2."""
    p = mp.mpf(p)
    z = mp.sqrt(2) * mp.erfinv(1 - 2 * p) if p > mp.mpf(2) ** -20 else mp.sqrt(-2 * mp.log(p))
    for _ in range(12):
        f = mp.erfc(z / mp.sqrt(2)) / 2 - p
        density = mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)
        step = f / density
        z += step / (1 - z * step / 2)
    return z


def interpolate(f, degree, low, high):
    """Coefficients, constant first, of the interpolant of f at the Chebyshev nodes of [low, high]."""
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


def tables():
    tail = []
    for zeros in range(1, 32):
        for part in range(4):
            def f(x):
                w = mp.mpf(2) ** (31 - zeros) * (1 + (part + (x + 1) / 2) / 4)
                return quantile(w / mp.mpf(2) ** 33)
            tail.append(interpolate(f, DEGREE, mp.mpf(-1), mp.mpf(1)))

    def g(square):
        y = mp.sqrt(square)
        return quantile((1 - y) / 2) / y
    # The lower end is a little above zero only because the ratio is not defined there.
    central = interpolate(g, CENTRAL, mp.mpf(10) ** -12, mp.mpf(1) / 4)
    return tail, central


def fma(a, b, c):
    return f32(mp.mpf(a) * mp.mpf(b) + mp.mpf(c))


def evaluate(bits, tail, central):
    """What the C does, rounding by rounding."""
    t = bits if bits < 1 << 31 else ~bits & 0xFFFFFFFF
    w = 2 * t + 1
    zeros = 32 - w.bit_length()
    if zeros == 0:
        y = f32(((1 << 32) - w)) * 2.0 ** -32
        s = f32(y * y)
        value = central[-1]
        for c in reversed(central[:-1]):
            value = fma(value, s, c)
        z = f32(value * y)
    else:
        normalized = (w << zeros) & 0xFFFFFFFF
        x = f32((normalized & 0x1FFFFFFF) - 0x10000000) * 2.0 ** -28
        c = tail[(zeros - 1) * 4 + (normalized >> 29 & 3)]
        z = c[-1]
        for a in reversed(c[:-1]):
            z = fma(z, x, a)
    return z if bits >= 1 << 31 else -z, mp.mpf(w) / mp.mpf(2) ** 33


def main():
    tail, central = tables()
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        tail = [[f32(c) for c in row] for row in tail]
        central = [f32(c) for c in central]
        worst = (0, 0)
        rng = random.Random(1)
        for _ in range(int(sys.argv[2])):
            bits = rng.getrandbits(32) >> rng.choice([0, 0, 1, 2, 3, 5, 8, 13, 20, 28])
            z, p = evaluate(bits, tail, central)
            worst = max(worst, (float(abs(abs(z) / quantile(p) - 1)), bits))
        print("largest relative error %.3g at bits 0x%08x" % worst)
        return
    print("MARTLET_TABLE float martlet_normal_central[%d] = {" % (CENTRAL + 1))
    print("    " + ", ".join("%.9gf" % f32(c) for c in central) + "};\n")
    print("MARTLET_TABLE float martlet_normal_tail[%d] = {" % (len(tail) * (DEGREE + 1)))
    for row in tail:
        print("    " + ", ".join("%.9gf" % f32(c) for c in row) + ",")
    print("};")


main()
