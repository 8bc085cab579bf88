// Vectors of WIDTH floats. The including file defines WIDTH and FUSED (whether the processor has a fused multiply-add) and
// pushes the target attribute that lets the compiler use the registers.
// Every rounding is written down: no multiply and add is fused unless the source says so.
#pragma clang fp contract(off)

#define ALIASING __attribute__((may_alias))
typedef float vf __attribute__((ext_vector_type(WIDTH)));
typedef int32_t vi __attribute__((ext_vector_type(WIDTH)));
typedef uint32_t vu __attribute__((ext_vector_type(WIDTH)));
typedef double vd __attribute__((ext_vector_type(WIDTH)));
typedef int64_t vl __attribute__((ext_vector_type(WIDTH)));
typedef uint8_t vb __attribute__((ext_vector_type(WIDTH)));
typedef int8_t vsb __attribute__((ext_vector_type(WIDTH)));
// The same at any address.
typedef vf vf_at __attribute__((aligned(4), may_alias));
typedef vi vi_at __attribute__((aligned(4), may_alias));
typedef vb vb_at __attribute__((aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

#if FUSED
#define FMA(a, b, c) __builtin_elementwise_fma((a), (b), (c))
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

INLINE vf splat(float x) { return (vf)(x); }
INLINE vf as_float(vi x) { return (vf)x; }
INLINE vi as_int(vf x) { return (vi)x; }
INLINE vf absolute(vf x) { return as_float(as_int(x) & 0x7fffffff); }
INLINE vf choose(vi condition, vf yes, vf no) { return condition ? yes : no; }

// The first n elements, with zeros after them; 0 <= n <= WIDTH. Nothing beyond them is touched.
INLINE vf load_first(const float *p, int64_t n) {
#if WIDTH == 16
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif WIDTH == 8
    const vi lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return (vf)_mm256_maskload_ps(p, (__m256i)(lane < (int32_t)n));
#else
    vf x = splat(0);
    memcpy(&x, p, (size_t)n * sizeof(float));
    return x;
#endif
}

// The elements from `low` on and before `high`, which may lie outside, with zeros around them. Nothing else is touched.
INLINE vf load_between(const float *p, int64_t low, int64_t high) {
    const int32_t first = low < 0 ? 0 : low > WIDTH ? WIDTH : (int32_t)low;
    const int32_t last = high < 0 ? 0 : high > WIDTH ? WIDTH : (int32_t)high;
#if WIDTH == 16
    return (vf)_mm512_maskz_loadu_ps((__mmask16)(((1u << last) - 1) & ~((1u << first) - 1)), p);
#elif WIDTH == 8
    const vi lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return (vf)_mm256_maskload_ps(p, (__m256i)(lane >= first & lane < last));
#else
    vf x = splat(0);
    for (int32_t i = first; i < last; i++) x[i] = p[i];
    return x;
#endif
}

INLINE void store_first(float *p, int64_t n, vf x) {
#if WIDTH == 16
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
#elif WIDTH == 8
    const vi lane = {0, 1, 2, 3, 4, 5, 6, 7};
    _mm256_maskstore_ps(p, (__m256i)(lane < (int32_t)n), (__m256)x);
#else
    memcpy(p, &x, (size_t)n * sizeof(float));
#endif
}
