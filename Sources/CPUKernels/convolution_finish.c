// What is done with a convolution's sums: they go to their places in the result, and through the epilogue.
#include "convolution.h"

void martlet_convolution_compact_row(
    const convolution_job *j, const martlet_convolution_pass *pass, const float *sums, int64_t rows, float *target) {
    const martlet_convolution *c = j->c;
    const int inner = c->rank - 1;
    const int64_t stride[3] = {c->result[1] * c->result[2], c->result[2], 1};
    const int64_t counts[3] = {rows, pass->counts[1], pass->counts[2]};
    for (int a = 0; a < 3; a++) target += pass->phase[a] * stride[a];
    if (c->rank == 2 && c->resultStep[0] == 1 && c->resultStep[1] == 1) {
        j->isa->copy_rows(target, stride[0], sums, c->pitch[0], rows, counts[1], 0);
        return;
    }
    for (int64_t m = 0; m < (inner == 0 ? 1 : counts[0]); m++) {
        for (int64_t i = 0; i < (inner == 2 ? counts[1] : 1); i++) {
            const float *from = sums + m * c->pitch[0] + i * c->pitch[1];
            float *to = target + m * c->resultStep[0] * stride[0] + i * c->resultStep[1] * stride[1];
            const int64_t step = c->resultStep[inner] * stride[inner];
            if (step == 1) {
                j->isa->copy_row(to, from, 1, counts[inner], counts[inner]);
            } else {
                for (int64_t p = 0; p < counts[inner]; p++) to[p * step] = from[p];
            }
        }
    }
}

// A tile's pairs of results, from pair `at` of an image's slab on, from their four sums, which lie `between` apart, to their places
// in a row of the result.
static void place_pairs_of_image(
    const martlet_convolution *c, const martlet_isa_functions *isa, const float *sums, int64_t between, int64_t at,
    int64_t pairs, float *target) {
    const int64_t present = c->result[c->rank - 1], lines = c->rank == 3 ? c->result[1] : 1;
    const int64_t pitch = c->pitch[c->rank - 2], all = c->pitch[0] / pitch;
    // Whole lines that lie behind one another are one.
    if (present == 2 * pitch && lines == all) {
        isa->pair_results(target + 2 * at, sums, between, 2 * pairs);
        return;
    }
    for (int64_t end = at + pairs, count; at < end; at += count, sums += count) {
        const int64_t number = at / pitch, first = at % pitch, line = number % all;
        count = minimum(pitch - first, end - at);
        if (line >= lines) continue;
        isa->pair_results(
            target + (number / all * lines + line) * present + 2 * first, sums, between,
            minimum(2 * count, present - 2 * first));
    }
}

void martlet_convolution_place_pairs(
    const martlet_convolution *c, const martlet_isa_functions *isa, const float *sums, int64_t between, int64_t at,
    int64_t pairs, float *target, int64_t image_pitch) {
    const int64_t whole = c->tall * c->pitch[0], live = c->slab * c->pitch[0];
    for (int64_t end = at + pairs, count; at < end; at += count, sums += count) {
        const int64_t first = at % whole;
        count = minimum(whole - first, end - at);
        const int64_t present = minimum(count, live - first);
        if (present > 0) {
            place_pairs_of_image(c, isa, sums, between, first, present, target + at / whole * image_pitch);
        }
    }
}

// Where the epilogue's operands have position `at` behind the rows, from row `row` of an image on; the first inputs, one for each
// section, are the result.
static void locate_epilogue(
    const convolution_job *j, int64_t image, int64_t row, int64_t at, martlet_block blocks[2][MARTLET_MAXIMUM_PORTS]) {
    const martlet_convolution *c = j->c;
    const int32_t lead = c->isWeightGradient ? 0 : 1, last = c->innerRank - 1;
    for (int32_t side = 0; side < 2; side++) {
        const int32_t count = side ? c->epilogue->outputCount : c->epilogue->inputCount;
        for (int32_t i = side ? 0 : c->sections; i < count; i++) {
            const martlet_operand *operand = side ? &c->outputs[i] : &c->inputs[i];
            int64_t offset = operand->offset + row * operand->strides[lead], rest = at;
            if (lead) offset += image * operand->strides[0];
            for (int32_t axis = last; axis >= 0; axis--) {
                offset += rest % c->innerExtents[axis] * operand->strides[lead + 1 + axis];
                rest /= c->innerExtents[axis];
            }
            blocks[side][i] = martlet_block_at(
                j->context, operand, offset, operand->strides[lead], operand->strides[lead + 1 + last]);
        }
    }
}

void martlet_convolution_epilogue(
    const convolution_job *j, int64_t image, int64_t row, int64_t rows, int64_t low, int64_t high, const char *block,
    int64_t stride, char *work) {
    const martlet_convolution *c = j->c;
    const int32_t size = c->isDouble ? 8 : 4;
    const int64_t last = c->innerExtents[c->innerRank - 1];
    martlet_block blocks[2][MARTLET_MAXIMUM_PORTS];
    for (int64_t at = low, columns; at < high; at += columns) {
        columns = minimum(last - at % last, high - at);
        locate_epilogue(j, image, row, at, blocks);
        for (int32_t i = 0; i < c->sections; i++) {
            const char *from = block + (i * rows * stride + at - low) * size;
            blocks[0][i] = (martlet_block){(char *)(uintptr_t)from, 0, stride, 1};
        }
        martlet_program_run(c->epilogue, blocks[0], blocks[1], rows, columns, work);
    }
}
