// Decompositions of small matrices on a GPU, in numbers of two floats: some 48 bits, as a matrix may lose many of a float's 24 and the
// processor works in double precision. A number is (high, low) with |low| at most half of high's last place. Sums and products are those
// of Dekker 1971 with a fused multiply-add.
//
// A program has this text once for each kernel that it uses, whose name is a macro then; what all of them use is there once.

#ifndef MARTLET_MATRICES
#define MARTLET_MATRICES

static inline float2 martlet_two(float x) { return (float2)(x, 0.0f); }

// a + b where |a| is not less than |b|.
static inline float2 martlet_quick(float a, float b) {
    const float sum = a + b;
    return (float2)(sum, b - (sum - a));
}

static inline float2 martlet_minus_product(float2 x, float2 a, float2 b) {
    const float product = a.x * b.x;
    const float rest = fma(a.x, b.x, -product) + fma(a.x, b.y, a.y * b.x);
    const float difference = x.x - product, back = difference - x.x;
    const float lost = (x.x - (difference - back)) - (product + back);
    return martlet_quick(difference, lost + (x.y - rest));
}

static inline float2 martlet_quotient(float2 a, float2 b) {
    const float first = a.x / b.x;
    const float2 rest = martlet_minus_product(a, martlet_two(first), b);
    // Of an infinite quotient there is no rest.
    return fabs(first) < INFINITY ? martlet_quick(first, rest.x / b.x) : martlet_two(first);
}

#define MATRIX_ITEMS 64

// L and U of matrix get_group_id(0) in `work`, and the order of its rows, with partial pivoting: of pivots of one size the first.
static inline void martlet_decompose(
    __global const float *input, __global float2 *work, __global int *order, int n, __local float *sizes, __local int *rows) {
    const int own = (int)get_local_id(0);
    for (int e = own; e < n * n; e += MATRIX_ITEMS) work[e] = martlet_two(input[e]);
    for (int i = own; i < n; i += MATRIX_ITEMS) order[i] = i;
    barrier(CLK_GLOBAL_MEM_FENCE);
    for (int k = 0; k < n; k++) {
        float size = -1.0f;
        int row = k;
        for (int i = k + own; i < n; i += MATRIX_ITEMS) {
            const float found = fabs(work[i * n + k].x);
            if (found > size) {
                size = found;
                row = i;
            }
        }
        sizes[own] = size;
        rows[own] = row;
        for (int distance = MATRIX_ITEMS / 2; distance > 0; distance >>= 1) {
            barrier(CLK_LOCAL_MEM_FENCE);
            if (own < distance) {
                const float other = sizes[own + distance];
                if (other > sizes[own] || (other == sizes[own] && rows[own + distance] < rows[own])) {
                    sizes[own] = other;
                    rows[own] = rows[own + distance];
                }
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        const int pivot = rows[0];
        if (pivot != k) {
            for (int j = own; j < n; j += MATRIX_ITEMS) {
                const float2 kept = work[k * n + j];
                work[k * n + j] = work[pivot * n + j];
                work[pivot * n + j] = kept;
            }
            if (own == 0) {
                const int kept = order[k];
                order[k] = order[pivot];
                order[pivot] = kept;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
        const float2 diagonal = work[k * n + k];
        // The same for every work-item.
        if (diagonal.x == 0.0f) continue;
        for (int i = k + 1 + own; i < n; i += MATRIX_ITEMS) {
            work[i * n + k] = martlet_quotient(work[i * n + k], diagonal);
        }
        barrier(CLK_GLOBAL_MEM_FENCE);
        const int width = n - k - 1;
        for (int e = own; e < width * width; e += MATRIX_ITEMS) {
            const int i = k + 1 + e / width, j = k + 1 + e % width;
            work[i * n + j] = martlet_minus_product(work[i * n + j], work[i * n + k], work[k * n + j]);
        }
        barrier(CLK_GLOBAL_MEM_FENCE);
    }
}

#define MATRIX_KERNEL __kernel __attribute__((reqd_work_group_size(MATRIX_ITEMS, 1, 1)))
#define MATRIX_LOCALS __local float sizes[MATRIX_ITEMS]; __local int rows[MATRIX_ITEMS]

#endif

#ifdef matrix_lu
MATRIX_KERNEL void matrix_lu(
    __global const float *input, __global float *packed, __global int *order, __global float2 *work, const int n) {
    MATRIX_LOCALS;
    const size_t at = (size_t)get_group_id(0) * n;
    martlet_decompose(input + at * n, work + at * n, order + at, n, sizes, rows);
    for (int e = (int)get_local_id(0); e < n * n; e += MATRIX_ITEMS) packed[at * n + e] = work[at * n + e].x;
}

#endif

#ifdef matrix_determinant
MATRIX_KERNEL void matrix_determinant(
    __global const float *input, __global float *output, __global float2 *work, __global int *order, const int n) {
    MATRIX_LOCALS;
    const size_t at = (size_t)get_group_id(0) * n;
    martlet_decompose(input + at * n, work + at * n, order + at, n, sizes, rows);
    if (get_local_id(0) != 0) return;
    float total = 0.0f, rest = 0.0f;
    for (int i = 0; i < n; i++) {
        const float2 u = work[(at + i) * n + i];
        MARTLET_ADD(float, total, rest, log(fabs(u.x)));
        // log(x + y) is log x + y / x but for less than anyone can see.
        if (u.x != 0.0f) rest += u.y / u.x;
    }
    output[get_group_id(0)] = MARTLET_ROUNDED(total, rest);
}

#endif

#ifdef matrix_inverse
// A work-item solves for columns of the unit matrix.
MATRIX_KERNEL void matrix_inverse(
    __global const float *input, __global float *output, __global float2 *work, __global float2 *solution, __global int *order,
    const int n) {
    MATRIX_LOCALS;
    const size_t at = (size_t)get_group_id(0) * n;
    __global const float2 *a = work + at * n;
    __global float2 *x = solution + at * n;
    martlet_decompose(input + at * n, work + at * n, order + at, n, sizes, rows);
    for (int c = (int)get_local_id(0); c < n; c += MATRIX_ITEMS) {
        for (int i = 0; i < n; i++) {
            float2 sum = martlet_two(order[at + i] == c ? 1.0f : 0.0f);
            for (int j = 0; j < i; j++) sum = martlet_minus_product(sum, a[i * n + j], x[j * n + c]);
            x[i * n + c] = sum;
        }
        for (int i = n - 1; i >= 0; i--) {
            float2 sum = x[i * n + c];
            for (int j = i + 1; j < n; j++) sum = martlet_minus_product(sum, a[i * n + j], x[j * n + c]);
            x[i * n + c] = martlet_quotient(sum, a[i * n + i]);
            output[(at + i) * n + c] = x[i * n + c].x;
        }
    }
}

#endif

#ifdef triangular_solve
// One column of one right-hand side; `forwards` where the first row is solved first.
__kernel void triangular_solve(
    __global const float *a, __global const float *b, __global float *output, __global float2 *solution, const int n, const int m,
    const int forwards, const int transposed, const int count) {
    const int e = (int)get_global_id(0);
    if (e >= count) return;
    const int column = e % m;
    const size_t at = (size_t)(e / m) * n;
    for (int step = 0; step < n; step++) {
        const int i = forwards ? step : n - 1 - step;
        float2 sum = martlet_two(b[(at + i) * m + column]);
        for (int j = forwards ? 0 : i + 1; j < (forwards ? i : n); j++) {
            const float factor = a[at * n + (transposed ? j * n + i : i * n + j)];
            sum = martlet_minus_product(sum, martlet_two(factor), solution[(at + j) * m + column]);
        }
        sum = martlet_quotient(sum, martlet_two(a[at * n + i * n + i]));
        solution[(at + i) * m + column] = sum;
        output[(at + i) * m + column] = sum.x;
    }
}
#endif
