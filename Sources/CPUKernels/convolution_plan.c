// How a convolution is cut into slabs, and how planes are copied. Nothing here changes a result of a convolution or its input
// gradient; a weight gradient's sum depends on its slabs and parts, and those on the shapes alone.
#include <math.h>

#include "convolution.h"

// Floats of a slab's planes and sums: they should stay in the second-level cache, beside what an epilogue reads and writes. Slabs of
// planes that are read in place cost nothing.
static int64_t slab_floats(const martlet_convolution *c) {
    if (is_paired(c)) return 5 << 15;
    return c->isDirect && !c->storesResult && !c->isWeightGradient ? 1 << 16 : 3 << 16;
}

int32_t martlet_convolution_block_rows(martlet_isa isa, int32_t is_weight_gradient) {
    const martlet_isa_functions *f = martlet_isa_table(isa);
    return is_weight_gradient ? f->gradient_vectors * f->width : f->conv_rows;
}

// Distances that are a multiple of a few hundred bytes put all planes into few sets of the first-level cache.
static int64_t spread(int64_t floats) { return (divide_up(floats, 16) | 1) * 16; }

static void lay_out_planes(martlet_convolution *c) {
    for (int a = 0; a < 3; a++) {
        c->extent[a] = 0;
        for (int64_t p = 0; p < c->passCount; p++) c->extent[a] = maximum(c->extent[a], c->passes[p].counts[a]);
    }
    // Zeros to the right of a row are those to the left of the next.
    int64_t width[3], before[3];
    for (int a = 0; a < 3; a++) {
        const int64_t present = divide_up(c->source[a], c->sourceStep[a]);
        before[a] = maximum(0, -c->leastShift[a]);
        const int64_t after = maximum(0, c->extent[a] + c->greatestShift[a] - present);
        width[a] = maximum(present + maximum(before[a], after), c->extent[a]);
    }
    c->phases = c->sourceStep[0] * c->sourceStep[1] * c->sourceStep[2];
    if (is_paired(c)) {
        // Forms need no zeros beside their lines.
        c->phases = c->formCount;
        before[c->rank - 1] = 0;
        width[c->rank - 1] = c->extent[c->rank - 1];
    }
    c->tall = width[0];
    c->pitch[2] = 1;
    c->pitch[1] = width[2];
    c->pitch[0] = width[1] * width[2];
    c->head = before[1] * c->pitch[1] + before[2];
    c->isDirect = c->phases == 1 && !is_paired(c) && !c->isDouble && (c->planesIn.strides[1] % 1024 != 0 || c->planes <= 8);
    for (int a = 0; a < 3; a++) {
        if (a > 0 && width[a] != c->source[a]) c->isDirect = 0;
        if (c->source[a] > 1 && c->planesIn.strides[2 + a] != c->pitch[a]) c->isDirect = 0;
    }
    // A result that is only stored needs no epilogue.
    const martlet_operand *target = &c->outputs[0];
    c->storesResult = c->sections == 1 && c->epilogue->instructionCount == 0 && c->epilogue->outputCount == 1 &&
                      c->epilogue->outputs[0] == 0 && c->innerRank == 1 && target->strides[2] == 1 &&
                      target->source != c->planesIn.source;
    // One pass whose rows lie in the planes as in the result.
    c->isCompact = c->passCount == 1 && width[1] == c->result[1] && width[2] == c->result[2];
    if (c->rank < 3) c->isCompact = c->passCount == 1 && (c->rank < 2 || width[1] == c->result[1]);
}

// What tiles take for a slab of so many positions, in vectors; what is left behind whole tiles takes longer than its share, and
// what neighbouring slabs both read is copied twice.
static double slab_cost(const martlet_convolution *c, const martlet_isa_functions *isa, int64_t slab) {
    if (slab == 0) return 0;
    const int64_t vectors = divide_up(slab * c->pitch[0], isa->width), rest = vectors % isa->conv_vectors;
    const double again = (double)((c->greatestShift[0] - c->leastShift[0]) * c->pitch[0]) / isa->width;
    return (double)vectors + (rest ? 0.3 : 0) + 0.1 * again;
}

static void choose_slabs(martlet_convolution *c, int32_t threads) {
    const martlet_isa_functions *isa = martlet_isa_table(c->isa);
    const int64_t copied = c->isDirect && !c->isWeightGradient ? 0 : c->planes * c->phases * c->pitch[0];
    const int64_t results = c->isWeightGradient || is_paired(c) ? 0 : c->rows * c->pitch[0];
    const int64_t floats = maximum(1, copied + results);
    int64_t count = divide_up(c->extent[0], maximum(1, slab_floats(c) / floats));
    if (c->isWeightGradient) {
        // Enough work for many threads where there are few images.
        const int64_t wanted = divide_up(16, maximum(1, c->images));
        count = maximum(count, minimum(wanted, c->extent[0] * c->pitch[0] / 160));
    } else {
        const int64_t wanted = divide_up(4 * (int64_t)threads, maximum(1, c->images));
        count = maximum(count, minimum(wanted, c->extent[0] * c->pitch[0] / 384));
    }
    count = maximum(1, minimum(count, c->extent[0]));
    c->slab = maximum(1, divide_up(c->extent[0], count));
    if (!c->isWeightGradient) {
        double least = INFINITY;
        const int64_t most = minimum(c->extent[0], c->slab + (is_paired(c) ? c->slab / 4 : 0));
        for (int64_t slab = most; slab > most / 2; slab--) {
            const int64_t whole = c->extent[0] / slab;
            const double cost = (double)whole * slab_cost(c, isa, slab) + slab_cost(c, isa, c->extent[0] - whole * slab);
            if (cost < least) {
                least = cost;
                c->slab = slab;
            }
        }
    }
    c->slabCount = divide_up(c->extent[0], c->slab);
    c->window = c->slab + c->greatestShift[0] - c->leastShift[0];
}

// How far rows and planes lie apart, for so many images together.
static void choose_pitches(martlet_convolution *c, int64_t together) {
    const martlet_isa_functions *isa = martlet_isa_table(c->isa);
    const int64_t slack = maximum(isa->conv_vectors, 1) * isa->width, above = (together - 1) * c->tall;
    c->together = together;
    // Vectors of forms are stored where lines of memory begin.
    c->phasePitch = round_up(c->head + (above + c->window) * c->pitch[0] + slack, is_paired(c) ? 16 : 1);
    c->planePitch = spread(c->phases * c->phasePitch);
    c->sumPitch = spread(is_paired(c) ? slack : (above + c->slab) * c->pitch[0] + slack);
    c->compactPitch = spread(c->slab * c->resultStep[0] * c->result[1] * c->result[2]);
}

// Images of few pixels fill vectors better if they lie below one another in one plane.
static void choose_together(martlet_convolution *c, int32_t threads) {
    const martlet_isa_functions *isa = martlet_isa_table(c->isa);
    choose_pitches(c, 1);
    const int is_plain = is_paired(c) || (c->phases == 1 && c->passCount == 1);
    if (c->isWeightGradient || c->isDirect || c->rank != 2 || c->slabCount > 1 || !is_plain) return;
    int64_t best = 1;
    double least = 0.9 * (double)divide_up(c->images, threads) * slab_cost(c, isa, c->slab);
    for (int64_t together = 2; together <= divide_up(c->images, threads); together++) {
        choose_pitches(c, together);
        if (source_floats(c) + sum_floats(c) + together * c->rows * c->compactPitch > slab_floats(c)) break;
        const double cost = (double)divide_up(divide_up(c->images, together), threads) *
                            slab_cost(c, isa, (together - 1) * c->tall + c->slab);
        if (cost >= least) continue;
        least = cost;
        best = together;
    }
    choose_pitches(c, best);
    if (best > 1) c->isCompact = 0;
}

static void find_line_masks(martlet_convolution *c) {
    const int64_t width = martlet_isa_table(c->isa)->width, count = c->pitch[0], pixels = c->source[1];
    const int64_t total = c->source[0] * count;
    if (!is_paired(c) || c->rank != 2 || pixels != 2 * count || c->planesIn.strides[2] != pixels) c->lineMasks = NULL;
    if (c->lineMasks == NULL) return;
    int32_t *mask = c->lineMasks;
    for (int64_t at = 0; at < total; at += width) {
        for (int32_t i = 0; i < pair_reach(c); i++) {
            for (int64_t lane = at; lane < at + width; lane++) {
                const int64_t pixel = 2 * (lane % count) + c->leastShift[1] + i;
                *mask++ = pixel >= 0 && pixel < pixels ? -1 : 0;
            }
        }
    }
}

static void find_offsets(martlet_convolution *c) {
    const int64_t plane = c->planesIn.strides[1];
    for (int64_t i = 0; i < c->stepCount; i++) {
        const martlet_tap *tap = &c->taps[c->steps[i].tap];
        int64_t phase = (tap->phase[0] * c->sourceStep[1] + tap->phase[1]) * c->sourceStep[2] + tap->phase[2];
        int64_t inner = tap->shift[1] * c->pitch[1] + tap->shift[2] * c->pitch[2];
        if (is_paired(c)) {
            phase = c->pairSteps[i].form;
            inner = c->rank == 3 ? tap->shift[1] * c->pitch[1] : 0;
        }
        c->copied[i] = (int32_t)(c->steps[i].plane * c->planePitch + phase * c->phasePitch + c->head +
                                 (tap->shift[0] - c->leastShift[0]) * c->pitch[0] + inner);
        const int64_t direct = c->steps[i].plane * plane + tap->shift[0] * c->pitch[0] + inner;
        if (direct != (int32_t)direct) c->isDirect = 0;
        c->direct[i] = (int32_t)direct;
    }
}

void martlet_convolution_plan(martlet_convolution *c, int32_t threads) {
    const int64_t slots = (int64_t)c->epilogue->slotCount * c->epilogue->slotBytes;
    if (c->isDouble) {
        c->sharedBytes = 0;
        const int64_t line =
            c->isWeightGradient ? c->rowLength : c->sections * c->result[0] * c->result[1] * c->result[2];
        c->workBytes = round_up(line * 8, 64) + slots;
        return;
    }
    lay_out_planes(c);
    choose_slabs(c, threads);
    choose_together(c, threads);
    find_offsets(c);
    find_line_masks(c);
    if (c->isWeightGradient) {
        martlet_convolution_gradient_plan(c);
        return;
    }
    int64_t packed = 0;
    for (int64_t b = 0; b < c->blockCount; b++) {
        c->blocks[b].packed = packed;
        packed += round_up(c->blocks[b].rows * c->blocks[b].stepCount, 16);
    }
    c->sharedBytes = packed * 4;
    // A slab at the edge, or of few pixels, is copied even where the others are not.
    const int64_t floats = source_floats(c) + sum_floats(c) + compact_floats(c);
    c->workBytes = floats * 4 + slots;
}
