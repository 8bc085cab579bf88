// Vectors of WIDTH floats. The including file defines WIDTH and FUSED (whether the processor has a fused multiply-add) and
// pushes the target attribute that lets the compiler use the registers.
#include <stdint.h>
#include <string.h>

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
