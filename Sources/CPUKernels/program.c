// Runs programs over blocks: a chunk of elements at a time goes through every instruction while it is in the first-level
// cache. Operands that lie contiguously are read and written in place; the others are gathered into a dense chunk first.
#include <string.h>

#include "kernels.h"

// A chunk of a block: one row's columns [column, column + count), or whole rows from `row` on.
typedef struct {
    int64_t row, column;
    int64_t rows, columns;
} chunk;

// Whether an instruction writes its own register; otherwise a later one writes it beside its own.
static inline int runs(const martlet_instruction *instruction) { return instruction->kernel || instruction->meaning; }

// Whether the rows of a block follow one another as the columns of one long row do.
static inline int lies_in_one_row(const martlet_block *b, int64_t columns) {
    return b->rowStride == columns * b->columnStride;
}

static inline int all_lie_in_one_row(const martlet_block *blocks, int32_t count, int64_t columns) {
    for (int32_t i = 0; i < count; i++) {
        if (!lies_in_one_row(&blocks[i], columns)) return 0;
    }
    return 1;
}

// Whether short rows go through the instructions one by one. Put together into chunks they would be started less often, at the price
// of copying each operand whose rows lie apart.
static inline int goes_by_rows(
    const martlet_program *p, const martlet_block *inputs, const martlet_block *outputs, int64_t columns) {
    enum { long_row = 160, short_row = 32 };
    if (columns >= long_row || columns < short_row) return columns >= long_row;
    int32_t started = 0, copied = 0;
    for (int32_t i = 0; i < p->instructionCount; i++) started += runs(&p->instructions[i]);
    for (int32_t i = 0; i < p->inputCount; i++) copied += !lies_in_one_row(&inputs[i], columns);
    for (int32_t i = 0; i < p->outputCount; i++) copied += !lies_in_one_row(&outputs[i], columns);
    return started < copied;
}

static inline int is_contiguous(const martlet_block *b, const chunk *c) {
    return b->base != NULL && (b->columnStride == 1 || c->columns == 1) && (c->rows == 1 || b->rowStride == c->columns);
}

static inline int is_scalar(const martlet_block *b, const chunk *c) {
    return (b->columnStride == 0 || c->columns == 1) && (b->rowStride == 0 || c->rows == 1);
}

#define GATHER(type)                                                                   \
    for (int64_t r = 0; r < c->rows; r++) {                                            \
        const type *s = (const type *)b->base + origin + r * b->rowStride;             \
        type *d = (type *)target + r * c->columns;                                     \
        if (b->columnStride == 0) {                                                    \
            for (int64_t j = 0; j < c->columns; j++) d[j] = *s;                        \
        } else {                                                                       \
            for (int64_t j = 0; j < c->columns; j++) d[j] = s[j * b->columnStride];    \
        }                                                                              \
    }

static void gather(const martlet_block *b, const chunk *c, int32_t size, char *target) {
    const int64_t origin = c->row * b->rowStride + c->column * b->columnStride;
    if (b->base == NULL) {
        int32_t *d = (int32_t *)target;
        for (int64_t r = 0; r < c->rows; r++) {
            const int64_t start = b->start + origin + r * b->rowStride;
            for (int64_t j = 0; j < c->columns; j++) d[r * c->columns + j] = (int32_t)(start + j * b->columnStride);
        }
    } else if (b->columnStride == 1) {
        for (int64_t r = 0; r < c->rows; r++) {
            memcpy(target + r * c->columns * size, b->base + (origin + r * b->rowStride) * size, (size_t)(c->columns * size));
        }
    } else if (size == 4) {
        GATHER(uint32_t)
    } else if (size == 8) {
        GATHER(uint64_t)
    } else {
        GATHER(uint8_t)
    }
}

#define SCATTER(type)                                                                                      \
    for (int64_t r = 0; r < c->rows; r++) {                                                                \
        type *d = (type *)b->base + origin + r * b->rowStride;                                             \
        const type *s = (const type *)source + (scalar ? 0 : r * c->columns);                              \
        for (int64_t j = 0; j < c->columns; j++) d[j * b->columnStride] = s[scalar ? 0 : j];               \
    }

static void scatter(const martlet_block *b, const chunk *c, int32_t size, const char *source, int scalar) {
    const int64_t origin = c->row * b->rowStride + c->column * b->columnStride;
    if (!scalar && b->columnStride == 1) {
        for (int64_t r = 0; r < c->rows; r++) {
            char *d = b->base + (origin + r * b->rowStride) * size;
            const char *s = source + r * c->columns * size;
            if (d != s) memmove(d, s, (size_t)(c->columns * size));
        }
    } else if (size == 4) {
        SCATTER(uint32_t)
    } else if (size == 8) {
        SCATTER(uint64_t)
    } else {
        SCATTER(uint8_t)
    }
}

// A place that is `step` bytes further on in the next chunk.
typedef struct {
    const void **place;
    int64_t step;
} moving_place;

// A program bound to the chunks of one strip of columns: where each register lies in the chunk at hand, and what the instructions
// read, one operand after another. Registers are inputs, constants, then results of instructions.
typedef struct {
    const martlet_program *p;
    const martlet_block *inputs, *outputs;
    char *work;
    const void *places[MARTLET_MAXIMUM_REGISTERS];
    int64_t steps[MARTLET_MAXIMUM_REGISTERS];
    uint8_t scalars[MARTLET_MAXIMUM_REGISTERS];
    const void *reads[MARTLET_MAXIMUM_READS];
    uint8_t flags[MARTLET_MAXIMUM_READS];
    moving_place moving[MARTLET_MAXIMUM_REGISTERS + MARTLET_MAXIMUM_READS];
    int32_t moving_count;
    // Inputs to be gathered and outputs to be scattered.
    int32_t gathered[MARTLET_MAXIMUM_PORTS], scattered[MARTLET_MAXIMUM_PORTS];
    int32_t gathered_count, scattered_count;
} strip;

static void move(strip *s, const void **place, int64_t step) {
    if (step != 0) s->moving[s->moving_count++] = (moving_place){place, step};
}

// Register i lies in memory of its own, or in the block b of elements of `size` bytes.
static void lay(strip *s, int32_t i, int32_t slot) {
    s->places[i] = s->work + (int64_t)slot * s->p->slotBytes;
    s->steps[i] = 0;
}
static void lay_in_block(strip *s, int32_t i, const martlet_block *b, const chunk *c, int32_t size, int64_t rows_on) {
    s->places[i] = b->base + (c->row * b->rowStride + c->column * b->columnStride) * size;
    s->steps[i] = rows_on * b->rowStride * size;
}

// Binds the program to chunks like c, each `rows_on` rows after the last.
static void bind(strip *s, const chunk *c, int64_t rows_on) {
    const martlet_program *p = s->p;
    s->moving_count = s->gathered_count = s->scattered_count = 0;
    for (int32_t i = 0; i < p->inputCount; i++) {
        const martlet_block *b = &s->inputs[i];
        s->scalars[i] = (uint8_t)is_scalar(b, c);
        if (b->base != NULL && (s->scalars[i] || is_contiguous(b, c))) {
            lay_in_block(s, i, b, c, martlet_element_size(p->inputElements[i]), rows_on);
        } else {
            lay(s, i, i);
            s->gathered[s->gathered_count++] = i;
        }
    }
    const int32_t first = p->inputCount + p->constantCount;
    for (int32_t i = 0, read = 0; i < p->instructionCount; i++) {
        const martlet_instruction *instruction = &p->instructions[i];
        uint8_t all = runs(instruction);
        for (int32_t k = 0; k < instruction->operandCount; k++, read++) {
            const int32_t operand = instruction->operands[k];
            s->reads[read] = s->places[operand];
            s->flags[read] = s->scalars[operand];
            all &= s->scalars[operand];
            move(s, &s->reads[read], s->steps[operand]);
        }
        s->scalars[first + i] = all;
        const martlet_block *b = instruction->directOutput < 0 ? NULL : &s->outputs[instruction->directOutput];
        if (b && !all && is_contiguous(b, c)) {
            lay_in_block(s, first + i, b, c, martlet_element_size(p->outputElements[instruction->directOutput]), rows_on);
            if (runs(instruction)) move(s, &s->places[first + i], s->steps[first + i]);
        } else {
            lay(s, first + i, instruction->slot);
        }
    }
    for (int32_t i = 0; i < p->outputCount; i++) {
        const martlet_block *b = &s->outputs[i];
        const int32_t size = martlet_element_size(p->outputElements[i]), source = p->outputs[i];
        const char *here = b->base + (c->row * b->rowStride + c->column * b->columnStride) * size;
        const int is_there = s->places[source] == here && is_contiguous(b, c) && !s->scalars[source];
        if (is_there) continue;
        s->scattered[s->scattered_count++] = i;
        // A place that an instruction writes moves already; operands move where they are read.
        int moves = source >= first && runs(&p->instructions[source - first]);
        for (int32_t k = 0; k < s->scattered_count - 1; k++) moves |= p->outputs[s->scattered[k]] == source;
        if (!moves) move(s, &s->places[source], s->steps[source]);
    }
}

static void run_chunk(strip *s, const chunk *c) {
    const martlet_program *p = s->p;
    for (int32_t k = 0; k < s->gathered_count; k++) {
        const int32_t i = s->gathered[k];
        const martlet_block *b = &s->inputs[i];
        char *place = s->work + (int64_t)i * p->slotBytes;
        if (b->base == NULL && s->scalars[i]) {
            *(int32_t *)(void *)place = (int32_t)(b->start + c->row * b->rowStride + c->column * b->columnStride);
        } else {
            gather(b, c, martlet_element_size(p->inputElements[i]), place);
        }
    }
    const int64_t count = c->rows * c->columns;
    const int32_t first = p->inputCount + p->constantCount;
    for (int32_t i = 0, read = 0; i < p->instructionCount; read += p->instructions[i++].operandCount) {
        const martlet_instruction *instruction = &p->instructions[i];
        void *const target = (void *)(uintptr_t)s->places[first + i];
        const int64_t n = s->scalars[first + i] ? 1 : count;
        if (instruction->kernel) {
            instruction->kernel(target, &s->reads[read], &s->flags[read], n);
        } else if (instruction->meaning) {
            instruction->meaning(instruction->context, target, &s->reads[read], &s->flags[read], n);
        }
    }
    for (int32_t k = 0; k < s->scattered_count; k++) {
        const int32_t i = s->scattered[k], source = p->outputs[i];
        scatter(&s->outputs[i], c, martlet_element_size(p->outputElements[i]), s->places[source], s->scalars[source]);
    }
    for (int32_t k = 0; k < s->moving_count; k++) {
        *s->moving[k].place = (const char *)*s->moving[k].place + s->moving[k].step;
    }
}

void martlet_program_run(
    const martlet_program *p, const martlet_block *inputs, const martlet_block *outputs, int64_t rows, int64_t columns,
    char *work) {
    strip s;
    s.p = p;
    s.inputs = inputs;
    s.outputs = outputs;
    s.work = work;
    for (int32_t i = 0; i < p->constantCount; i++) {
        s.places[p->inputCount + i] = &p->constants[i];
        s.steps[p->inputCount + i] = 0;
        s.scalars[p->inputCount + i] = 1;
    }
    if (all_lie_in_one_row(inputs, p->inputCount, columns) && all_lie_in_one_row(outputs, p->outputCount, columns)) {
        columns *= rows;
        rows = columns > 0 ? 1 : 0;
    }
    if (columns == 0) return;
    const int by_rows = rows == 1 || goes_by_rows(p, inputs, outputs, columns);
    const int64_t width = by_rows && columns > MARTLET_CHUNK ? MARTLET_CHUNK : columns;
    const int64_t height = by_rows ? 1 : MARTLET_CHUNK / columns;
    // Down the rows of a strip of columns, so that an operand that walks across memory stays in cache.
    for (int64_t column = 0; column < columns; column += width) {
        chunk c = {0, column, rows < height ? rows : height, columns - column < width ? columns - column : width};
        // Nothing has to move where one chunk is all.
        bind(&s, &c, rows > height ? height : 0);
        for (; c.row < rows; c.row += height) {
            if (rows - c.row < height) c.rows = rows - c.row;
            run_chunk(&s, &c);
        }
    }
}
