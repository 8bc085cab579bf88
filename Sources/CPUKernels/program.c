// Runs programs over blocks: a chunk of elements at a time goes through every instruction while it is in the first-level
// cache. Operands that lie contiguously are read and written in place; the others are gathered into a dense chunk first.
#include <string.h>

#include "kernels.h"

// A chunk of a block: one row's columns [column, column + count), or whole rows from `row` on.
typedef struct {
    int64_t row, column;
    int64_t rows, columns;
} chunk;

// Rows shorter than this are put together into chunks, at the price of copying operands that are not contiguous; which pays
// the sooner the more instructions there are to start.
static inline int64_t shortest_row(const martlet_program *p) { return p->instructionCount > 3 ? 160 : p->instructionCount > 1 ? 100 : 48; }

// Whether the rows of a block follow one another as the columns of one long row do.
static inline int is_one_row(const martlet_block *blocks, int32_t count, int64_t columns) {
    for (int32_t i = 0; i < count; i++) {
        if (blocks[i].rowStride != columns * blocks[i].columnStride) return 0;
    }
    return 1;
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

// A program bound to the chunks of one strip of columns: where each register lies in the chunk at hand and how far on in the
// next. Registers are inputs, constants, then results of instructions.
typedef struct {
    const martlet_program *p;
    const martlet_block *inputs, *outputs;
    char *work;
    char *place[MARTLET_MAXIMUM_REGISTERS];
    uint8_t scalars[MARTLET_MAXIMUM_REGISTERS];
    int32_t moving[2 * MARTLET_MAXIMUM_PORTS];
    int64_t steps[2 * MARTLET_MAXIMUM_PORTS];
    int32_t moving_count;
    // Inputs to be gathered and outputs to be scattered.
    int32_t gathered[MARTLET_MAXIMUM_PORTS], scattered[MARTLET_MAXIMUM_PORTS];
    int32_t gathered_count, scattered_count;
} strip;

static void move(strip *s, int32_t register_index, int64_t step) {
    if (step == 0) return;
    s->moving[s->moving_count] = register_index;
    s->steps[s->moving_count++] = step;
}

// Binds the program to chunks like c, each `rows_on` rows after the last.
static void bind(strip *s, const chunk *c, int64_t rows_on) {
    const martlet_program *p = s->p;
    s->moving_count = s->gathered_count = s->scattered_count = 0;
    for (int32_t i = 0; i < p->inputCount; i++) {
        const martlet_block *b = &s->inputs[i];
        const int32_t size = martlet_element_size(p->inputElements[i]);
        s->scalars[i] = (uint8_t)is_scalar(b, c);
        if (b->base != NULL && (s->scalars[i] || is_contiguous(b, c))) {
            s->place[i] = b->base + (c->row * b->rowStride + c->column * b->columnStride) * size;
            move(s, i, rows_on * b->rowStride * size);
        } else {
            s->place[i] = s->work + (int64_t)i * p->slotBytes;
            s->gathered[s->gathered_count++] = i;
        }
    }
    const int32_t first = p->inputCount + p->constantCount;
    for (int32_t i = 0; i < p->instructionCount; i++) {
        const martlet_instruction *instruction = &p->instructions[i];
        uint8_t all = instruction->kernel != NULL;
        for (int32_t k = 0; k < instruction->operandCount; k++) all &= s->scalars[instruction->operands[k]];
        s->scalars[first + i] = all;
        s->place[first + i] = s->work + (int64_t)instruction->slot * p->slotBytes;
        if (instruction->directOutput < 0 || all) continue;
        const martlet_block *b = &s->outputs[instruction->directOutput];
        if (!is_contiguous(b, c)) continue;
        const int32_t size = martlet_element_size(p->outputElements[instruction->directOutput]);
        s->place[first + i] = b->base + (c->row * b->rowStride + c->column * b->columnStride) * size;
        move(s, first + i, rows_on * b->rowStride * size);
    }
    for (int32_t i = 0; i < p->outputCount; i++) {
        const martlet_block *b = &s->outputs[i];
        const int32_t size = martlet_element_size(p->outputElements[i]), source = p->outputs[i];
        const char *here = b->base + (c->row * b->rowStride + c->column * b->columnStride) * size;
        const int is_there = s->place[source] == here && is_contiguous(b, c) && !s->scalars[source];
        if (!is_there) s->scattered[s->scattered_count++] = i;
    }
}

static void run_chunk(strip *s, const chunk *c) {
    const martlet_program *p = s->p;
    for (int32_t k = 0; k < s->gathered_count; k++) {
        const int32_t i = s->gathered[k];
        const martlet_block *b = &s->inputs[i];
        if (b->base == NULL && s->scalars[i]) {
            *(int32_t *)(void *)s->place[i] = (int32_t)(b->start + c->row * b->rowStride + c->column * b->columnStride);
        } else {
            gather(b, c, martlet_element_size(p->inputElements[i]), s->place[i]);
        }
    }
    const int64_t count = c->rows * c->columns;
    const int32_t first = p->inputCount + p->constantCount;
    for (int32_t i = 0; i < p->instructionCount; i++) {
        const martlet_instruction *instruction = &p->instructions[i];
        if (!instruction->kernel) continue;
        const void *sources[MARTLET_MAXIMUM_OPERANDS];
        uint8_t flags[MARTLET_MAXIMUM_OPERANDS];
        for (int32_t k = 0; k < instruction->operandCount; k++) {
            sources[k] = s->place[instruction->operands[k]];
            flags[k] = s->scalars[instruction->operands[k]];
        }
        instruction->kernel(s->place[first + i], sources, flags, s->scalars[first + i] ? 1 : count);
    }
    for (int32_t k = 0; k < s->scattered_count; k++) {
        const int32_t i = s->scattered[k], source = p->outputs[i];
        scatter(&s->outputs[i], c, martlet_element_size(p->outputElements[i]), s->place[source], s->scalars[source]);
    }
    for (int32_t k = 0; k < s->moving_count; k++) s->place[s->moving[k]] += s->steps[k];
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
        s.place[p->inputCount + i] = (char *)(uintptr_t)&p->constants[i];
        s.scalars[p->inputCount + i] = 1;
    }
    if (is_one_row(inputs, p->inputCount, columns) && is_one_row(outputs, p->outputCount, columns)) {
        columns *= rows;
        rows = columns > 0 ? 1 : 0;
    }
    if (columns == 0) return;
    const int by_rows = columns >= shortest_row(p) || rows == 1;
    const int64_t width = by_rows && columns > MARTLET_CHUNK ? MARTLET_CHUNK : columns;
    const int64_t height = by_rows ? 1 : MARTLET_CHUNK / columns;
    // Down the rows of a strip of columns, so that an operand that walks across memory stays in cache.
    for (int64_t column = 0; column < columns; column += width) {
        chunk c = {0, column, rows < height ? rows : height, columns - column < width ? columns - column : width};
        bind(&s, &c, height);
        for (; c.row < rows; c.row += height) {
            if (rows - c.row < height) c.rows = rows - c.row;
            run_chunk(&s, &c);
        }
    }
}
