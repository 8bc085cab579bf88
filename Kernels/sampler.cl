// A sampler interprets tables (SamplerTables.swift), so that its text, and with it the time that a device's compiler takes, hardly depends
// on the model. Here is what the two families share; sampler_cpu.cl and sampler_gpu.cl have the kernels.
//
// Values that vary with the example lie [element, lane] in one buffer, those that all examples share in another.
//
// Defined in front of this text: MARTLET_WIDTH (lanes that a work-item takes at once: 16 or 1), MARTLET_ATTENDS (whether there is
// attention), MARTLET_REGISTERS, and for GPUs MARTLET_GROUP (work-items of a group), MARTLET_LANES (examples of a group) and
// MARTLET_PARTIALS (floats of local memory).

// In the order of SamplerTables.
typedef struct {
    int anchor, channels, slotStart, order;
    int a, aBase, aStride, aChannelStride, aCursor, b, bBase, bStride, bChannelStride, bCursor;
    // A sum is made in 2^partShift parts.
    int partShift, row, rowStart, segments, offsets, offsetCount;
    int query, queryBase, queryStride, depth, scale, scores, scoreKeys, scoreRows;
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

// What the tables begin with: where works, sections and values are, where each step's variables begin, the variables themselves, which
// value they are and what is drawn for them. A value is a kind and its place in its buffer, in units of 64 bytes.
typedef struct {
    int works, sections, sectionCount, values, groupStart, group, variable, drawn;
} martlet_header;

enum { MARTLET_PLAIN, MARTLET_PRODUCT, MARTLET_SUM, MARTLET_LARGEST, MARTLET_SMALLEST, MARTLET_ATTENTION };
// What a value is made of: words or bytes, and a lane for every example or not.
enum { MARTLET_SHARED_WORDS, MARTLET_LANE_WORDS, MARTLET_SHARED_BYTES, MARTLET_LANE_BYTES };

#if MARTLET_WIDTH == 16
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

// What every function needs: the two buffers, the tables, and how many lanes an element has.
typedef struct {
    __global uchar *lanesMemory, *shared;
    __global const int *T;
    int lanes;
} martlet_sampler;

// A value as a work reads or writes it.
typedef struct {
    __global uchar *p;
    int kind;
} martlet_value;

static inline martlet_value martlet_find(const martlet_sampler s, int id) {
    __global const int *value = s.T + ((__global const martlet_header *)s.T)->values + 2 * id;
    martlet_value result;
    result.kind = value[0];
    result.p = (result.kind & 1 ? s.lanesMemory : s.shared) + (size_t)value[1] * 64;
    return result;
}

static inline MARTLET_INTS martlet_fetch(const martlet_value v, int element, int lanes, int lane) {
    const size_t i = (size_t)element * (size_t)lanes + (size_t)lane;
    switch (v.kind) {
        case MARTLET_SHARED_WORDS: return (MARTLET_INTS)(((__global const int *)v.p)[element]);
        case MARTLET_LANE_WORDS: return MARTLET_LOAD(int, v.p, i);
        case MARTLET_SHARED_BYTES: return (MARTLET_INTS)((int)v.p[element]);
        default: return MARTLET_LOAD_BYTES(v.p, i);
    }
}

// The same where it is known to be words with a lane for every example.
static inline MARTLET_FLOATS martlet_word(const martlet_value v, int element, int lanes, int lane) {
    return MARTLET_AS_FLOATS(MARTLET_LOAD(int, v.p, (size_t)element * (size_t)lanes + (size_t)lane));
}

static inline void martlet_keep_word(MARTLET_FLOATS x, const martlet_value v, int element, int lanes, int lane) {
    MARTLET_STORE(MARTLET_AS_INTS(x), v.p, (size_t)element * (size_t)lanes + (size_t)lane);
}

static inline void martlet_keep(MARTLET_INTS x, const martlet_value v, int element, int lanes, int lane) {
    const size_t i = (size_t)element * (size_t)lanes + (size_t)lane;
    if (v.kind == MARTLET_LANE_WORDS) {
        MARTLET_STORE(x, v.p, i);
    } else {
        MARTLET_STORE_BYTES(x, v.p, i);
    }
}

// How much further the elements of a table lie in an iteration.
static inline int martlet_moved(__global const int *T, int cursor, int iteration) {
    return cursor < 0 ? 0 : T[cursor + iteration];
}

// One of the numbers that a reduction goes over, put to those before it.
static inline MARTLET_FLOATS martlet_reduced(int anchor, MARTLET_FLOATS y, MARTLET_FLOATS result) {
    switch (anchor) {
        case MARTLET_LARGEST: return MARTLET_MAXIMUM(y, result);
        case MARTLET_SMALLEST: return MARTLET_MINIMUM(y, result);
        default: return result + y;
    }
}

static inline MARTLET_FLOATS martlet_nothing(int anchor) {
    return (MARTLET_FLOATS)(anchor == MARTLET_LARGEST ? -INFINITY : anchor == MARTLET_SMALLEST ? INFINITY : 0.0f);
}

// One instruction of a program: the cases are those that the model's programs are made of.
static inline void martlet_execute(__global const martlet_work_instruction *instruction, int *registers) {
    switch (instruction->code) {
// @include cases
    }
}

// Sets the registers that hold a work's constants, which no element changes.
static inline void martlet_set_constants(const martlet_sampler s, __global const martlet_work *w, int *registers) {
    const int constants = (w->anchor != MARTLET_PLAIN) + w->operandCount;
    for (int i = 0; i < w->constantCount; i++) {
        MARTLET_SET(constants + i, (MARTLET_INTS)(s.T[w->constants + i]));
    }
}

// The program of a work for channel c at position e, whose anchor's result is in register 0 if there is one.
static inline void martlet_finish(
    const martlet_sampler s, __global const martlet_work *w, int e, int c, int iteration, int lane, int *registers) {
    __global const int *T = s.T;
    const int first = w->anchor != MARTLET_PLAIN;
    for (int n = 0; n < w->operandCount; n++) {
        __global const martlet_work_operand *o = (__global const martlet_work_operand *)(T + w->operands) + n;
        const int place = T[o->table + e] + c * o->channelStride + martlet_moved(T, o->cursor, iteration);
        if (o->value < 0) {
            MARTLET_SET(
                first + n, (MARTLET_INTS)(place + o->batchStride * lane) + o->batchStride * MARTLET_LANE_NUMBERS);
        } else {
            MARTLET_SET(first + n, martlet_fetch(martlet_find(s, o->value), place, s.lanes, lane));
        }
    }
    for (int n = 0; n < w->instructionCount; n++) {
        martlet_execute((__global const martlet_work_instruction *)(T + w->instructions) + n, registers);
    }
    for (int n = 0; n < w->outputCount; n++) {
        __global const martlet_work_output *o = (__global const martlet_work_output *)(T + w->outputs) + n;
        const int place = T[o->table + e] + c * o->channelStride + martlet_moved(T, o->cursor, iteration);
        martlet_keep(MARTLET_GET(o->source), martlet_find(s, o->value), place, s.lanes, lane);
    }
}

// Keeps what was drawn for the variables of a step: those from `first` on, every `stride`-th.
static inline void martlet_draw(const martlet_sampler s, int step, int first, int stride, int lane) {
    __global const martlet_header *header = (__global const martlet_header *)s.T;
    const martlet_value variable = martlet_find(s, header->variable), drawn = martlet_find(s, header->drawn);
    const int end = s.T[header->groupStart + step + 1];
    for (int g = s.T[header->groupStart + step] + first; g < end; g += stride) {
        const int element = s.T[header->group + g];
        martlet_keep(martlet_fetch(drawn, element, s.lanes, lane), variable, element, s.lanes, lane);
    }
}
