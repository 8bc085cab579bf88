// Sums, maxima and minima over some axes, with programs before and after.
#pragma once

#include "MartletElementwise.h"

typedef enum {
    MARTLET_SUM,
    MARTLET_MAXIMUM_OF,
    MARTLET_MINIMUM_OF,
} martlet_reduction_kind;

/// (x, stored) = prologue(inputs), r[kept] = reduce x over the reduced axes, then the epilogue, whose register 0 is r.
typedef struct {
    martlet_reduction_kind kind;
    /// The type of what is reduced.
    int32_t element;
    int32_t keptRank, reducedRank;
    /// Kept axes, then reduced axes.
    int64_t extents[MARTLET_MAXIMUM_RANK];
    const martlet_program *_Nonnull prologue;
    /// Over all axes.
    const martlet_operand *_Nonnull inputs;
    /// What the prologue writes beside what is reduced, over all axes.
    const martlet_operand *_Nonnull stored;
    /// Over the kept axes; its first input has the source `MARTLET_SOURCE_WORK` and is contiguous.
    martlet_nest epilogue;
    /// Whether the inner loop runs along the last kept axis instead of the last reduced one.
    int32_t byColumns;
    /// Chosen by `martlet_reduction_plan`; a piece takes `rowBlock` of the last kept axis.
    int64_t keptCount, outerReduced, segments, segmentLength, rowBlock;
    int64_t sharedBytes, workBytes;
} martlet_reduction;

/// Chooses the blocking from the extents alone; `sharedBytes` and `workBytes` (for each worker) say what memory a run needs.
void martlet_reduction_plan(martlet_reduction *_Nonnull reduction);

void martlet_reduction_run(const martlet_reduction *_Nonnull reduction, const martlet_context *_Nonnull context);
