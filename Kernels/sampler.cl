// A sampler: one kernel that draws every variable in one launch. It interprets tables (SamplerTables.swift), so that its
// text, and with it the time that a device's compiler takes, hardly depends on the model.
//
// Values that vary with the example lie [element, lane] in `memory`; the others are buffers of their own. On processors a
// work-item runs the whole program for sixteen lanes. On GPUs a work-group of 64 does, in four parts of one work-item a
// lane: the parts share each sum of products, and each runs the programs of every fourth element. Both families add in the same
// tree, four partial sums by position in the range.
//
// Defined in front of this text: MARTLET_WIDTH (lanes of a work-item: 16 or 1), MARTLET_VALUES, MARTLET_ATTENDS (whether there is
// attention), MARTLET_REGISTERS, MARTLET_POINTERS (the kernel's arguments behind the first three) and MARTLET_SET_POINTERS.

// In the order of SamplerTables.
typedef struct {
    int anchor, channels, slotStart, order;
    int a, aBase, aStride, aChannelStride, aCursor, b, bBase, bStride, bChannelStride, bCursor;
    int row, rowStart, segments;
    int offsets, offsetCount;
    int query, queryBase, queryStride, depth, scale, scores;
    int operandCount, operands, constantCount, constants, instructionCount, instructions, outputCount, outputs;
} martlet_work;

typedef struct {
    int value, table, channelStride, cursor, batchStride;
} martlet_work_operand;

typedef struct {
    int value, table, channelStride, cursor, source;
} martlet_work_output;

// Works that run one after another, once in each pass: a pass is an iteration of a loop and a slot of the works' positions.
typedef struct {
    int firstWork, endWork, passStart, passes;
} martlet_section;

typedef struct {
    int code, x[6], target;
} martlet_work_instruction;

enum { MARTLET_PLAIN, MARTLET_PRODUCT, MARTLET_SUM, MARTLET_LARGEST, MARTLET_SMALLEST, MARTLET_ATTENTION };
// What a value is made of: words or bytes, and a lane for every example or not.
enum { MARTLET_SHARED_WORDS, MARTLET_LANE_WORDS, MARTLET_SHARED_BYTES, MARTLET_LANE_BYTES };

#if MARTLET_WIDTH == 16
#define MARTLET_GROUP 1
#define MARTLET_INTS int16
#define MARTLET_FLOATS float16
#define MARTLET_AS_INTS as_int16
#define MARTLET_AS_FLOATS as_float16
#define MARTLET_GET(k) vload16((size_t)(k), registers)
#define MARTLET_SET(k, v) vstore16(v, (size_t)(k), registers)
#define MARTLET_LOAD(type, p, i) vload16(0, (__global const type *)(p) + (i))
#define MARTLET_LOAD_BYTES(p, i) convert_int16(vload16(0, (p) + (i)))
#define MARTLET_STORE(v, p, i) vstore16(v, 0, (__global int *)(p) + (i))
#define MARTLET_STORE_BYTES(v, p, i) vstore16(convert_uchar16(v), 0, (p) + (i))
#define MARTLET_LANE_NUMBERS martlet_lanes
#else
#define MARTLET_GROUP 64
#define MARTLET_INTS int
#define MARTLET_FLOATS float
#define MARTLET_AS_INTS as_int
#define MARTLET_AS_FLOATS as_float
#define MARTLET_GET(k) registers[k]
#define MARTLET_SET(k, v) registers[k] = (v)
#define MARTLET_LOAD(type, p, i) ((__global const type *)(p))[i]
#define MARTLET_LOAD_BYTES(p, i) (int)(p)[i]
#define MARTLET_STORE(v, p, i) ((__global int *)(p))[i] = (v)
#define MARTLET_STORE_BYTES(v, p, i) (p)[i] = (uchar)(v)
#define MARTLET_LANE_NUMBERS 0
#endif

static inline MARTLET_INTS martlet_fetch(__global const uchar *p, int kind, int element, int lanes, int lane) {
    const size_t i = (size_t)element * (size_t)lanes + (size_t)lane;
    switch (kind) {
        case MARTLET_SHARED_WORDS: return (MARTLET_INTS)(((__global const int *)p)[element]);
        case MARTLET_LANE_WORDS: return MARTLET_LOAD(int, p, i);
        case MARTLET_SHARED_BYTES: return (MARTLET_INTS)((int)p[element]);
        default: return MARTLET_LOAD_BYTES(p, i);
    }
}

static inline void martlet_keep(MARTLET_INTS x, __global uchar *p, int kind, int element, int lanes, int lane) {
    const size_t i = (size_t)element * (size_t)lanes + (size_t)lane;
    if (kind == MARTLET_LANE_WORDS) {
        MARTLET_STORE(x, p, i);
    } else {
        MARTLET_STORE_BYTES(x, p, i);
    }
}

// How much further the elements of a table lie in an iteration.
static inline int martlet_moved(__global const int *T, int cursor, int iteration) {
    return cursor < 0 ? 0 : T[cursor + iteration];
}

// The sum of products of channel c at position e: on GPUs the part that this work-item has in it.
static inline MARTLET_FLOATS martlet_sum(
    __global const int *T, __global const martlet_work *w, __global const uchar *a, __global const uchar *b, int aKind,
    int bKind, int e, int c, int iteration, int lanes, int lane, int part) {
    const int row = T[w->row + e], aStride = w->aStride, bStride = w->bStride;
    const int baseA = T[w->aBase + e] + c * w->aChannelStride + martlet_moved(T, w->aCursor, iteration);
    const int baseB = T[w->bBase + e] + c * w->bChannelStride + martlet_moved(T, w->bCursor, iteration);
#if MARTLET_WIDTH == 16
    float16 s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
#else
    float s = 0.0f;
    const size_t aLanes = aKind & 1 ? lanes : 1, aLane = aKind & 1 ? lane : 0;
    const size_t bLanes = bKind & 1 ? lanes : 1, bLane = bKind & 1 ? lane : 0;
#endif
    for (int r = T[w->rowStart + row]; r < T[w->rowStart + row + 1]; r++) {
        __global const int *segment = T + w->segments + 3 * r;
        const int ea = baseA + segment[0], eb = baseB + segment[1], length = segment[2];
#if MARTLET_WIDTH == 16
        if (aKind == MARTLET_LANE_WORDS && bKind == MARTLET_SHARED_WORDS) {
            __global const float *x = (__global const float *)a + (size_t)ea * lanes + lane;
            __global const float *y = (__global const float *)b + eb;
#define MARTLET_X(j) vload16(0, x + (size_t)((j) * aStride) * lanes)
#define MARTLET_Y(j) (float16)(y[(j) * bStride])
            int j = 0;
            for (; j + 4 <= length; j += 4) {
                s0 = fma(MARTLET_X(j), MARTLET_Y(j), s0);
                s1 = fma(MARTLET_X(j + 1), MARTLET_Y(j + 1), s1);
                s2 = fma(MARTLET_X(j + 2), MARTLET_Y(j + 2), s2);
                s3 = fma(MARTLET_X(j + 3), MARTLET_Y(j + 3), s3);
            }
            if (j < length) s0 = fma(MARTLET_X(j), MARTLET_Y(j), s0);
            if (j + 1 < length) s1 = fma(MARTLET_X(j + 1), MARTLET_Y(j + 1), s1);
            if (j + 2 < length) s2 = fma(MARTLET_X(j + 2), MARTLET_Y(j + 2), s2);
        } else {
            for (int j = 0; j < length; j++) {
                const float16 x = as_float16(martlet_fetch(a, aKind, ea + j * aStride, lanes, lane));
                const float16 y = as_float16(martlet_fetch(b, bKind, eb + j * bStride, lanes, lane));
                switch (j & 3) {
                    case 0: s0 = fma(x, y, s0); break;
                    case 1: s1 = fma(x, y, s1); break;
                    case 2: s2 = fma(x, y, s2); break;
                    default: s3 = fma(x, y, s3);
                }
            }
        }
#else
        __global const float *x = (__global const float *)a, *y = (__global const float *)b;
        for (int j = part; j < length; j += 4) {
            s = fma(x[(ea + j * aStride) * aLanes + aLane], y[(eb + j * bStride) * bLanes + bLane], s);
        }
#endif
    }
#if MARTLET_WIDTH == 16
    return (s0 + s1) + (s2 + s3);
#else
    return s;
#endif
}

static inline MARTLET_FLOATS martlet_reduction(
    __global const int *T, __global const martlet_work *w, __global const uchar *a, int kind, int e, int c, int iteration,
    int lanes, int lane) {
    const int base = T[w->aBase + e] + c * w->aChannelStride + martlet_moved(T, w->aCursor, iteration);
    const int anchor = w->anchor;
    MARTLET_FLOATS result =
        (MARTLET_FLOATS)(anchor == MARTLET_SUM ? 0.0f : anchor == MARTLET_LARGEST ? -INFINITY : INFINITY);
    for (int k = 0; k < w->offsetCount; k++) {
        const MARTLET_FLOATS y = MARTLET_AS_FLOATS(martlet_fetch(a, kind, base + T[w->offsets + k], lanes, lane));
        if (anchor == MARTLET_SUM) {
            result = result + y;
        } else if (anchor == MARTLET_LARGEST) {
            result = MARTLET_MAXIMUM(y, result);
        } else {
            result = MARTLET_MINIMUM(y, result);
        }
    }
    return result;
}

#if MARTLET_ATTENDS
// The softmax's weights of the query at position e, left in `scores`, and their sum. A work-item makes those of every key, or of every
// fourth, as it is one of four parts.
static inline MARTLET_FLOATS martlet_weights(
    __global const int *T, __global const martlet_work *w, __global const uchar *query, __global const uchar *keys,
    __global uchar *scores, int e, int lanes, int lane, int part, int parts) {
    const int row = T[w->row + e], q = T[w->queryBase + e], k = T[w->aBase + e];
    const float scale = as_float(w->scale);
    int count = 0;
#if MARTLET_WIDTH == 1
    // The query before this one may still be read.
    barrier(CLK_GLOBAL_MEM_FENCE);
#endif
    for (int r = T[w->rowStart + row]; r < T[w->rowStart + row + 1]; r++) {
        __global const int *segment = T + w->segments + 3 * r;
        for (int j = 0; j < segment[2]; j++, count++) {
            if (count % parts != part) continue;
            const int key = k + segment[0] + j * w->aStride;
            MARTLET_FLOATS score = 0.0f;
            for (int d = 0; d < w->depth; d++) {
                score = fma(
                    MARTLET_AS_FLOATS(martlet_fetch(query, MARTLET_LANE_WORDS, q + d * w->queryStride, lanes, lane)),
                    MARTLET_AS_FLOATS(martlet_fetch(keys, MARTLET_LANE_WORDS, key + d * w->aChannelStride, lanes, lane)), score);
            }
            martlet_keep(MARTLET_AS_INTS(score * scale), scores, MARTLET_LANE_WORDS, count, lanes, lane);
        }
    }
#if MARTLET_WIDTH == 1
    barrier(CLK_GLOBAL_MEM_FENCE);
#endif
    MARTLET_FLOATS most = -INFINITY, sum = 0.0f;
    for (int j = 0; j < count; j++) {
        most = MARTLET_MAXIMUM(MARTLET_AS_FLOATS(martlet_fetch(scores, MARTLET_LANE_WORDS, j, lanes, lane)), most);
    }
#if MARTLET_WIDTH == 1
    barrier(CLK_GLOBAL_MEM_FENCE);
#endif
    for (int j = part; j < count; j += parts) {
        const MARTLET_FLOATS score = MARTLET_AS_FLOATS(martlet_fetch(scores, MARTLET_LANE_WORDS, j, lanes, lane));
        martlet_keep(MARTLET_AS_INTS(exp(score - most)), scores, MARTLET_LANE_WORDS, j, lanes, lane);
    }
#if MARTLET_WIDTH == 1
    barrier(CLK_GLOBAL_MEM_FENCE);
#endif
    for (int j = 0; j < count; j++) {
        sum += MARTLET_AS_FLOATS(martlet_fetch(scores, MARTLET_LANE_WORDS, j, lanes, lane));
    }
    return sum;
}

// What that query finds in channel c; nothing where it reads nothing.
static inline MARTLET_FLOATS martlet_answer(
    __global const int *T, __global const martlet_work *w, __global const uchar *found, __global const uchar *scores,
    MARTLET_FLOATS sum, int e, int c, int lanes, int lane) {
    const int row = T[w->row + e], base = T[w->bBase + e] + c * w->bChannelStride;
    MARTLET_FLOATS result = 0.0f;
    int count = 0;
    for (int r = T[w->rowStart + row]; r < T[w->rowStart + row + 1]; r++) {
        __global const int *segment = T + w->segments + 3 * r;
        for (int j = 0; j < segment[2]; j++, count++) {
            result = fma(
                MARTLET_AS_FLOATS(martlet_fetch(scores, MARTLET_LANE_WORDS, count, lanes, lane)),
                MARTLET_AS_FLOATS(martlet_fetch(found, MARTLET_LANE_WORDS, base + segment[1] + j * w->bStride, lanes, lane)),
                result);
        }
    }
    return count > 0 ? result / sum : result;
}
#endif

// One instruction of a program: the cases are those that the model's programs are made of.
static inline void martlet_execute(__global const martlet_work_instruction *instruction, int *registers) {
    switch (instruction->code) {
// @include cases
    }
}

__kernel __attribute__((reqd_work_group_size(MARTLET_GROUP, 1, 1)))
void martlet_sample(__global uchar *memory, __global const int *T, const int lanes MARTLET_POINTERS) {
    __global uchar *values[MARTLET_VALUES];
    MARTLET_SET_POINTERS
    // The tables begin with a header: works, sections, their count, steps, kinds of the values, lane values (value, place in units of 64
    // bytes), their count, where each step's variables begin, the variables, the variable's value and what is drawn.
    __global const martlet_work *works = (__global const martlet_work *)(T + T[0]);
    __global const martlet_section *sections = (__global const martlet_section *)(T + T[1]);
    const int sectionCount = T[2], steps = T[3];
    __global const int *kinds = T + T[4], *places = T + T[5];
    for (int i = 0; i < T[6]; i++) values[places[2 * i]] = memory + (size_t)places[2 * i + 1] * 64;
    __global const int *groupStart = T + T[7], *group = T + T[8];
    __global uchar *variable = values[T[9]];
    __global const uchar *drawn = values[T[10]];
    int registers[MARTLET_REGISTERS * MARTLET_WIDTH];
#if MARTLET_WIDTH == 16
    enum { PARTS = 1 };
    const int part = 0, lane = (int)get_group_id(0) * 16;
#else
    enum { PARTS = 4 };
    __local float partial[4 * 64];
    const int own = (int)get_local_id(0), part = own >> 4;
    const int lane = (int)get_group_id(0) * 16 + (own & 15);
#endif
    for (int step = 0; step < steps; step++) {
        for (int m = 0; m < sectionCount; m++) {
            __global const martlet_section *section = sections + m;
            for (int r = T[section->passStart + step]; r < T[section->passStart + step + 1]; r++) {
                const int iteration = T[section->passes + 2 * r], slot = T[section->passes + 2 * r + 1];
                for (int k = section->firstWork; k < section->endWork; k++) {
                    __global const martlet_work *w = works + k;
                    const int first = T[w->slotStart + slot], channels = w->channels, anchor = w->anchor;
                    const int count = (T[w->slotStart + slot + 1] - first) * channels;
                    // Of attention one query after another, of anything else all elements together.
                    const int together = anchor == MARTLET_ATTENTION ? channels : count;
                    __global const uchar *a = values[w->a], *b = values[w->b];
                    const int aKind = kinds[w->a], bKind = kinds[w->b];
                    const int inputs = w->operandCount + (anchor != MARTLET_PLAIN);
                    if (count > 0) {
                        for (int i = 0; i < w->constantCount; i++) {
                            MARTLET_SET(inputs + i, (MARTLET_INTS)(T[w->constants + i]));
                        }
                    }
                    for (int start = 0; start < count; start += together) {
#if MARTLET_ATTENDS
                        MARTLET_FLOATS weight = 0.0f;
                        if (anchor == MARTLET_ATTENTION) {
                            weight = martlet_weights(
                                T, w, values[w->query], a, values[w->scores], T[w->order + first + start / channels], lanes, lane,
                                part, PARTS);
                        }
#endif
                        const int end = start + together;
                        for (int i = start; i < end; i += PARTS) {
#if MARTLET_WIDTH == 1
                            for (int q = 0; q < PARTS && anchor == MARTLET_PRODUCT; q++) {
                                if (i + q < end) {
                                    const int e = T[w->order + first + (i + q) / channels], c = (i + q) % channels;
                                    partial[64 * q + own] =
                                        martlet_sum(T, w, a, b, aKind, bKind, e, c, iteration, lanes, lane, part);
                                }
                            }
                            barrier(CLK_LOCAL_MEM_FENCE);
#endif
                            if (i + part < end) {
                                const int e = T[w->order + first + (i + part) / channels], c = (i + part) % channels;
                                if (anchor == MARTLET_PRODUCT) {
#if MARTLET_WIDTH == 16
                                    const float16 sum =
                                        martlet_sum(T, w, a, b, aKind, bKind, e, c, iteration, lanes, lane, part);
#else
                                    __local const float *p = partial + 64 * part + (own & 15);
                                    const float sum = (p[0] + p[16]) + (p[32] + p[48]);
#endif
                                    MARTLET_SET(0, MARTLET_AS_INTS(sum));
#if MARTLET_ATTENDS
                                } else if (anchor == MARTLET_ATTENTION) {
                                    const MARTLET_FLOATS answer =
                                        martlet_answer(T, w, b, values[w->scores], weight, e, c, lanes, lane);
                                    MARTLET_SET(0, MARTLET_AS_INTS(answer));
#endif
                                } else if (anchor != MARTLET_PLAIN) {
                                    const MARTLET_FLOATS reduced =
                                        martlet_reduction(T, w, a, aKind, e, c, iteration, lanes, lane);
                                    MARTLET_SET(0, MARTLET_AS_INTS(reduced));
                                }
                                for (int n = 0; n < w->operandCount; n++) {
                                    __global const martlet_work_operand *o =
                                        (__global const martlet_work_operand *)(T + w->operands) + n;
                                    const int place =
                                        T[o->table + e] + c * o->channelStride + martlet_moved(T, o->cursor, iteration);
                                    if (o->value < 0) {
                                        MARTLET_SET(
                                            inputs - w->operandCount + n,
                                            (MARTLET_INTS)(place + o->batchStride * lane) + o->batchStride * MARTLET_LANE_NUMBERS);
                                    } else {
                                        const MARTLET_INTS x =
                                            martlet_fetch(values[o->value], kinds[o->value], place, lanes, lane);
                                        MARTLET_SET(inputs - w->operandCount + n, x);
                                    }
                                }
                                for (int n = 0; n < w->instructionCount; n++) {
                                    martlet_execute(
                                        (__global const martlet_work_instruction *)(T + w->instructions) + n, registers);
                                }
                                for (int n = 0; n < w->outputCount; n++) {
                                    __global const martlet_work_output *o =
                                        (__global const martlet_work_output *)(T + w->outputs) + n;
                                    const int place =
                                        T[o->table + e] + c * o->channelStride + martlet_moved(T, o->cursor, iteration);
                                    martlet_keep(MARTLET_GET(o->source), values[o->value], kinds[o->value], place, lanes, lane);
                                }
                            }
#if MARTLET_WIDTH == 1
                            barrier(CLK_LOCAL_MEM_FENCE);
#endif
                        }
                    }
#if MARTLET_WIDTH == 1
                    barrier(CLK_GLOBAL_MEM_FENCE);
#endif
                }
            }
        }
        for (int g = groupStart[step]; g < groupStart[step + 1]; g++) {
            if (part == 0) {
                const MARTLET_INTS x = martlet_fetch(drawn, kinds[T[10]], group[g], lanes, lane);
                martlet_keep(x, variable, kinds[T[9]], group[g], lanes, lane);
            }
        }
#if MARTLET_WIDTH == 1
        barrier(CLK_GLOBAL_MEM_FENCE);
#endif
    }
}
