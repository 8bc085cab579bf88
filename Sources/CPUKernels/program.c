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
static inline int64_t shortest_row(const martlet_program *p) { return p->instructionCount > 3 ? 160 : 48; }

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

static void run_chunk(
    const martlet_program *p, const martlet_block *inputs, const martlet_block *outputs, const chunk *c, char *work,
    const void **registers, uint8_t *scalars) {
    const int64_t count = c->rows * c->columns;
    for (int32_t i = 0; i < p->inputCount; i++) {
        const martlet_block *b = &inputs[i];
        const int32_t size = martlet_element_size(p->inputElements[i]);
        char *slot = work + (int64_t)i * p->slotBytes;
        const int scalar = is_scalar(b, c);
        scalars[i] = (uint8_t)scalar;
        if (b->base == NULL && scalar) {
            *(int32_t *)slot = (int32_t)(b->start + c->row * b->rowStride + c->column * b->columnStride);
            registers[i] = slot;
        } else if (scalar || is_contiguous(b, c)) {
            registers[i] = b->base + (c->row * b->rowStride + c->column * b->columnStride) * size;
        } else {
            gather(b, c, size, slot);
            registers[i] = slot;
        }
    }
    const int32_t first = p->inputCount + p->constantCount;
    for (int32_t i = 0; i < p->instructionCount; i++) {
        const martlet_instruction *instruction = &p->instructions[i];
        const void *sources[MARTLET_MAXIMUM_OPERANDS];
        uint8_t flags[MARTLET_MAXIMUM_OPERANDS];
        uint8_t all = instruction->kernel != NULL;
        for (int32_t k = 0; k < instruction->operandCount; k++) {
            const int32_t operand = instruction->operands[k];
            sources[k] = registers[operand];
            flags[k] = scalars[operand];
            all &= flags[k];
        }
        char *target = work + (int64_t)instruction->slot * p->slotBytes;
        if (instruction->directOutput >= 0 && !all) {
            const martlet_block *b = &outputs[instruction->directOutput];
            if (is_contiguous(b, c)) {
                const int32_t size = martlet_element_size(p->outputElements[instruction->directOutput]);
                target = b->base + (c->row * b->rowStride + c->column * b->columnStride) * size;
            }
        }
        if (instruction->kernel) instruction->kernel(target, sources, flags, all ? 1 : count);
        registers[first + i] = target;
        scalars[first + i] = all;
    }
    for (int32_t i = 0; i < p->outputCount; i++) {
        const martlet_block *b = &outputs[i];
        const int32_t size = martlet_element_size(p->outputElements[i]);
        const int32_t source = p->outputs[i];
        const char *here = b->base + (c->row * b->rowStride + c->column * b->columnStride) * size;
        if (registers[source] == here && is_contiguous(b, c) && !scalars[source]) continue;
        scatter(b, c, size, registers[source], scalars[source]);
    }
}

void martlet_program_run(
    const martlet_program *p, const martlet_block *inputs, const martlet_block *outputs, int64_t rows, int64_t columns,
    char *work) {
    const void *registers[MARTLET_MAXIMUM_REGISTERS];
    uint8_t scalars[MARTLET_MAXIMUM_REGISTERS];
    for (int32_t i = 0; i < p->constantCount; i++) {
        registers[p->inputCount + i] = &p->constants[i];
        scalars[p->inputCount + i] = 1;
    }
    if (is_one_row(inputs, p->inputCount, columns) && is_one_row(outputs, p->outputCount, columns)) {
        columns *= rows;
        rows = columns > 0 ? 1 : 0;
    }
    if (columns >= shortest_row(p) || rows == 1) {
        // Down the rows of a strip of columns, so that an operand that walks across memory stays in cache.
        for (int64_t column = 0; column < columns; column += MARTLET_CHUNK) {
            const int64_t width = columns - column < MARTLET_CHUNK ? columns - column : MARTLET_CHUNK;
            for (int64_t row = 0; row < rows; row++) {
                const chunk c = {row, column, 1, width};
                run_chunk(p, inputs, outputs, &c, work, registers, scalars);
            }
        }
    } else if (columns > 0) {
        const int64_t step = MARTLET_CHUNK / columns;
        for (int64_t row = 0; row < rows; row += step) {
            const chunk c = {row, 0, rows - row < step ? rows - row : step, columns};
            run_chunk(p, inputs, outputs, &c, work, registers, scalars);
        }
    }
}
