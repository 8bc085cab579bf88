// Where the pixels of a slab are found: planes are copied with zeros around them, in the phases that a stride makes of them or in the
// forms that pairs of pixels read, unless they can be read where they lie.
#include "convolution.h"

static void clear(float *target, int64_t floats) { memset(target, 0, (size_t)floats * sizeof(float)); }

// One position of the first axis of a plane that has two or three.
static void copy_position(
    const convolution_job *j, float *target, const float *source, const martlet_convolution *c, const int64_t *present) {
    const int64_t *stride = &c->planesIn.strides[2], *step = c->sourceStep;
    if (c->rank == 2) {
        j->isa->copy_row(target, source, stride[1] * step[1], present[1], c->pitch[0]);
        return;
    }
    for (int64_t i = 0; i < present[1]; i++) {
        j->isa->copy_row(
            target + i * c->pitch[1], source + i * step[1] * stride[1], stride[2] * step[2], present[2], c->pitch[1]);
    }
    clear(target + present[1] * c->pitch[1], c->pitch[0] - present[1] * c->pitch[1]);
}

// One plane in one phase: positions [start, start + window) of the first axis, of which there are those from `low` to `high`.
static void copy_plane(
    const convolution_job *j, float *target, const float *source, const martlet_convolution *c, const int64_t *phase,
    int64_t start) {
    const int64_t *stride = &c->planesIn.strides[2], *step = c->sourceStep;
    int64_t present[3];
    for (int a = 0; a < 3; a++) present[a] = maximum(0, divide_up(c->source[a] - phase[a], step[a]));
    const int64_t low = minimum(c->window, maximum(0, -start));
    const int64_t high = maximum(low, minimum(c->window, present[0] - start));
    for (int a = 0; a < c->rank; a++) source += phase[a] * stride[a];
    source += (start + low) * step[0] * stride[0];
    clear(target, c->head + low * c->pitch[0]);
    target += c->head + low * c->pitch[0];
    if (c->rank == 1) {
        j->isa->copy_row(target, source, stride[0] * step[0], high - low, c->window - low);
        return;
    }
    if (c->rank == 2 && stride[1] * step[1] == 1) {
        if (high > low) {
            j->isa->copy_rows(target, c->pitch[0], source, step[0] * stride[0], high - low, present[1], 1);
        }
    } else {
        for (int64_t m = 0; m < high - low; m++) {
            copy_position(j, target + m * c->pitch[0], source + m * step[0] * stride[0], c, present);
        }
    }
    clear(target + (high - low) * c->pitch[0], (c->window - high) * c->pitch[0]);
}

static void see_nothing(float *target, const martlet_convolution *c, int64_t floats) {
    if (floats == 0) return;
    for (int64_t f = 0; f < c->formCount; f++) memset(target + f * c->phasePitch, 0, (size_t)floats * sizeof(float));
}

// The forms of a plane, whose lines are read where they lie.
static void see_pairs(
    const convolution_job *j, float *target, const float *source, const martlet_convolution *c, int64_t start) {
    const int inner = c->rank - 1;
    const int64_t least = c->leastShift[inner], count = c->pitch[inner - 1], *stride = &c->planesIn.strides[2];
    see_nothing(target, c, c->head);
    target += c->head;
    // Lines that there are: of the first axis, or of the second at each position of the first.
    const int64_t low = minimum(c->window, maximum(0, -start));
    const int64_t high = maximum(low, minimum(c->window, c->source[0] - start));
    see_nothing(target, c, low * c->pitch[0]);
    // Whole lines behind one another are one, of which masks take what each pair's own line has.
    const int64_t joined = c->lineMasks ? high - low : 1, pixels = c->source[inner];
    for (int64_t at = low; at < high; at += c->rank == 3 ? 1 : high - low) {
        const int64_t lines = c->rank == 3 ? c->source[1] : (high - low) / joined;
        const int64_t before = c->lineMasks ? (start + at) * pixels : 0;
        const int64_t behind = c->lineMasks ? (c->source[0] - start - at) * pixels : pixels;
        float *to = target + at * c->pitch[0];
        j->isa->pair_forms(
            pair_reach(c), to, c->phasePitch, source + (start + at) * stride[0] + least, stride[inner - 1], lines,
            -before - least, behind - least, joined * count, c->lineMasks, c->forms, c->formCount);
        if (c->rank == 3) see_nothing(to + lines * count, c, c->pitch[0] - lines * count);
    }
    // What lies behind the window, the last vectors of a tile may read but nobody uses.
    see_nothing(target + high * c->pitch[0], c, (c->window - high) * c->pitch[0]);
}

slab_ahead martlet_convolution_ahead(const convolution_job *j, int64_t image, int64_t slab, int64_t calls) {
    const martlet_convolution *c = j->c;
    int64_t first, last;
    slab_range(c, slab, &first, &last);
    const int64_t *stride = c->planesIn.strides, start = first + c->leastShift[0];
    const int64_t low = maximum(0, start * c->sourceStep[0]);
    const int64_t high = minimum(c->source[0], (start + c->window) * c->sourceStep[0]);
    const float *source = (const float *)(void *)j->context->values[c->planesIn.source] + c->planesIn.offset;
    slab_ahead a = {source + image * stride[0] + low * stride[2], stride[1], c->planes, (high - low) * stride[2], 0, 0};
    // Planes whose rows do not lie in order, or far from one another, are not asked for: most of what lies between would be in vain.
    const int64_t row = c->source[1] * c->source[2];
    if (image >= c->images || a.floats <= 0 || stride[2] < c->source[1] || stride[2] > 2 * row) a.planes = 0;
    a.lines = divide_up(a.planes * divide_up(a.floats, 16), maximum(1, calls));
    return a;
}

void martlet_convolution_fetch(slab_ahead *a) {
    for (int64_t i = 0; i < a->lines && a->planes > 0; i++, a->at += 16) {
        if (a->at >= a->floats) {
            a->at = 0;
            a->plane += a->stride;
            if (--a->planes == 0) return;
        }
        __builtin_prefetch(a->plane + a->at, 0, 2);
    }
}

slab_source martlet_convolution_source(
    const convolution_job *j, int64_t image, int64_t images, int64_t first, int64_t last, int64_t pixels, float *copy) {
    const martlet_convolution *c = j->c;
    const float *source = (const float *)(void *)j->context->values[c->planesIn.source] + c->planesIn.offset +
                          image * c->planesIn.strides[0];
    const int64_t start = first + c->leastShift[0];
    if (c->isDirect && start >= 0 && last - 1 + c->greatestShift[0] < c->source[0] && pixels >= j->isa->width) {
        return (slab_source){source + first * c->pitch[0], c->direct, 1};
    }
    // Zeros below an image are those above the next, which is copied after it.
    const int64_t lines = (images - 1) * c->tall + c->window, used = c->head + lines * c->pitch[0];
    for (int64_t plane = 0; plane < c->planes; plane++) {
        float *target = copy + plane * c->planePitch;
        const float *from = source + plane * c->planesIn.strides[1];
        for (int64_t i = 0; is_paired(c) && i < images; i++) {
            see_pairs(j, target + i * c->tall * c->pitch[0], from + i * c->planesIn.strides[0], c, start);
        }
        for (int64_t p = 0; !is_paired(c) && p < c->phases; p++, target += c->phasePitch) {
            const int64_t phase[3] = {
                p / (c->sourceStep[1] * c->sourceStep[2]), p / c->sourceStep[2] % c->sourceStep[1], p % c->sourceStep[2]};
            for (int64_t i = 0; i < images; i++) {
                copy_plane(j, target + i * c->tall * c->pitch[0], from + i * c->planesIn.strides[0], c, phase, start);
            }
            memset(target + used, 0, (size_t)(c->phasePitch - used) * sizeof(float));
        }
    }
    return (slab_source){copy, c->copied, 0};
}
