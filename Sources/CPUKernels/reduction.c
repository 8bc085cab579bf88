// Reductions by a fixed tree, in double precision: lines (32 lanes, then pairwise) or columns in order, within segments whose
// length depends on the extents alone; then segments in order.
#include "kernels.h"

enum {
    row_chunk = 512,
    // Elements that the prologue makes at a time.
    buffer_elements = 2048,
    column_block = 512,
    column_rows = 16,
    // Columns are dealt in narrower blocks, down to this, where there would be few pieces.
    narrow_block = 64,
    enough_pieces = 8,
    row_block_limit = 1024,
    segment_elements = 65536,
};

// A partial result: floats are held as double, integers as int64.
typedef union {
    double real;
    int64_t whole;
} partial;

typedef struct {
    const martlet_reduction *r;
    const martlet_context *context;
    const martlet_isa_functions *isa;
    partial *partials;
    char *result;
    int64_t row_extent, row_blocks;
} job;

static int is_real(int32_t element) { return element == MARTLET_FLOAT32 || element == MARTLET_FLOAT64; }

static partial neutral(martlet_reduction_kind kind, int32_t element) {
    partial p;
    if (is_real(element)) {
        p.real = kind == MARTLET_SUM ? 0 : kind == MARTLET_MAXIMUM_OF ? -__builtin_inf() : __builtin_inf();
    } else {
        p.whole = kind == MARTLET_SUM ? 0 : kind == MARTLET_MAXIMUM_OF ? INT64_MIN : INT64_MAX;
    }
    return p;
}

// NaN is larger and smaller than everything.
static partial combine(martlet_reduction_kind kind, int32_t element, partial a, partial b) {
    if (is_real(element)) {
        if (kind == MARTLET_SUM) a.real += b.real;
        else if (kind == MARTLET_MAXIMUM_OF) a.real = a.real > b.real || a.real != a.real ? a.real : b.real;
        else a.real = a.real < b.real || a.real != a.real ? a.real : b.real;
    } else {
        if (kind == MARTLET_SUM) a.whole = (int64_t)((uint64_t)a.whole + (uint64_t)b.whole);
        else if (kind == MARTLET_MAXIMUM_OF) a.whole = a.whole > b.whole ? a.whole : b.whole;
        else a.whole = a.whole < b.whole ? a.whole : b.whole;
    }
    return a;
}

static partial element_at(const char *source, int32_t element, int64_t i) {
    partial p;
    switch (element) {
        case MARTLET_FLOAT32: p.real = ((const float *)(const void *)source)[i]; break;
        case MARTLET_FLOAT64: p.real = ((const double *)(const void *)source)[i]; break;
        case MARTLET_INT32: p.whole = ((const int32_t *)(const void *)source)[i]; break;
        default: p.whole = ((const uint8_t *)source)[i]; break;
    }
    return p;
}

static partial reduce_line(const job *j, const char *source, int64_t count) {
    const martlet_reduction *r = j->r;
    partial total = neutral(r->kind, r->element);
    if (r->element == MARTLET_FLOAT32) {
        const float *x = (const float *)(const void *)source;
        if (r->kind == MARTLET_SUM) {
            total.real = j->isa->sum_line(x, count);
        } else {
            total.real = j->isa->extreme_of_line(x, count, r->kind != MARTLET_MAXIMUM_OF);
        }
        return total;
    }
    for (int64_t i = 0; i < count; i++) total = combine(r->kind, r->element, total, element_at(source, r->element, i));
    return total;
}

// The prologue's operands at a place in the iteration space: what it reads, then what it stores.
typedef struct {
    martlet_block all[2 * MARTLET_MAXIMUM_PORTS];
} operand_blocks;

static void locate(const job *j, const int64_t *place, int32_t row_axis, int32_t column_axis, operand_blocks *operands) {
    const martlet_reduction *r = j->r;
    const int32_t rank = r->keptRank + r->reducedRank, inputs = r->prologue->inputCount;
    martlet_block *blocks = operands->all;
    for (int32_t i = 0; i < inputs + r->prologue->outputCount - 1; i++) {
        const martlet_operand *operand = i < inputs ? &r->inputs[i] : &r->stored[i - inputs];
        int64_t offset = operand->offset;
        for (int32_t axis = 0; axis < rank; axis++) offset += place[axis] * operand->strides[axis];
        blocks[i] = martlet_block_at(
            j->context, operand, offset, row_axis >= 0 ? operand->strides[row_axis] : 0,
            column_axis >= 0 ? operand->strides[column_axis] : 0);
    }
}

// Whether the prologue only hands on an input that can be read where it lies.
static int is_direct(const job *j, const operand_blocks *operands) {
    const martlet_program *p = j->r->prologue;
    const martlet_block *first = operands->all;
    return p->instructionCount == 0 && p->inputCount == 1 && p->outputCount == 1 && p->outputs[0] == 0 && first->base &&
           first->columnStride == 1;
}

static martlet_block shifted(const martlet_block *block, int32_t element, int64_t rows, int64_t columns) {
    martlet_block b = *block;
    const int64_t offset = rows * b.rowStride + columns * b.columnStride;
    b.start += offset;
    if (b.base) b.base += offset * martlet_element_size(element);
    return b;
}

// Rows x columns of what is reduced, dense, in `buffer`; or where they lie in memory.
static const char *produce(
    const job *j, const operand_blocks *operands, int64_t row, int64_t rows, int64_t column, int64_t columns, char *buffer,
    char *work, int64_t *stride) {
    const martlet_program *p = j->r->prologue;
    martlet_block here[MARTLET_MAXIMUM_PORTS], targets[MARTLET_MAXIMUM_PORTS];
    for (int32_t i = 0; i < p->inputCount; i++) here[i] = shifted(&operands->all[i], p->inputElements[i], row, column);
    if (is_direct(j, operands)) {
        *stride = here[0].rowStride;
        return here[0].base;
    }
    targets[0] = (martlet_block){buffer, 0, columns, 1};
    for (int32_t i = 1; i < p->outputCount; i++) {
        targets[i] = shifted(&operands->all[p->inputCount + i - 1], p->outputElements[i], row, column);
    }
    martlet_program_run(p, here, targets, rows, columns, work);
    *stride = columns;
    return buffer;
}

static void set_reduced(const job *j, int64_t *place, int64_t outer) {
    const martlet_reduction *r = j->r;
    for (int32_t axis = r->reducedRank - 2; axis >= 0; axis--) {
        const int64_t extent = r->extents[r->keptRank + axis];
        place[r->keptRank + axis] = outer % extent;
        outer /= extent;
    }
}

static void set_kept(const job *j, int64_t *place, int64_t outer) {
    for (int32_t axis = j->r->keptRank - 2; axis >= 0; axis--) {
        place[axis] = outer % j->r->extents[axis];
        outer /= j->r->extents[axis];
    }
}

// Some places of the last kept axis, for one segment of what is reduced.
typedef struct {
    const job *j;
    int64_t segment, outer_kept;
    // Of the last kept axis: [first, first + count).
    int64_t first, count;
    // What the segment covers: outer reduced indices, and a range of the last reduced axis.
    int64_t outer[2], inner[2];
    int64_t place[MARTLET_MAXIMUM_RANK];
    // One for each place of the last kept axis.
    partial *sums;
    char *buffer, *work;
} piece;

static void segment_bounds(const job *j, int64_t segment, int64_t length, int64_t *outer, int64_t *inner) {
    const martlet_reduction *r = j->r;
    outer[0] = 0;
    outer[1] = r->outerReduced;
    inner[0] = 0;
    inner[1] = length;
    int64_t *split = r->outerReduced > 1 ? outer : inner;
    const int64_t end = split[1];
    split[0] = segment * r->segmentLength;
    split[1] = minimum(split[0] + r->segmentLength, end);
}

// A piece whose worker's memory holds `sums` partial sums, then `elements` that the prologue makes at a time.
static piece begin(
    const job *j, int64_t segment, int64_t block, int64_t outer_kept, int32_t worker, int64_t sums, int64_t elements) {
    const martlet_reduction *r = j->r;
    piece x = {.j = j, .segment = segment, .outer_kept = outer_kept, .first = block * r->rowBlock};
    x.count = minimum(r->rowBlock, j->row_extent - x.first);
    segment_bounds(j, segment, r->reducedRank > 0 ? r->extents[r->keptRank + r->reducedRank - 1] : 1, x.outer, x.inner);
    char *memory = j->context->work + worker * j->context->workBytes;
    x.sums = (partial *)(void *)memory;
    x.buffer = memory + sums * (int64_t)sizeof(partial);
    x.work = x.buffer + elements * 8;
    for (int64_t i = 0; i < x.count; i++) x.sums[i] = neutral(r->kind, r->element);
    set_kept(j, x.place, outer_kept);
    if (r->keptRank > 0) x.place[r->keptRank - 1] = x.first;
    return x;
}

static void store(const piece *x) {
    const job *j = x->j;
    partial *target = j->partials + x->segment * j->r->keptCount + x->outer_kept * j->row_extent + x->first;
    memcpy(target, x->sums, (size_t)x->count * sizeof(partial));
}

// Asks for the rows at the next place of the last outer axis, where they are read as they lie: lines this far apart come one at
// a time otherwise.
static void fetch_next(const job *j, const operand_blocks *operands, int64_t rows, const int64_t *inner) {
    const martlet_reduction *r = j->r;
    if (r->reducedRank < 2 || rows * (inner[1] - inner[0]) > buffer_elements || !is_direct(j, operands)) return;
    const int32_t size = martlet_element_size(r->prologue->inputElements[0]);
    const martlet_block *b = &operands->all[0];
    const char *line = b->base + (r->inputs[0].strides[r->keptRank + r->reducedRank - 2] + inner[0]) * size;
    for (int64_t row = 0; row < rows; row++, line += b->rowStride * size) {
        for (int64_t at = 0; at < (inner[1] - inner[0]) * size; at += 64) __builtin_prefetch(line + at, 0, 2);
    }
}

// The lines at one outer reduced place, some rows at a time, as many of their elements as the buffer holds.
static void reduce_lines(piece *x, const operand_blocks *operands) {
    const martlet_reduction *r = x->j->r;
    const int32_t size = martlet_element_size(r->element);
    const int64_t width = minimum(x->inner[1] - x->inner[0], buffer_elements);
    const int64_t step = width > 0 ? buffer_elements / width : 1;
    for (int64_t row = 0; row < x->count; row += step) {
        const int64_t height = minimum(step, x->count - row);
        for (int64_t column = x->inner[0]; column < x->inner[1]; column += width) {
            const int64_t columns = minimum(width, x->inner[1] - column);
            int64_t stride;
            const char *lines = produce(x->j, operands, row, height, column, columns, x->buffer, x->work, &stride);
            for (int64_t i = 0; i < height; i++) {
                const partial sum = reduce_line(x->j, lines + i * stride * size, columns);
                x->sums[row + i] = combine(r->kind, r->element, x->sums[row + i], sum);
            }
        }
    }
}

static void run_rows(void *argument, int64_t index, int32_t worker) {
    const job *j = argument;
    const martlet_reduction *r = j->r;
    const int32_t rank = r->keptRank + r->reducedRank;
    const int64_t segment = index % r->segments, block = index / r->segments % j->row_blocks;
    piece x = begin(j, segment, block, index / (r->segments * j->row_blocks), worker, row_block_limit, buffer_elements);
    operand_blocks operands;
    for (int64_t o = x.outer[0]; o < x.outer[1]; o++) {
        set_reduced(j, x.place, o);
        locate(j, x.place, r->keptRank - 1, r->reducedRank > 0 ? rank - 1 : -1, &operands);
        if (o + 1 < x.outer[1]) fetch_next(j, &operands, x.count, x.inner);
        reduce_lines(&x, &operands);
    }
    store(&x);
}

// Adds some rows to the sums of their columns.
static void reduce_columns(piece *x, const char *lines, int64_t rows, int64_t stride) {
    const martlet_reduction *r = x->j->r;
    const martlet_isa_functions *isa = x->j->isa;
    if (r->element == MARTLET_FLOAT32) {
        const float *floats = (const float *)(const void *)lines;
        if (r->kind == MARTLET_SUM) isa->add_rows(&x->sums[0].real, floats, rows, stride, x->count);
        else isa->extreme_of_rows(&x->sums[0].real, floats, rows, stride, x->count, r->kind != MARTLET_MAXIMUM_OF);
        return;
    }
    for (int64_t k = 0; k < rows; k++) {
        const char *line = lines + k * stride * martlet_element_size(r->element);
        for (int64_t i = 0; i < x->count; i++) {
            x->sums[i] = combine(r->kind, r->element, x->sums[i], element_at(line, r->element, i));
        }
    }
}

static void run_columns(void *argument, int64_t index, int32_t worker) {
    const job *j = argument;
    const martlet_reduction *r = j->r;
    // A worker's share is of neighbouring rows, as in the group before, whose results are in its cache.
    const int64_t block = index % j->row_blocks, segment = index / j->row_blocks % r->segments;
    piece x = begin(
        j, segment, block, index / (r->segments * j->row_blocks), worker, column_block, column_rows * column_block);
    operand_blocks operands;
    for (int64_t o = x.outer[0]; o < x.outer[1]; o++) {
        set_reduced(j, x.place, o);
        locate(j, x.place, r->keptRank + r->reducedRank - 1, r->keptRank - 1, &operands);
        for (int64_t row = x.inner[0]; row < x.inner[1]; row += column_rows) {
            const int64_t rows = minimum(column_rows, x.inner[1] - row);
            int64_t stride;
            const char *lines = produce(j, &operands, row, rows, 0, x.count, x.buffer, x.work, &stride);
            reduce_columns(&x, lines, rows, stride);
        }
    }
    store(&x);
}

// Adds the partial results of a segment to those before.
static void combine_segments(const job *j, partial *totals, const partial *segment) {
    const martlet_reduction *r = j->r;
    if (is_real(r->element) && r->kind == MARTLET_SUM) {
        for (int64_t i = 0; i < r->keptCount; i++) totals[i].real += segment[i].real;
        return;
    }
    for (int64_t i = 0; i < r->keptCount; i++) totals[i] = combine(r->kind, r->element, totals[i], segment[i]);
}

static void finish(const job *j) {
    const martlet_reduction *r = j->r;
    partial *totals = j->partials;
    for (int64_t s = 1; s < r->segments; s++) combine_segments(j, totals, totals + s * r->keptCount);
    switch (r->element) {
        case MARTLET_FLOAT32:
            for (int64_t i = 0; i < r->keptCount; i++) ((float *)(void *)j->result)[i] = (float)totals[i].real;
            break;
        case MARTLET_FLOAT64:
            for (int64_t i = 0; i < r->keptCount; i++) ((double *)(void *)j->result)[i] = totals[i].real;
            break;
        case MARTLET_INT32:
            for (int64_t i = 0; i < r->keptCount; i++) {
                ((int32_t *)(void *)j->result)[i] = (int32_t)(uint32_t)(uint64_t)totals[i].whole;
            }
            break;
        default:
            for (int64_t i = 0; i < r->keptCount; i++) ((uint8_t *)j->result)[i] = (uint8_t)totals[i].whole;
            break;
    }
}

// Enough elements to a segment that one is worth handing over, cut along the outer reduced indices where there are several, else along
// the last reduced axis.
static void choose_segments(martlet_reduction *r, int64_t length, int64_t row_extent) {
    // Elements of one step of what is cut.
    const int64_t columns = r->byColumns ? minimum(row_extent, column_block) : 1;
    const int64_t unit = columns * (r->outerReduced > 1 ? length : 1);
    const int64_t steps = r->outerReduced > 1 ? r->outerReduced : length;
    r->segmentLength = unit > 0 ? divide_up(segment_elements, unit) : 1;
    // Whole lines of vectors; of columns, enough segments to share out, and no more, as one worker puts them together.
    if (r->outerReduced <= 1 && r->byColumns) {
        r->segmentLength = minimum(r->segmentLength, divide_up(maximum(length, 1), enough_pieces));
        r->segmentLength = round_up(r->segmentLength, column_rows);
    } else if (r->outerReduced <= 1) {
        r->segmentLength = round_up(r->segmentLength, row_chunk);
    }
    r->segments = steps > 0 ? divide_up(steps, r->segmentLength) : 1;
}

// How much of the last kept axis a piece takes.
static void choose_rows(martlet_reduction *r, int64_t length, int64_t row_extent) {
    const int64_t per_row = minimum(segment_elements, length * r->outerReduced);
    r->rowBlock = per_row > 0 ? segment_elements / 8 / per_row : row_block_limit;
    r->rowBlock = maximum(1, minimum(r->rowBlock, row_block_limit));
    if (!r->byColumns) return;
    const int64_t others = row_extent > 0 ? r->keptCount / row_extent * r->segments : 1;
    r->rowBlock = column_block;
    while (r->rowBlock > narrow_block && divide_up(row_extent, r->rowBlock) * others < enough_pieces) r->rowBlock /= 2;
}

// Bytes of the reduced values, behind which the partial results lie.
static int64_t result_bytes(const martlet_reduction *r) { return round_up(r->keptCount * 8, 64); }

void martlet_reduction_plan(martlet_reduction *r) {
    r->keptCount = 1;
    for (int32_t axis = 0; axis < r->keptRank; axis++) r->keptCount *= r->extents[axis];
    r->outerReduced = 1;
    for (int32_t axis = 0; axis < r->reducedRank - 1; axis++) r->outerReduced *= r->extents[r->keptRank + axis];
    const int64_t length = r->reducedRank > 0 ? r->extents[r->keptRank + r->reducedRank - 1] : 1;
    const int64_t row_extent = r->keptRank > 0 ? r->extents[r->keptRank - 1] : 1;
    choose_segments(r, length, row_extent);
    choose_rows(r, length, row_extent);
    r->sharedBytes = result_bytes(r) + r->segments * r->keptCount * (int64_t)sizeof(partial);
    const int64_t before = r->byColumns ? column_block * (int64_t)sizeof(partial) + column_rows * column_block * 8
                                        : row_block_limit * (int64_t)sizeof(partial) + buffer_elements * 8;
    const int64_t prologue = (int64_t)r->prologue->slotCount * r->prologue->slotBytes;
    const int64_t epilogue = (int64_t)r->epilogue.program->slotCount * r->epilogue.program->slotBytes;
    r->workBytes = before + maximum(prologue, epilogue);
}

void martlet_reduction_run(const martlet_reduction *r, const martlet_context *context) {
    if (r->keptCount == 0) return;
    job j = {.r = r, .context = context, .isa = martlet_isa_table(context->isa), .result = context->shared};
    j.partials = (partial *)(void *)(context->shared + result_bytes(r));
    j.row_extent = r->keptRank > 0 ? r->extents[r->keptRank - 1] : 1;
    int64_t elements = r->keptCount;
    for (int32_t axis = 0; axis < r->reducedRank; axis++) elements *= r->extents[r->keptRank + axis];
    if (elements == 0) {
        // An empty reduction: nothing runs, the neutral element remains.
        for (int64_t i = 0; i < r->keptCount * r->segments; i++) j.partials[i] = neutral(r->kind, r->element);
    } else {
        j.row_blocks = divide_up(j.row_extent, r->rowBlock);
        const int64_t pieces = r->keptCount / j.row_extent * j.row_blocks * r->segments;
        const martlet_task task = r->byColumns ? run_columns : run_rows;
        if (elements < 16384) {
            for (int64_t i = 0; i < pieces; i++) task(&j, i, 0);
        } else {
            martlet_pool_run(context->pool, pieces, task, &j);
        }
    }
    finish(&j);
    martlet_nest_run(&r->epilogue, context);
}
