// Convolutions on a GPU as implicit products: a work-group of 16 by 16 makes a tile of TILE by TILE elements, TILE = 16, 32,
// 64 or 128, each work-item a block of TILE/16 by TILE/16 in registers. Slices of DEPTH terms pass through local memory; while one
// is multiplied, the next is on its way into registers. What would be a matrix of patches is read from the planes
// themselves, and the tables of steps name live (plane, tap) pairs only.
//
// SUMS: rows are channels of the result, columns pixels of all images, terms the steps of the rows' block.
// GRADIENT: rows are channels of the gradient, columns steps, terms pixels of one part of all images; the sums go to
// `partial`, and FINISH adds up the parts in order.
//
// With HALVES (TILE = 64 or 128), a tile holds TILE / 2 channels of each half of the result, so that the work-item that has a channel has
// its like: row r of a tile is one of four that lie together, two of the first half and the two that belong to them.
//
// Tables: `blocks`, five integers a tile of rows (first row, rows, first step, steps, first row of the weight);
// `steps`, (reach along three axes, plane); `weights`, where a step's weight lies; `live` (CHANNELS), which of a tile's rows
// a step reaches, two words a step.
//
// b are the planes, a the weight (SUMS) or the gradient of the result (GRADIENT); b_s0 to b_s4 are strides over image, plane
// and three axes.
//
// Macros: TILE, DEPTH; UNIT_A where a tile's weights are neighbours along the terms; OPERAND_PARAMETERS; WEIGHT_ROW, the
// stride of the weight's rows; EPILOGUE_PARAMETERS and EPILOGUE_ARGUMENTS of the function
// KERNEL_epilogue1(image, row, position, value, ..).

#define SIDE (TILE / 16)
#define LOADS (TILE * DEPTH / 256)
// Rows of local memory keep the alignment of four floats and do not all start in one bank.
#define PITCH (TILE + 4)

// Position m of an image as the coordinates of a source that is stepped through.
#define PIXEL_PARAMETERS \
    const int pixels, const int count, const int c1, const int c2, const int sourceStep0, const int sourceStep1, \
        const int sourceStep2, const int source0, const int source1, const int source2

#define MULTIPLY \
    _Pragma("unroll 16") for (int d = 0; d < DEPTH; d++) { \
        float u[SIDE], v[SIDE]; \
        MARTLET_TILE_TAKE(SIDE, u, sliceA + d * PITCH, y) \
        MARTLET_TILE_TAKE(SIDE, v, sliceB + d * PITCH, x) \
        _Pragma("unroll") for (int i = 0; i < SIDE; i++) { \
            _Pragma("unroll") for (int j = 0; j < SIDE; j++) sum[i][j] = u[i] * v[j] + sum[i][j]; \
        } \
    }

#ifdef SUMS
#ifdef UNIT_A
#define depthA(l) ((id + 256 * (l)) % DEPTH)
#define rowA(l) ((id + 256 * (l)) / DEPTH)
#else
#define depthA(l) ((id + 256 * (l)) / TILE)
#define rowA(l) ((id + 256 * (l)) % TILE)
#endif
// One column, for every load the same.
#define columnB (id % TILE)
#define depthB(l) ((id + 256 * (l)) / TILE)
#ifdef HALVES
// A row's channel of its half, and how far its weights lie behind those of the tile's first channel.
#define CHANNEL(r) ((r) / 4 * 2 + ((r) & 1))
#define WEIGHT(r) (CHANNEL(r) + ((r) >> 1 & 1) * halfRows)
#else
#define CHANNEL(r) (r)
#define WEIGHT(r) (r)
#endif
#ifdef CHANNELS
#define REACHES(step, r) (live[(step) * 2 + ((r) >> 5)] >> ((r) & 31) & 1)
#else
#define REACHES(step, r) 1
#endif

#define FETCH(k0) \
    _Pragma("unroll") for (int l = 0; l < LOADS; l++) { \
        const int ka = (k0) + depthA(l), kb = (k0) + depthB(l); \
        nextA[l] = ka < terms && CHANNEL(rowA(l)) < rows && REACHES(first + ka, rowA(l)) \
                       ? a[a_o + weights[first + ka] + (weightRow + WEIGHT(rowA(l))) * WEIGHT_ROW] \
                       : 0.0f; \
        nextB[l] = 0.0f; \
        if (kb < terms && isPixel) { \
            const int4 step = steps[first + kb]; \
            const int q0 = at0 + step.x, q1 = at1 + step.y, q2 = at2 + step.z; \
            if ((uint)q0 < (uint)source0 && (uint)q1 < (uint)source1 && (uint)q2 < (uint)source2) { \
                nextB[l] = fromB[step.w * b_s1 + q0 * b_s2 + q1 * b_s3 + q2 * b_s4]; \
            } \
        } \
    }

__kernel __attribute__((reqd_work_group_size(16, 16, 1)))
void KERNEL(
    PIXEL_PARAMETERS, const int resultStep0, const int resultStep1, const int resultStep2, const int phase0,
    const int phase1, const int phase2, const int result1, const int result2, const int halfRows,
    __global const int* blocks, __global const int4* steps,
    __global const int* weights LIVE_PARAMETER OPERAND_PARAMETERS EPILOGUE_PARAMETERS) {
    __local float sliceA[DEPTH * PITCH];
    __local float sliceB[DEPTH * PITCH];
    const int x = get_local_id(0), y = get_local_id(1);
    const int id = y * 16 + x;
    const int p0 = get_group_id(0) * TILE;
    __global const int* block = blocks + get_group_id(1) * 5;
    const int firstRow = block[0], rows = block[1], first = block[2], terms = block[3], weightRow = block[4];
    const int p = p0 + columnB;
    const int isPixel = p < pixels;
    const int image = min(p, pixels - 1) / count, m = min(p, pixels - 1) % count;
    const int at0 = m / (c1 * c2) * sourceStep0, at1 = m / c2 % c1 * sourceStep1, at2 = m % c2 * sourceStep2;
    __global const float* fromB = b + b_o + image * b_s0;
    float sum[SIDE][SIDE];
    _Pragma("unroll") for (int i = 0; i < SIDE; i++) {
        _Pragma("unroll") for (int j = 0; j < SIDE; j++) sum[i][j] = 0.0f;
    }
    float nextA[LOADS], nextB[LOADS];
    if (terms > 0) { FETCH(0) }
    for (int k = 0; k < terms; k += DEPTH) {
        _Pragma("unroll") for (int l = 0; l < LOADS; l++) {
            sliceA[depthA(l) * PITCH + rowA(l)] = nextA[l];
            sliceB[depthB(l) * PITCH + columnB] = nextB[l];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (k + DEPTH < terms) { FETCH(k + DEPTH) }
        MULTIPLY
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    _Pragma("unroll") for (int j = 0; j < SIDE; j++) {
        const int n = p0 + MARTLET_TILE_AT(SIDE, j, x);
        if (n < pixels) {
            const int z = n / count, e = n % count;
            const int q0 = e / (c1 * c2) * resultStep0 + phase0, q1 = e / c2 % c1 * resultStep1 + phase1;
            const int q2 = e % c2 * resultStep2 + phase2;
            const int position = (q0 * result1 + q1) * result2 + q2;
#ifdef HALVES
            _Pragma("unroll") for (int i = 0; i < SIDE; i++) {
                const int channel = CHANNEL(MARTLET_TILE_AT(SIDE, i, y));
                if (i % 4 < 2 && channel < rows) {
                    MARTLET_NAME(KERNEL, _epilogue1)
                    (z, firstRow + channel, position, sum[i][j], sum[i | 2][j] EPILOGUE_ARGUMENTS);
                }
            }
#else
            _Pragma("unroll") for (int i = 0; i < SIDE; i++) {
                const int r = MARTLET_TILE_AT(SIDE, i, y);
                if (r < rows) {
                    MARTLET_NAME(KERNEL, _epilogue1)(z, firstRow + r, position, sum[i][j] EPILOGUE_ARGUMENTS);
                }
            }
#endif
        }
    }
}
#undef CHANNEL
#undef WEIGHT
#undef depthA
#undef rowA
#undef columnB
#undef depthB
#undef REACHES
#undef FETCH
#endif

#ifdef GRADIENT
// One pixel, for every load the same.
#define depth (id % DEPTH)
#define line(l) (id / DEPTH + (256 / DEPTH) * (l))

#define FETCH(k0) \
    { \
        const int p = (k0) + depth; \
        const int image = min(p, pixels - 1) / count, m = min(p, pixels - 1) % count; \
        const int m0 = m / (c1 * c2), m1 = m / c2 % c1, m2 = m % c2; \
        __global const float* fromA = a + a_o + image * a_s0 + m0 * a_s2 + m1 * a_s3 + m2 * a_s4; \
        __global const float* fromB = b + b_o + image * b_s0; \
        _Pragma("unroll") for (int l = 0; l < LOADS; l++) { \
            nextA[l] = p < end && line(l) < rows ? fromA[(firstRow + line(l)) * a_s1] : 0.0f; \
            const int q0 = m0 * sourceStep0 + column[l].x, q1 = m1 * sourceStep1 + column[l].y; \
            const int q2 = m2 * sourceStep2 + column[l].z; \
            nextB[l] = 0.0f; \
            if (p < end && (uint)q0 < (uint)source0 && (uint)q1 < (uint)source1 && (uint)q2 < (uint)source2) { \
                nextB[l] = fromB[column[l].w * b_s1 + q0 * b_s2 + q1 * b_s3 + q2 * b_s4]; \
            } \
        } \
    }

__kernel __attribute__((reqd_work_group_size(16, 16, 1)))
void KERNEL(
    PIXEL_PARAMETERS, const int partLength, const int allRows, const int width, __global const int* blocks,
    __global const int4* steps, __global float* partial OPERAND_PARAMETERS) {
    __local float sliceA[DEPTH * PITCH];
    __local float sliceB[DEPTH * PITCH];
    const int x = get_local_id(0), y = get_local_id(1);
    const int id = y * 16 + x;
    __global const int* block = blocks + get_group_id(1) * 5;
    const int firstRow = block[0], rows = block[1], first = block[2], columns = block[3];
    const int n0 = get_group_id(0) * TILE, part = get_group_id(2);
    // The same for every work-item of the group, as the barriers need.
    if (n0 >= columns) return;
    const int begin = part * partLength, end = min(pixels, begin + partLength);
    int4 column[LOADS];
    _Pragma("unroll") for (int l = 0; l < LOADS; l++) column[l] = steps[first + min(n0 + line(l), columns - 1)];
    float sum[SIDE][SIDE];
    _Pragma("unroll") for (int i = 0; i < SIDE; i++) {
        _Pragma("unroll") for (int j = 0; j < SIDE; j++) sum[i][j] = 0.0f;
    }
    float nextA[LOADS], nextB[LOADS];
    if (begin < end) { FETCH(begin) }
    for (int k = begin; k < end; k += DEPTH) {
        _Pragma("unroll") for (int l = 0; l < LOADS; l++) {
            sliceA[depth * PITCH + line(l)] = nextA[l];
            sliceB[depth * PITCH + line(l)] = nextB[l];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (k + DEPTH < end) { FETCH(k + DEPTH) }
        MULTIPLY
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    _Pragma("unroll") for (int i = 0; i < SIDE; i++) {
        const int r = MARTLET_TILE_AT(SIDE, i, y);
        if (r < rows) {
            _Pragma("unroll") for (int j = 0; j < SIDE; j++) {
                const int n = n0 + MARTLET_TILE_AT(SIDE, j, x);
                if (n < columns) partial[(part * allRows + firstRow + r) * width + n] = sum[i][j];
            }
        }
    }
}
#undef depth
#undef line
#undef FETCH
#endif

#ifdef FINISH
// `columnOf` says for each weight which column of its row's sums is its own, or -1 where it is dead.
__kernel __attribute__((reqd_work_group_size(64, 1, 1)))
void KERNEL(
    const int count, const int rowLength, const int allRows, const int width, const int parts,
    __global const int* columnOf, __global const float* partial EPILOGUE_PARAMETERS) {
    const int e = get_global_id(0);
    if (e >= count) return;
    const int row = e / rowLength, column = columnOf[e];
    float sum = 0.0f;
    if (column >= 0) {
        for (int part = 0; part < parts; part++) sum += partial[(part * allRows + row) * width + column];
    }
    MARTLET_NAME(KERNEL, _epilogue1)(0, row, e % rowLength, sum EPILOGUE_ARGUMENTS);
}
#endif
#undef SIDE
#undef LOADS
#undef PITCH
#undef PIXEL_PARAMETERS
#undef MULTIPLY
