// Programs over blocks of elements, and loop nests around them.
#pragma once

#include "MartletFunctions.h"
#include "MartletPool.h"
#include "MartletTypes.h"

#define MARTLET_ENUMERATOR(NAME, ...) MARTLET_##NAME,

/// The scalar functions, in the order of the kernel tables.
typedef enum {
    MARTLET_FUNCTIONS(MARTLET_ENUMERATOR)
    MARTLET_VECTOR_FUNCTIONS(MARTLET_ENUMERATOR)
    /// Several functions in one pass, of float32 only: (a + b) + c, (a b) c, a b + c, a s + b t, relu(a + b) and p - a b / (sqrt(v) r + e).
    MARTLET_ADD_ADD,
    MARTLET_MULTIPLY_MULTIPLY,
    MARTLET_MULTIPLY_ADD,
    MARTLET_BLEND,
    MARTLET_RECTIFIED_SUM,
    MARTLET_DAMPED_STEP,
    /// An update of Adam: m = a s + b t, v = c u + w (g g), p - m l / (sqrt(v) r + e). The last two operands are the registers of
    /// m and v, which it writes.
    MARTLET_MOMENTS_STEP,
    /// Whether 0 < y for y = relu(a + b). The last operand is the register of y, which it writes.
    MARTLET_RECTIFIED_CONDITION,
    MARTLET_FUNCTION_COUNT,
} martlet_function;

enum { MARTLET_MAXIMUM_OPERANDS = 14 };

/// `target[i] = f(source[0][i], ..)` for i below count; a source whose flag in `scalar` is set holds one element. The target may
/// be one of the sources.
typedef void (*martlet_kernel)(
    void *_Nonnull target, const void *_Nonnull const *_Nonnull source, const uint8_t *_Nonnull scalar, int64_t count);

/// The function of a name; MARTLET_FUNCTION_COUNT where there is none.
martlet_function martlet_function_named(const char *_Nonnull name);

/// The kernel of a function whose operands (the values, for a select) are of type `from` and whose result is of type `to`;
/// NULL where there is none.
martlet_kernel _Nullable martlet_find_kernel(
    martlet_isa isa, martlet_function function, martlet_element from, martlet_element to);

/// A kernel that is given something of its own.
typedef void (*martlet_meaning)(
    void *_Nonnull context, void *_Nonnull target, const void *_Nonnull const *_Nonnull source,
    const uint8_t *_Nonnull scalar, int64_t count);

typedef struct {
    /// NULL where `meaning` takes its place, and for a register that a later instruction writes beside its own.
    martlet_kernel _Nullable kernel;
    int32_t operandCount;
    int32_t operands[MARTLET_MAXIMUM_OPERANDS];
    /// Where the result lies among the chunks of work space.
    int32_t slot;
    /// The output that the result may be written to directly, or -1.
    int32_t directOutput;
    /// Of a function that has no kernel: runs it, given `context`.
    martlet_meaning _Nullable meaning;
    void *_Nullable context;
} martlet_instruction;

/// A straight-line program. Registers: inputs, constants, results of the instructions.
typedef struct {
    int32_t inputCount;
    int32_t constantCount;
    int32_t instructionCount;
    int32_t outputCount;
    /// Chunks of work space, of `martlet_chunk` elements of at most 8 bytes; the first `inputCount` belong to the inputs.
    int32_t slotCount;
    int32_t slotBytes;
    const int32_t *_Nonnull inputElements;
    /// 8 bytes each, in the machine's representation.
    const uint64_t *_Nonnull constants;
    const martlet_instruction *_Nonnull instructions;
    /// For each output: its register and its element type.
    const int32_t *_Nonnull outputs;
    const int32_t *_Nonnull outputElements;
} martlet_program;

enum {
    /// Elements that a program handles at a time: registers stay in the first-level cache.
    MARTLET_CHUNK = 512,
    MARTLET_MAXIMUM_REGISTERS = 512,
    /// Operands of all instructions of a program together.
    MARTLET_MAXIMUM_READS = 2048,
    /// Inputs or outputs of a program.
    MARTLET_MAXIMUM_PORTS = 64,
};

/// One operand of a block: `base` points at element (0, 0), or is NULL where the element is `start` + its position.
typedef struct {
    char *_Nullable base;
    int64_t start;
    int64_t rowStride;
    int64_t columnStride;
} martlet_block;

/// Runs a program over a block of rows x columns elements. `work` holds slotCount * slotBytes bytes, 64-byte aligned.
void martlet_program_run(
    const martlet_program *_Nonnull program, const martlet_block *_Nonnull inputs,
    const martlet_block *_Nonnull outputs, int64_t rows, int64_t columns, char *_Nonnull work);

/// A program over an iteration space of any rank, the last axis fastest.
typedef struct {
    const martlet_program *_Nonnull program;
    int32_t rank;
    int64_t extents[MARTLET_MAXIMUM_RANK];
    const martlet_operand *_Nonnull inputs;
    const martlet_operand *_Nonnull outputs;
} martlet_nest;

/// Everything that a running group needs beside its plan.
typedef struct {
    martlet_pool *_Nonnull pool;
    /// The memory of every value.
    char *_Nullable const *_Nonnull values;
    /// Memory of the group's own (`MARTLET_SOURCE_WORK`).
    char *_Nullable shared;
    /// `workBytes` of scratch memory for each worker.
    char *_Nonnull work;
    int64_t workBytes;
    martlet_isa isa;
} martlet_context;

void martlet_nest_run(const martlet_nest *_Nonnull nest, const martlet_context *_Nonnull context);
