// The second pass of a product whose columns were sorted: a row is taken out of the order of the mask, sixteen columns at a time,
// and through the epilogue. Scattering single elements to rows that lie far apart would take longer than the product.
//
// Macros: MASK, ROLE and M_ORDER as in mask.cl, EPILOGUE_PARAMETERS and EPILOGUE_ARGUMENTS as in product_cpu.cl. `place[n]` is the
// sorted position of column n; without PLACES columns are in order.

#ifdef PLACES
#define PLACE_PARAMETER , __global const int* restrict place
#define PLACE_ARGUMENT , place
#define PLACE(n) place[n]
#define PLACE16(n) vload16(0, place + (n))
#define TAKE16(row, n) MARTLET_GATHER_AT(float16, row, PLACE16(n))
#else
#define PLACE_PARAMETER
#define PLACE_ARGUMENT
#define PLACE(n) (n)
#define PLACE16(n) ((int16)(n) + martlet_lanes)
#define TAKE16(row, n) vload16(0, (row) + (n))
#endif

// Row `m` of the sorted problem, of which columns from `live` on are zero.
static inline void MARTLET_NAME(KERNEL, _finish)(
    __global const float* restrict row, const int m, const int z, const int N, const int live PLACE_PARAMETER
    EPILOGUE_PARAMETERS) {
    int n = 0;
    for (; n + 16 <= N; n += 16) {
        float16 product = TAKE16(row, n);
#if ROLE == 2
        product = martlet_select(PLACE16(n) < (int16)(live), product, (float16)(0.0f));
#endif
        MARTLET_NAME(KERNEL, _epilogue16)(m, n, z, product EPILOGUE_ARGUMENTS);
    }
    for (; n < N; n++) {
        const int at = PLACE(n);
        MARTLET_NAME(KERNEL, _epilogue1)(m, n, z, at < live ? row[at] : 0.0f EPILOGUE_ARGUMENTS);
    }
}

#ifdef FINISH
// Rows of the sorted product, `rows` for each work-item.
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    __global const float* restrict sorted, const int M, const int N, const int rows PLACE_PARAMETER EPILOGUE_PARAMETERS) {
    const int z = get_group_id(1);
    const int first = get_group_id(0) * rows;
    for (int m = first; m < min(M, first + rows); m++) {
        MARTLET_NAME(KERNEL, _finish)(sorted + ((size_t)z * M + m) * N, m, z, N, N PLACE_ARGUMENT EPILOGUE_ARGUMENTS);
    }
}
#endif
#undef PLACE
#undef PLACE16
#undef TAKE16
