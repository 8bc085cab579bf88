// Elementary functions on vectors of floats: reduction of the argument, a polynomial, reconstruction. Polynomials are
// fitted by Scripts/fit_functions.py. Largest errors against double precision, in units in the last place, with and
// without a fused multiply-add (Tests/CPUTests/FunctionTests.swift measures them):
//
//     exp 1, log 1, log1p 1.5, expm1 2, tanh 2.5, sigmoid 2, softplus 2, erf 1.5, hazard 3, sin 1.5, cos 1.5, power 1
//
// Infinities, NaN and zeros give what IEEE 754 wants of each function. Subnormal numbers are zero where the thread flushes
// them (martlet_flush_subnormals), and are right where it does not.

// The nearest integer as a float with its value in the lowest bits, for |x| below 2^22.
#define ROUNDING 12582912.0f

// 2^n for -126 <= n <= 127.
INLINE vf power_of_two(vi n) { return as_float((n + 127) << 23); }

// exp(r) - 1 for |r| <= log(2) / 2.
INLINE vf expm1_reduced(vf r) {
    vf p = splat(0.00139261759f);
    p = FMA(p, r, splat(0.00836317334f));
    p = FMA(p, r, splat(0.0416665561f));
    p = FMA(p, r, splat(0.166665778f));
    p = FMA(p, r, splat(0.5f));
    return FMA(p * r, r, r);
}

// x = n log(2) + r.
INLINE vf reduce_exp(vf x, vi *n) {
    const vf shifted = FMA(x, splat(1.44269504f), splat(ROUNDING));
    const vf whole = shifted - ROUNDING;
    *n = as_int(shifted) - as_int(splat(ROUNDING));
    // log(2) in two parts, the first with few enough bits that n times it is exact.
    vf r = FMA(whole, splat(-0.693359375f), x);
    return FMA(whole, splat(2.12194440e-4f), r);
}

INLINE vf vector_exp(vf x) {
    vf bounded = choose(x > 89.0f, splat(89.0f), x);
    bounded = choose(bounded < -104.0f, splat(-104.0f), bounded);
    vi n;
    const vf r = reduce_exp(bounded, &n);
    const vf p = expm1_reduced(r) + 1.0f;
    // In two steps, for results that overflow or are subnormal.
    const vi half = n >> 1;
    return p * power_of_two(half) * power_of_two(n - half);
}

INLINE vf vector_expm1(vf x) {
    vf bounded = choose(x > 89.0f, splat(89.0f), x);
    bounded = choose(bounded < -18.0f, splat(-18.0f), bounded);
    vi n;
    const vf r = reduce_exp(bounded, &n);
    const vf q = expm1_reduced(r);
    // 2^n q + (2^n - 1), halved until the end so that n = 128 does not overflow early.
    const vf t = power_of_two(n - 1);
    const vf result = 2.0f * FMA(t, q, t - 0.5f);
    // Small arguments keep all their bits.
    return choose(n == 0, q, result);
}

// log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)], plus n log(2).
INLINE vf log_reduced(vf f, vf n) {
    vf p = splat(0.0697161183f);
    p = FMA(p, f, splat(-0.114797339f));
    p = FMA(p, f, splat(0.116854198f));
    p = FMA(p, f, splat(-0.124256872f));
    p = FMA(p, f, splat(0.142490581f));
    p = FMA(p, f, splat(-0.166678026f));
    p = FMA(p, f, splat(0.200007156f));
    p = FMA(p, f, splat(-0.24999997f));
    p = FMA(p, f, splat(0.333333313f));
    const vf square = f * f;
    vf y = p * f * square;
    y = FMA(n, splat(-2.12194440e-4f), y);
    y = FMA(square, splat(-0.5f), y);
    return FMA(n, splat(0.693359375f), f + y);
}

// x = 2^n (1 + f) for positive finite x; f is returned.
INLINE vf split(vf x, vf *n) {
    const vi tiny = x < 1.17549435e-38f;
    x = choose(tiny, x * 8388608.0f, x);
    const vi bits = as_int(x) - 0x3f3504f3;
    const vi exponent = bits >> 23;
    *n = __builtin_convertvector(exponent + (tiny & -23), vf);
    return as_float((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
}

INLINE vf vector_log(vf x) {
    vf n;
    const vf f = split(x, &n);
    vf y = log_reduced(f, n);
    y = choose(x == __builtin_inff(), x, y);
    y = choose(x == 0.0f, splat(-__builtin_inff()), y);
    return choose((x < 0.0f) | (x != x), splat(__builtin_nanf("")), y);
}

INLINE vf vector_log1p(vf x) {
    const vf u = x + 1.0f;
    vf n;
    const vf f = split(u, &n);
    // What the rounding of 1 + x lost, to first order.
    const vf lost = choose(u > 4.0f, 1.0f - (u - x), x - (u - 1.0f));
    vf y = log_reduced(f, n) + lost / u;
    y = choose(u == __builtin_inff(), u, y);
    y = choose(u == 0.0f, splat(-__builtin_inff()), y);
    y = choose((u < 0.0f) | (u != u), splat(__builtin_nanf("")), y);
    return choose(absolute(x) < 5.9604645e-8f, x, y);
}

INLINE vf with_sign(vf magnitude, vf sign) {
    return as_float(as_int(magnitude) | (as_int(sign) & (int32_t)0x80000000));
}

INLINE vf vector_tanh(vf x) {
    vf magnitude = absolute(x);
    magnitude = choose(magnitude > 10.0f, splat(10.0f), magnitude);
    const vf t = vector_expm1(2.0f * magnitude);
    return with_sign(t / (t + 2.0f), x);
}

INLINE vf vector_sigmoid(vf x) {
    const vf e = vector_exp(-absolute(x));
    return choose(x < 0.0f, e, splat(1.0f)) / (1.0f + e);
}

// log(1 + u) for 0 <= u <= 1.
INLINE vf log1p_unit(vf u) {
    const vf v = u + 1.0f;
    const vi is_large = v > 1.41421356f;
    const vf f = choose(is_large, 0.5f * v, v) - 1.0f;
    const vf lost = u - (v - 1.0f);
    // 1 / v, as nearly as what was lost is worth: the error is below u / 11.
    const vf inverse = FMA(u, FMA(u, splat(0.5f), splat(-1.0f)), splat(1.0f));
    return FMA(lost, inverse, log_reduced(f, choose(is_large, splat(1.0f), splat(0.0f))));
}

INLINE vf vector_softplus(vf x) {
    const vf tail = log1p_unit(vector_exp(-absolute(x)));
    return choose(x > 0.0f, x, splat(0.0f)) + choose(x == x, tail, x);
}

INLINE vf vector_erf(vf x) {
    const vf t = absolute(x);
    const vf s = x * x;
    vf inner = splat(7.87587487e-05f);
    inner = FMA(inner, s, splat(-0.00080168643f));
    inner = FMA(inner, s, splat(0.00518908724f));
    inner = FMA(inner, s, splat(-0.0268542115f));
    inner = FMA(inner, s, splat(0.112835944f));
    inner = FMA(inner, s, splat(-0.37612626f));
    inner = FMA(inner, s, splat(0.128379166f));
    inner = FMA(inner, x, x);
    const vf u = choose(t > 4.0f, splat(4.0f), t);
    vf outer = splat(1.16603246e-06f);
    outer = FMA(outer, u, splat(-3.659301e-05f));
    outer = FMA(outer, u, splat(0.000515745545f));
    outer = FMA(outer, u, splat(-0.00437392248f));
    outer = FMA(outer, u, splat(0.0253086016f));
    outer = FMA(outer, u, splat(-0.108091913f));
    outer = FMA(outer, u, splat(-0.633971453f));
    outer = FMA(outer, u, splat(-0.128957242f));
    outer = with_sign(1.0f - vector_exp(FMA(outer, u, -u)), x);
    return choose(t > 1.0f, outer, inner);
}

INLINE vf vector_hazard(vf x) {
    const vf u = absolute(x);
    const vf r = 1.0f / (u + 2.5f);
    const vf t = (u - 2.5f) * r;
    vf p = splat(-0.000425950449f);
    p = FMA(p, t, splat(-0.00179140666f));
    p = FMA(p, t, splat(0.000649031776f));
    p = FMA(p, t, splat(0.00952419359f));
    p = FMA(p, t, splat(0.0054451013f));
    p = FMA(p, t, splat(-0.0264351666f));
    p = FMA(p, t, splat(-0.0352819376f));
    p = FMA(p, t, splat(0.0573675185f));
    p = FMA(p, t, splat(0.142879158f));
    p = FMA(p, t, splat(-0.155033395f));
    p = FMA(p, t, splat(-0.610621214f));
    p = FMA(p, t, splat(1.61372375f));
    return choose(u < 1e30f, FMA(p, r, u), u);
}

// The reduction takes doubles: for |x| below 2^19 the multiple of the first part of pi / 2 (33 bits) is exact. The rest,
// which hardly any model feeds, is left to `large_sine`.
INLINE vf sine(vf x, int32_t quarter) {
    const vd wide = __builtin_convertvector(x, vd);
    const vd shifted = wide * 0.63661977236758134308 + 6755399441055744.0;
    const vd whole = shifted - 6755399441055744.0;
    const vi q = __builtin_convertvector((vl)shifted, vi) + quarter;
    vd fraction = wide - whole * 1.5707963267341256142;
    fraction = fraction - whole * 6.0771005065061922e-11;
    const vf r = __builtin_convertvector(fraction, vf);
    const vf s = r * r;
    vf odd = splat(2.72499256e-06f);
    odd = FMA(odd, s, splat(-0.00019840087f));
    odd = FMA(odd, s, splat(0.00833333191f));
    odd = FMA(odd, s, splat(-0.166666672f));
    odd = FMA(odd * s, r, r);
    vf even = splat(2.45479423e-05f);
    even = FMA(even, s, splat(-0.00138883025f));
    even = FMA(even, s, splat(0.0416666642f));
    even = FMA(even * s, s, FMA(s, splat(-0.5f), splat(1.0f)));
    const vf y = choose((q & 1) != 0, even, odd);
    return as_float(as_int(y) ^ ((q & 2) << 30));
}

INLINE vf large_sine(vf x, vf y, int32_t quarter) {
    for (int lane = 0; lane < WIDTH; lane++) {
        // NaN takes this path as well.
        if (!(__builtin_fabsf(x[lane]) < 524288.0f)) {
            y[lane] = (float)(quarter ? __builtin_cos((double)x[lane]) : __builtin_sin((double)x[lane]));
        }
    }
    return y;
}

INLINE vf vector_sine(vf x, int32_t quarter) {
    const vi odd = ~(absolute(x) < 524288.0f);
    const vf bounded = choose(odd, splat(0.0f), x);
    const vf y = sine(bounded, quarter);
    return __builtin_reduce_or(odd) ? large_sine(x, y, quarter) : choose(x == 0.0f, quarter ? splat(1.0f) : x, y);
}

INLINE vf vector_sin(vf x) { return vector_sine(x, 0); }
INLINE vf vector_cos(vf x) { return vector_sine(x, 1); }

#define choose_wide(condition, yes, no) ((condition) ? (yes) : (no))

// |a| ^ b through a logarithm and an exponential in double precision, then IEEE 754's rules for signs and limits.
INLINE vf vector_power(vf a, vf b) {
    const vd magnitude = __builtin_convertvector(absolute(a), vd);
    const vl bits = (vl)magnitude - 0x3fe6a09e667f3bcdLL;
    const vd exponent = __builtin_convertvector(bits >> 52, vd);
    const vd m = (vd)((bits & 0x000fffffffffffffLL) + 0x3fe6a09e667f3bcdLL);
    const vd t = (m - 1.0) / (m + 1.0);
    const vd s = t * t;
    vd p = (vd)(1.0 / 17);
    p = p * s + 1.0 / 15;
    p = p * s + 1.0 / 13;
    p = p * s + 1.0 / 11;
    p = p * s + 1.0 / 9;
    p = p * s + 1.0 / 7;
    p = p * s + 1.0 / 5;
    p = p * s + 1.0 / 3;
    p = p * s + 1.0;
    vd logarithm = exponent * 0.69314718055994530942 + 2.0 * t * p;
    logarithm = choose_wide(magnitude == 0.0, (vd)(-__builtin_inf()), logarithm);
    logarithm = choose_wide((magnitude == __builtin_inf()) | (magnitude != magnitude), magnitude, logarithm);
    vd z = __builtin_convertvector(b, vd) * logarithm;
    // Beyond these the float is zero or infinite; NaN passes both.
    z = choose_wide(z > 100.0, (vd)(100.0), z);
    z = choose_wide(z < -120.0, (vd)(-120.0), z);
    const vd shifted = z * 1.44269504088896340736 + 6755399441055744.0;
    const vd whole = shifted - 6755399441055744.0;
    const vd r = z - whole * 0.69314718055994530942;
    vd e = (vd)(1.0 / 40320);
    e = e * r + 1.0 / 5040;
    e = e * r + 1.0 / 720;
    e = e * r + 1.0 / 120;
    e = e * r + 1.0 / 24;
    e = e * r + 1.0 / 6;
    e = e * r + 0.5;
    e = e * r + 1.0;
    e = e * r + 1.0;
    const vl scale = ((vl)shifted - 0x4338000000000000LL + 1023) << 52;
    vf y = __builtin_convertvector(e * (vd)scale, vf);
    const vf halved = b * 0.5f;
    const vi is_whole = __builtin_elementwise_floor(b) == b;
    const vi is_odd = is_whole & (__builtin_elementwise_floor(halved) != halved);
    const vi is_negative = as_int(a) < 0;
    y = choose(is_negative & is_odd, -y, y);
    y = choose((a < 0.0f) & ~is_whole & (absolute(a) != __builtin_inff()), splat(__builtin_nanf("")), y);
    y = choose((a == 1.0f) | (b == 0.0f), splat(1.0f), y);
    return choose((a == -1.0f) & (absolute(b) == __builtin_inff()), splat(1.0f), y);
}
