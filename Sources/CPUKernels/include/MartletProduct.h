// Products whose masks are structure: what is dead is not multiplied.
#pragma once

#include "MartletElementwise.h"

/// How the mask [out, in] of a layer lies in a product.
typedef enum {
    /// m: rows, n: out, k: in.
    MARTLET_FORWARD,
    /// m: rows, n: in, k: out.
    MARTLET_INPUT_GRADIENT,
    /// m: out, n: in, k: rows.
    MARTLET_WEIGHT_GRADIENT,
} martlet_role;

/// A mask prepared for one role: orders, live ranges, live intervals of each panel of columns.
typedef struct martlet_mask martlet_mask;

/// A mask by degrees, to be set by `martlet_mask_set_degrees`. NULL when memory is short.
martlet_mask *_Nullable martlet_mask_create_degrees(
    martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs, int32_t strict);
/// Sorts both sides and derives what is live: input i of output o where input[i] <= output[o], or < if strict. Does nothing
/// when the degrees are those of the last call.
void martlet_mask_set_degrees(
    martlet_mask *_Nonnull mask, const int32_t *_Nonnull input, const int32_t *_Nonnull output);
/// Any 0/1 matrix, one bit an element, rows of 64-bit words.
martlet_mask *_Nullable martlet_mask_create_matrix(
    martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs, const uint64_t *_Nonnull bits,
    int64_t words_per_row);
/// A mask by constant degrees: sorted, or as it lies where tiles find hardly more to do than if it were sorted (runs of ascending
/// or descending degrees).
martlet_mask *_Nullable martlet_mask_create_constant(
    martlet_isa isa, martlet_role role, int64_t inputs, int64_t outputs, const int32_t *_Nonnull input,
    const int32_t *_Nonnull output, int32_t strict);
void martlet_mask_destroy(martlet_mask *_Nonnull mask);

/// p[.., m, n] = sum over k of a[.., m, k] b[.., k, n], then the epilogue.
typedef struct {
    int64_t m, n, k;
    /// Strides over the batch axes, then the two of the matrix: a [m, k], b [k, n], the others [m, n].
    martlet_operand a, b;
    int32_t batchRank;
    int64_t batchExtents[MARTLET_MAXIMUM_RANK];
    martlet_isa isa;
    martlet_mask *_Nullable mask;
    martlet_role role;
    /// Dead elements of the outputs need not be written.
    int32_t deadStayZero;
    /// The values that hold degrees, or -1.
    int32_t inputDegrees, outputDegrees;
    const martlet_program *_Nullable epilogue;
    /// For every input of the epilogue; the first stands for the product and is not used.
    const martlet_operand *_Nullable inputs;
    const martlet_operand *_Nullable outputs;
    /// Whether b changes from run to run only where the caller says so. The plan keeps it where b is packed for all workers: then the
    /// caller provides `packedB`, of `packedBBytes`, and says before each run whether b lies in it as it is now.
    int32_t keepsPackedB, packedBIsCurrent;
    float *_Nullable packedB;
    int64_t packedBBytes;
    /// Chosen by `martlet_product_plan`.
    int64_t rowBlock, columnBlock, depthBlock;
    /// Whether panels are packed once for all workers, and whether an operand is read, or the
    /// product written, where it lies.
    int32_t sharesA, sharesB, directA, directB, directC;
    /// Whether each worker packs all of a for itself.
    int32_t ownsA;
    /// Whether the mask has to be sorted: rows, columns and the inner axis are gathered into its order.
    int32_t permuted;
    /// Whether such a product is kept whole and goes through the epilogue in a second pass.
    int32_t inTwoPasses;
    /// Whether there are so few rows that all time goes into reading b.
    int32_t thin;
    int64_t sharedBytes, workBytes;
} martlet_product;

/// Chooses the blocking; `sharedBytes` and `workBytes` (for each worker) say what memory a run needs. With `permutes`, degrees
/// may arrive in any order at run time. Blocks depend on the number of threads; results do not.
void martlet_product_plan(martlet_product *_Nonnull product, int32_t threads, int32_t permutes);

/// Multiply-adds that were executed, padding not counted, are added to `counts[8 * worker]`.
void martlet_product_run(
    const martlet_product *_Nonnull product, const martlet_context *_Nonnull context, int64_t *_Nonnull counts);

/// The same product on float64 values, for checks: a plain loop. Masks are those of `input` and `output` degrees or `bits`.
typedef struct {
    /// NULL where the mask is a matrix or there is none.
    const int32_t *_Nullable inputDegrees, *_Nullable outputDegrees;
    int32_t strict;
    const uint64_t *_Nullable bits;
    int64_t wordsPerRow;
} martlet_plain_mask;

/// Work space that a double product needs for each worker.
int64_t martlet_double_product_work(const martlet_product *_Nonnull product);
void martlet_double_product_run(
    const martlet_product *_Nonnull product, const martlet_plain_mask *_Nullable mask,
    const martlet_context *_Nonnull context, int64_t *_Nonnull counts);
