// Loop nests around programs: the last two axes are a block, the others loops; the whole is cut into pieces for the pool.
#include "kernels.h"

// Elements of a piece of work. Below a few of these a job is not worth handing over.
static const int64_t piece_elements = 8192;

typedef struct {
    const martlet_nest *nest;
    const martlet_context *context;
    int64_t rows, columns;
    int64_t row_step, column_step;
    int64_t row_pieces, column_pieces;
} job;

static void run_piece(void *argument, int64_t index, int32_t worker) {
    const job *j = argument;
    const martlet_nest *nest = j->nest;
    const int64_t row = index / j->column_pieces % j->row_pieces * j->row_step;
    const int64_t column = index % j->column_pieces * j->column_step;
    const int64_t rows = j->rows - row < j->row_step ? j->rows - row : j->row_step;
    const int64_t columns = j->columns - column < j->column_step ? j->columns - column : j->column_step;
    int64_t outer = index / (j->column_pieces * j->row_pieces);
    int64_t place[MARTLET_MAXIMUM_RANK] = {0};
    for (int32_t axis = nest->rank - 3; axis >= 0; axis--) {
        place[axis] = outer % nest->extents[axis];
        outer /= nest->extents[axis];
    }
    if (nest->rank > 1) place[nest->rank - 2] = row;
    if (nest->rank > 0) place[nest->rank - 1] = column;
    martlet_block inputs[MARTLET_MAXIMUM_PORTS], outputs[MARTLET_MAXIMUM_PORTS];
    for (int32_t side = 0; side < 2; side++) {
        const int32_t count = side ? nest->program->outputCount : nest->program->inputCount;
        const martlet_operand *operands = side ? nest->outputs : nest->inputs;
        for (int32_t i = 0; i < count; i++) {
            int64_t offset = operands[i].offset;
            for (int32_t axis = 0; axis < nest->rank; axis++) offset += place[axis] * operands[i].strides[axis];
            (side ? outputs : inputs)[i] = martlet_block_at(
                j->context, &operands[i], offset, nest->rank > 1 ? operands[i].strides[nest->rank - 2] : 0,
                nest->rank > 0 ? operands[i].strides[nest->rank - 1] : 0);
        }
    }
    martlet_program_run(
        nest->program, inputs, outputs, rows, columns, j->context->work + worker * j->context->workBytes);
}

void martlet_nest_run(const martlet_nest *nest, const martlet_context *context) {
    job j = {nest, context, 1, 1, 1, 1, 1, 1};
    int64_t outer = 1;
    for (int32_t axis = 0; axis < nest->rank; axis++) {
        if (nest->extents[axis] == 0) return;
        if (axis < nest->rank - 2) outer *= nest->extents[axis];
    }
    if (nest->rank > 0) j.columns = nest->extents[nest->rank - 1];
    if (nest->rank > 1) j.rows = nest->extents[nest->rank - 2];
    j.column_step = j.columns < piece_elements ? j.columns : piece_elements;
    j.row_step = piece_elements / j.column_step;
    if (j.row_step > j.rows) j.row_step = j.rows;
    j.column_pieces = (j.columns + j.column_step - 1) / j.column_step;
    j.row_pieces = (j.rows + j.row_step - 1) / j.row_step;
    const int64_t pieces = outer * j.row_pieces * j.column_pieces;
    if (outer * j.rows * j.columns < 2 * piece_elements) {
        for (int64_t i = 0; i < pieces; i++) run_piece(&j, i, 0);
    } else {
        martlet_pool_run(context->pool, pieces, run_piece, &j);
    }
}
