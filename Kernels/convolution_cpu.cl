// Convolutions on an OpenCL processor, one work-item for a slab of an image.
//
// PAD copies planes with zeros around them, so that each (plane, tap) is a shifted row of one long row of pixels. WEIGHTS
// packs the weights of blocks of ROWS channels in the order of their steps. SUMS holds ROWS channels times three vectors of
// pixels in registers, walks the live steps of a block, and takes a slab through the epilogue when all its blocks are done.
// GRADIENT transposes the gradient of the result, some pixels at a time, so that a vector holds channels, and keeps six
// steps times VECTORS vectors in registers; FINISH adds up its parts in order.
//
// A position m lies in a padded plane at m0 * pitch0 + m1 * pitch1 + m2; `offsets` says where a step finds it.
//
// Macros: ROWS (SUMS), VECTORS (GRADIENT); HALVES where the epilogue takes the rows of both halves together; STEPS where the
// result has several phases; OPERAND_PARAMETERS as in convolution_gpu.cl; EPILOGUE_PARAMETERS and EPILOGUE_ARGUMENTS of
// KERNEL_epilogue1 and KERNEL_epilogue16. All else is an argument, so that few kernels serve all shapes: `rank` is how many axes the
// convolution has.

#ifdef PAD
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    __global float* restrict target, const int rank, const int planePitch, const int phasePitch, const int head,
    const int pitch0, const int pitch1, const int window, const int start, const int sourceStep0, const int sourceStep1,
    const int sourceStep2, const int source0, const int source1, const int source2 OPERAND_PARAMETERS) {
    const int plane = get_group_id(0), image = get_group_id(1);
    __global float* restrict to = target + (size_t)(image * (int)get_num_groups(0) + plane) * planePitch;
    __global const float* from = b + b_o + image * b_s0 + plane * b_s1;
    for (int i = 0; i < planePitch; i++) to[i] = 0.0f;
    for (int phase = 0; phase < sourceStep0 * sourceStep1 * sourceStep2; phase++, to += phasePitch) {
        const int f0 = phase / (sourceStep1 * sourceStep2), f1 = phase / sourceStep2 % sourceStep1, f2 = phase % sourceStep2;
        // What there is of each axis in this phase.
        const int n0 = (source0 - f0 + sourceStep0 - 1) / sourceStep0, n1 = (source1 - f1 + sourceStep1 - 1) / sourceStep1;
        const int n2 = (source2 - f2 + sourceStep2 - 1) / sourceStep2;
        const int first = max(0, -start), last = min(window, n0 - start);
        const int count = rank == 1 ? last - first : rank == 2 ? n1 : n2;
        const int stride = rank == 1 ? sourceStep0 * b_s2 : rank == 2 ? sourceStep1 * b_s3 : sourceStep2 * b_s4;
        for (int r = first; r < (rank == 1 ? min(first + 1, last) : last); r++) {
            for (int i = 0; i < (rank == 3 ? n1 : 1); i++) {
                __global const float* s = from + ((start + r) * sourceStep0 + f0) * b_s2 + (i * sourceStep1 + f1) * b_s3 + f2 * b_s4;
                __global float* restrict t = to + head + r * pitch0 + i * pitch1;
                int p = 0;
                if (stride == 1) {
                    for (; p + 16 <= count; p += 16) vstore16(vload16(0, s + p), 0, t + p);
                }
                for (; p < count; p++) t[p] = s[p * stride];
            }
        }
    }
}
#endif

#ifdef WEIGHTS
// `live` is looked at where the mask tells channels apart.
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    __global float* restrict target, const int blockRows, const int longest, const int rowStride, const int isMasked,
    __global const int* blocks, __global const int* weights, __global const uint* live OPERAND_PARAMETERS) {
    __global const int* block = blocks + get_group_id(0) * 5;
    const int rows = block[1], first = block[2], steps = block[3], weightRow = block[4];
    __global float* restrict to = target + (size_t)get_group_id(0) * longest * blockRows;
    for (int k = 0; k < steps; k++) {
        __global const float* from = a + a_o + weights[first + k] + weightRow * rowStride;
        const uint reached = isMasked ? live[(first + k) * 2] : 0xffffffffu;
        for (int r = 0; r < blockRows; r++) {
            to[k * blockRows + r] = r < rows && (reached >> r & 1) ? from[r * rowStride] : 0.0f;
        }
    }
}
#endif

#ifdef SUMS
#define MARTLET_SUMS(V) \
    { \
        float16 sum[ROWS][V]; \
        _Pragma("unroll") for (int r = 0; r < ROWS; r++) { \
            _Pragma("unroll") for (int v = 0; v < V; v++) sum[r][v] = (float16)(0.0f); \
        } \
        for (int k = 0; k < steps; k++) { \
            __global const float* s = from + offsets[first + k]; \
            float16 pixel[V]; \
            _Pragma("unroll") for (int v = 0; v < V; v++) pixel[v] = vload16(v, s); \
            _Pragma("unroll") for (int r = 0; r < ROWS; r++) { \
                const float16 w = (float16)(packed[k * ROWS + r]); \
                _Pragma("unroll") for (int v = 0; v < V; v++) sum[r][v] = w * pixel[v] + sum[r][v]; \
            } \
        } \
        _Pragma("unroll") for (int r = 0; r < ROWS; r++) { \
            if (r < rows) { \
                _Pragma("unroll") for (int v = 0; v < V; v++) vstore16(sum[r][v], v, to + r * sumPitch); \
            } \
        } \
    }

#ifdef HALVES
#define MARTLET_TWIN(value) , value
#define MARTLET_SECTIONS 2
#else
#define MARTLET_TWIN(value)
#define MARTLET_SECTIONS 1
#endif
#define MARTLET_FINISH(n) \
    { \
        int i = 0; \
        for (; i + 16 <= (n); i += 16) { \
            MARTLET_NAME(KERNEL, _epilogue16) \
            (image, row, done + i, vload16(0, line + i) MARTLET_TWIN(vload16(0, twin + i)) EPILOGUE_ARGUMENTS); \
        } \
        for (; i < (n); i++) { \
            MARTLET_NAME(KERNEL, _epilogue1) \
            (image, row, done + i, line[i] MARTLET_TWIN(twin[i]) EPILOGUE_ARGUMENTS); \
        } \
        done += (n); \
    }

// `source` holds planes padded, or as they lie (isDirect): what lies behind those is not touched.
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    __global const float* planes, const int base, const int imagePitch, const int isDirect,
    const int rank, __global const float* weight, const int longest,
    __global float* restrict scratch, const int allRows, const int sumPitch, const int slab, const int pitch0,
    const int pitch1, const int count0, const int count1, const int count2, const int resultStep0, const int resultStep1,
    const int resultStep2, const int phase0, const int phase1, const int phase2, const int result1, const int result2,
    const int blockCount, __global const int* blocks, __global const int* offsets EPILOGUE_PARAMETERS) {
    const int image = get_group_id(1);
    const int begin = get_group_id(0) * slab, height = min(slab, count0 - begin);
    const int pixels = (height - 1) * pitch0 + (count1 - 1) * pitch1 + count2;
    __global const float* source = planes + base + (size_t)image * imagePitch + begin * pitch0;
    __global float* sums = scratch + (size_t)(image * (int)get_num_groups(0) + get_group_id(0)) * allRows * sumPitch;
    int vectors = 0;
    for (int at = 0; at < pixels; at += vectors * 16) {
        vectors = min(3, (pixels - at + 15) / 16);
        int start = at;
        if (isDirect) {
            vectors = min(vectors, pixels / 16);
            start = min(at, pixels - vectors * 16);
        }
        __global const float* from = source + start;
        for (int i = 0; i < blockCount; i++) {
            __global const int* block = blocks + i * 5;
            const int rows = block[1], first = block[2], steps = block[3];
            __global const float* packed = weight + (size_t)i * longest * ROWS;
            __global float* to = sums + block[0] * sumPitch + start;
            if (vectors == 3) MARTLET_SUMS(3)
            else if (vectors == 2) MARTLET_SUMS(2)
            else MARTLET_SUMS(1)
        }
    }
#ifdef STEPS
    // One phase of the result among several: its elements are no neighbours.
    for (int row = 0; row < allRows; row++) {
        for (int m0 = 0; m0 < height; m0++) {
            for (int m1 = 0; m1 < count1; m1++) {
                for (int m2 = 0; m2 < count2; m2++) {
                    const int q0 = (begin + m0) * resultStep0 + phase0, q1 = m1 * resultStep1 + phase1;
                    const int q2 = m2 * resultStep2 + phase2;
                    MARTLET_NAME(KERNEL, _epilogue1)
                    (image, row, (q0 * result1 + q1) * result2 + q2,
                     sums[row * sumPitch + m0 * pitch0 + m1 * pitch1 + m2] EPILOGUE_ARGUMENTS);
                }
            }
        }
    }
#else
    for (int row = 0; row < allRows / MARTLET_SECTIONS; row++) {
        int done = begin * count1 * count2;
        if (pixels == height * count1 * count2) {
            __global const float* line = sums + row * sumPitch;
#ifdef HALVES
            __global const float* twin = line + allRows / 2 * sumPitch;
#endif
            MARTLET_FINISH(pixels)
        } else {
            // Rows of pixels without the gaps between them.
            float line[1024 + 16];
#ifdef HALVES
            float twin[1024 + 16];
#endif
            int filled = 0;
            const int lines = rank == 3 ? height * count1 : height, length = rank == 3 ? count2 : count1;
            for (int l = 0; l < lines; l++) {
                __global const float* from =
                    sums + row * sumPitch + (rank == 3 ? l / count1 * pitch0 + l % count1 * pitch1 : l * pitch0);
                for (int p = 0; p < length;) {
                    const int n = min(length - p, 1024 - filled);
                    for (int i = 0; i < n; i++) line[filled + i] = from[p + i];
#ifdef HALVES
                    for (int i = 0; i < n; i++) twin[filled + i] = from[allRows / 2 * sumPitch + p + i];
#endif
                    filled += n;
                    p += n;
                    if (filled == 1024) {
                        MARTLET_FINISH(1024)
                        filled = 0;
                    }
                }
            }
            MARTLET_FINISH(filled)
        }
    }
#endif
}
#undef MARTLET_SUMS
#undef MARTLET_FINISH
#undef MARTLET_TWIN
#undef MARTLET_SECTIONS
#endif

#ifdef GRADIENT
#define CHUNK 128
#define HEIGHT (VECTORS * 16)
#define MARTLET_GRADIENT(R) \
    { \
        float16 sum[R][VECTORS]; \
        _Pragma("unroll") for (int r = 0; r < R; r++) { \
            _Pragma("unroll") for (int v = 0; v < VECTORS; v++) sum[r][v] = vload16(r * VECTORS + v, to); \
        } \
        for (int l = 0; l < lines; l++) { \
            __global const float* s = source + at + l * pitch; \
            const float* c = chunk + l * length * HEIGHT; \
            for (int p = 0; p < length; p++) { \
                float16 channel[VECTORS]; \
                _Pragma("unroll") for (int v = 0; v < VECTORS; v++) channel[v] = vload16(v, c + p * HEIGHT); \
                _Pragma("unroll") for (int r = 0; r < R; r++) { \
                    const float16 x = (float16)(s[offsets[first + k + r] + p]); \
                    _Pragma("unroll") for (int v = 0; v < VECTORS; v++) sum[r][v] = x * channel[v] + sum[r][v]; \
                } \
            } \
        } \
        _Pragma("unroll") for (int r = 0; r < R; r++) { \
            _Pragma("unroll") for (int v = 0; v < VECTORS; v++) vstore16(sum[r][v], r * VECTORS + v, to); \
        } \
    }

// Units (a slab of an image each) are dealt to the parts.
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    __global const float* planes, const int base, const int imagePitch, __global float* restrict partial, const int width,
    const int images, const int rank, const int slab, const int slabs, const int pitch0, const int pitch1, const int count0,
    const int count1, const int count2, __global const int* blocks, __global const int* offsets OPERAND_PARAMETERS) {
    __global const int* block = blocks + get_group_id(0) * 5;
    const int firstRow = block[0], rows = block[1], first = block[2], steps = block[3];
    const int part = get_group_id(1), parts = get_num_groups(1), units = images * slabs;
    __global float* sums = partial + (size_t)(part * (int)get_num_groups(0) + get_group_id(0)) * width * HEIGHT;
    float16 aligned[(CHUNK + 16) * VECTORS];
    float* chunk = (float*)aligned;
    for (int i = 0; i < steps * HEIGHT; i++) sums[i] = 0.0f;
    // Lanes without a channel stay zero.
    for (int i = 0; i < (CHUNK + 16) * HEIGHT; i++) chunk[i] = 0.0f;
    for (int unit = (int)((long)units * part / parts); unit < (int)((long)units * (part + 1) / parts); unit++) {
        const int image = unit / slabs, begin = unit % slabs * slab, height = min(slab, count0 - begin);
        __global const float* source = planes + base + (size_t)image * imagePitch + begin * pitch0;
        __global const float* gradient = a + a_o + image * a_s0 + firstRow * a_s1 + begin * a_s2;
        // Rows of pixels: how many, how long, and how far apart in the planes and in the gradient.
        const int outer = rank == 3 ? height : 1, all = rank == 3 ? count1 : rank == 2 ? height : 1;
        const int whole = rank == 3 ? count2 : rank == 2 ? count1 : height;
        const int pitch = rank == 3 ? pitch1 : pitch0, lineStride = rank == 3 ? a_s3 : a_s2;
        const int pixelStride = rank == 3 ? a_s4 : rank == 2 ? a_s3 : a_s2;
        const int fullLength = min(whole, CHUNK), group = max(1, CHUNK / fullLength);
        for (int z = 0; z < outer; z++) {
            for (int l0 = 0; l0 < all; l0 += group) {
                for (int p0 = 0; p0 < whole; p0 += fullLength) {
                    const int lines = min(group, all - l0), length = min(fullLength, whole - p0);
                    const int at = z * pitch0 + l0 * pitch + p0;
                    for (int r = 0; r < rows; r++) {
                        for (int l = 0; l < lines; l++) {
                            __global const float* g =
                                gradient + r * a_s1 + z * a_s2 + (l0 + l) * lineStride + p0 * pixelStride;
                            for (int p = 0; p < length; p++) chunk[(l * length + p) * HEIGHT + r] = g[p * pixelStride];
                        }
                    }
                    int k = 0;
                    for (; k + 6 <= steps; k += 6) {
                        __global float* to = sums + k * HEIGHT;
                        MARTLET_GRADIENT(6)
                    }
                    for (; k < steps; k++) {
                        __global float* to = sums + k * HEIGHT;
                        MARTLET_GRADIENT(1)
                    }
                }
            }
        }
    }
}
#undef CHUNK
#undef HEIGHT
#undef MARTLET_GRADIENT
#endif

#ifdef FINISH
// Sixteen rows of a block. The parts are added up tile by tile of sixteen steps, each tile is turned over where it lies in the first
// part, and then every row goes through the epilogue in the order of its weights: `columnOf` says for each weight which step of the
// block is its own, or -1 where it is dead.
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void KERNEL(
    const int rowLength, const int width, const int height, const int parts, __global const int* blocks,
    __global const int* restrict columnOf, __global float* partial EPILOGUE_PARAMETERS) {
    __global const int* block = blocks + get_group_id(0) * 5;
    const int lane = get_group_id(1) * 16, steps = block[3], turned = steps & ~15;
    __global float* sums = partial + (size_t)get_group_id(0) * width * height + lane;
    const size_t part = (size_t)get_num_groups(0) * width * height;
    for (int k = 0; k < steps; k += 16) {
        const int count = min(16, steps - k);
        float16 r[16];
        for (int i = 0; i < count; i++) {
            float16 sum = (float16)(0.0f);
            for (int p = 0; p < parts; p++) sum += vload16(0, sums + p * part + (k + i) * height);
            r[i] = sum;
        }
        // Steps that do not fill a tile keep their order.
        if (count == 16) MARTLET_TRANSPOSE(r)
        for (int i = 0; i < count; i++) vstore16(r[i], 0, sums + (k + i) * height);
    }
    for (int j = 0; j < min(16, block[1] - lane); j++) {
        const int row = block[0] + lane + j;
        __global const int* column = columnOf + row * rowLength;
        int e = 0;
        for (; e + 16 <= rowLength; e += 16) {
            const int16 c = vload16(0, column + e), k = max(c, (int16)(0));
            const int16 own = (k & ~15) + j, rest = k * height + j;
            const int16 at = martlet_select(k < (int16)(turned), own * height + (k & 15), rest);
            const float16 sum = MARTLET_GATHER_AT(float16, sums, at);
            MARTLET_NAME(KERNEL, _epilogue16)(0, row, e, martlet_select(c >= (int16)(0), sum, (float16)(0.0f)) EPILOGUE_ARGUMENTS);
        }
        for (; e < rowLength; e++) {
            const int k = column[e];
            const float sum = k < 0 ? 0.0f : sums[k < turned ? ((k & ~15) + j) * height + (k & 15) : k * height + j];
            MARTLET_NAME(KERNEL, _epilogue1)(0, row, e, sum EPILOGUE_ARGUMENTS);
        }
    }
}
#endif
