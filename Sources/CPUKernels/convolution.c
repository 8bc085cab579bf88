// Convolutions and their input gradients. The planes that a slab reads are copied once with zeros around them, so that each
// (plane, tap) is a shifted row of one long row of pixels; a register tile holds a few channels times a few vectors of
// pixels and walks the live (plane, tap) pairs of its block. Nothing like a matrix of patches is ever made.
//
// An element's sum runs over its steps in order, whatever the slabs are; so results do not depend on threads.
//
// Where it pays, neighbouring pixels share products (Winograd's F(2, 3) along the last axis; Lavin and Gray 2016, section 4.1, and
// F(2, 2) for two taps): a plane is seen in several forms, each half as long, and four sums of products make a pair of results,
// with four products for six of three taps and three for four of two. The arithmetic of either result of a pair touches no pixel
// that its own taps do not reach, so what may not depend on a pixel does not, to the bit.
#include "convolution.h"

// One plane in one phase: positions [start, start + window) of the first axis.
static void copy_plane(
    const convolution_job *j, float *target, const float *source, const martlet_convolution *c, const int64_t *phase,
    int64_t start) {
    const int64_t *stride = &c->planesIn.strides[2], *step = c->sourceStep;
    memset(target, 0, (size_t)c->head * sizeof(float));
    target += c->head;
    int64_t present[3];
    for (int a = 0; a < 3; a++) present[a] = maximum(0, divide_up(c->source[a] - phase[a], step[a]));
    if (c->rank == 1) {
        const int64_t low = minimum(c->window, maximum(0, -start));
        const int64_t high = maximum(low, minimum(c->window, present[0] - start));
        memset(target, 0, (size_t)low * sizeof(float));
        j->isa->copy_row(
            target + low, source + ((start + low) * step[0] + phase[0]) * stride[0], stride[0] * step[0], high - low,
            c->window - low);
        return;
    }
    if (c->rank == 2 && stride[1] * step[1] == 1) {
        const int64_t low = minimum(c->window, maximum(0, -start));
        const int64_t high = maximum(low, minimum(c->window, present[0] - start));
        memset(target, 0, (size_t)(low * c->pitch[0]) * sizeof(float));
        if (high > low) {
            j->isa->copy_rows(
                target + low * c->pitch[0], c->pitch[0],
                source + ((start + low) * step[0] + phase[0]) * stride[0] + phase[1] * stride[1], step[0] * stride[0],
                high - low, present[1], 1);
        }
        memset(target + high * c->pitch[0], 0, (size_t)((c->window - high) * c->pitch[0]) * sizeof(float));
        return;
    }
    for (int64_t m = 0; m < c->window; m++, target += c->pitch[0]) {
        const int64_t at = start + m;
        if (at < 0 || at >= present[0]) {
            memset(target, 0, (size_t)c->pitch[0] * sizeof(float));
            continue;
        }
        const float *from = source + (at * step[0] + phase[0]) * stride[0] + phase[1] * stride[1] + phase[2] * stride[2];
        if (c->rank == 2) {
            j->isa->copy_row(target, from, stride[1] * step[1], present[1], c->pitch[0]);
            continue;
        }
        for (int64_t i = 0; i < present[1]; i++) {
            j->isa->copy_row(
                target + i * c->pitch[1], from + i * step[1] * stride[1], stride[2] * step[2], present[2], c->pitch[1]);
        }
        memset(target + present[1] * c->pitch[1], 0, (size_t)(c->pitch[0] - present[1] * c->pitch[1]) * sizeof(float));
    }
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
    // Planes whose rows do not lie in order are not asked for.
    if (image >= c->images || a.floats <= 0 || stride[2] < c->source[1]) a.planes = 0;
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

void martlet_convolution_epilogue(
    const convolution_job *j, int64_t image, int64_t row, int64_t rows, int64_t low, int64_t high, const char *block,
    int64_t stride, char *work) {
    const martlet_convolution *c = j->c;
    const int32_t size = c->isDouble ? 8 : 4, lead = c->isWeightGradient ? 0 : 1;
    const int64_t last = c->innerExtents[c->innerRank - 1];
    for (int64_t at = low; at < high;) {
        const int64_t column = at % last, columns = minimum(last - column, high - at);
        martlet_block blocks[2][MARTLET_MAXIMUM_PORTS];
        for (int32_t side = 0; side < 2; side++) {
            const int32_t count = side ? c->epilogue->outputCount : c->epilogue->inputCount;
            for (int32_t i = 0; i < count; i++) {
                if (side == 0 && i < c->sections) {
                    const char *from = block + (i * rows * stride + at - low) * size;
                    blocks[0][i] = (martlet_block){(char *)(uintptr_t)from, 0, stride, 1};
                    continue;
                }
                const martlet_operand *operand = side ? &c->outputs[i] : &c->inputs[i];
                int64_t offset = operand->offset + row * operand->strides[lead], rest = at / last;
                if (lead) offset += image * operand->strides[0];
                for (int32_t axis = c->innerRank - 2; axis >= 0; axis--) {
                    offset += rest % c->innerExtents[axis] * operand->strides[lead + 1 + axis];
                    rest /= c->innerExtents[axis];
                }
                martlet_block *b = &blocks[side][i];
                b->rowStride = operand->strides[lead];
                b->columnStride = operand->strides[lead + c->innerRank];
                offset += column * b->columnStride;
                b->start = offset;
                b->base = operand->source == MARTLET_SOURCE_POSITION
                              ? NULL
                              : j->context->values[operand->source] + offset * martlet_element_size(operand->element);
            }
        }
        martlet_program_run(c->epilogue, blocks[0], blocks[1], rows, columns, work);
        at += columns;
    }
}

static void pack_block(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const convolution_job *j = argument;
    const martlet_convolution *c = j->c;
    const martlet_convolution_block *b = &c->blocks[index];
    const float *weight =
        (const float *)(void *)j->context->values[c->weight.source] + c->weight.offset + b->weight;
    float *target = (float *)(void *)j->context->shared + b->packed;
    const int64_t row = c->weightRow;
    for (int64_t k = 0; k < b->stepCount; k++, target += b->rows) {
        const martlet_convolution_step *s = &c->steps[b->firstStep + k];
        const float *from = weight + s->plane % c->planeModulus * c->weightPlane;
        if (is_paired(c)) {
            const martlet_pair_step *pair = &c->pairSteps[b->firstStep + k];
            const float *x = from + c->taps[pair->taps[0]].weight, *y = from + c->taps[pair->taps[1]].weight;
            const float *z = from + c->taps[pair->taps[2]].weight;
            const float f = pair->factors[0], g = pair->factors[1], h = pair->factors[2];
            if (g == 0) {
                for (int32_t r = 0; r < b->rows; r++) target[r] = f * x[r * row];
            } else if (h == 0) {
                for (int32_t r = 0; r < b->rows; r++) target[r] = f * x[r * row] + g * y[r * row];
            } else {
                for (int32_t r = 0; r < b->rows; r++) target[r] = f * x[r * row] + g * y[r * row] + h * z[r * row];
            }
        } else {
            const float *x = from + c->taps[s->tap].weight;
            for (int32_t r = 0; r < b->rows; r++) target[r] = x[r * row];
        }
        for (int32_t r = 0; ~s->live != 0 && r < b->rows; r++) target[r] = s->live >> r & 1 ? target[r] : 0;
    }
}

enum { chunk_steps = 144 };

// Asks for what the epilogue will read and write of some rows' pixels, which the sums leave it the time to arrive for.
static void fetch(
    const convolution_job *j, int64_t image, int64_t first_row, int64_t rows, int64_t first, int64_t count) {
    const martlet_convolution *c = j->c;
    for (int32_t side = 0; side < 2; side++) {
        const int32_t operands = side ? c->epilogue->outputCount : c->epilogue->inputCount;
        for (int32_t i = side ? 0 : c->sections; i < operands; i++) {
            const martlet_operand *o = side ? &c->outputs[i] : &c->inputs[i];
            if (o->source == MARTLET_SOURCE_POSITION || o->strides[2] != 1) continue;
            const int64_t size = martlet_element_size(o->element);
            const char *line = j->context->values[o->source] +
                               (o->offset + image * o->strides[0] + first_row * o->strides[1] + first) * size;
            for (int64_t r = 0; r < rows; r++, line += o->strides[1] * size) {
                for (int64_t at = 0; at < count * size; at += 64) {
                    if (side) __builtin_prefetch(line + at, 1, 2);
                    else __builtin_prefetch(line + at, 0, 2);
                }
            }
        }
    }
}

// All blocks of a pass over one tile's pixels. Sums of a row lie `stride` behind those of the row before. With `image` at least 0,
// the epilogue will ask for `count` pixels of that image's result from number `first` on.
static void run_tile(
    const convolution_job *j, const martlet_convolution_pass *pass, const float *pixels, const int32_t *offsets,
    int32_t vectors, float *sums, int64_t stride, slab_ahead *ahead, int64_t image, int64_t first, int64_t count) {
    const martlet_convolution *c = j->c;
    // The planes of a chunk of steps and its weights stay in the first-level cache for all blocks; the sums go on where they
    // were.
    int goes_on = 1;
    for (int64_t start = 0; goes_on; start += chunk_steps) {
        goes_on = 0;
        for (int64_t b = pass->firstBlock; b < pass->firstBlock + pass->blockCount; b++) {
            const martlet_convolution_block *block = &c->blocks[b];
            const int64_t steps = minimum(chunk_steps, block->stepCount - start);
            if (start > 0 && steps <= 0) continue;
            if (block->stepCount > start + chunk_steps) goes_on = 1;
            // What a row of another section asks for, its like of the first has asked for.
            if (start == 0 && image >= 0 && block->first < c->rows / c->sections) {
                fetch(j, image, block->first, block->rows, first, count);
            }
            martlet_convolution_fetch(ahead);
            j->isa->convolution_sums(
                block->rows, vectors, steps,
                (const float *)(void *)j->context->shared + block->packed + start * block->rows, pixels,
                offsets + block->firstStep + start, sums + block->first * stride, stride, start > 0, b == pass->firstBlock);
        }
    }
}

// A pass over the pixels of a slab. With `image` at least 0, the sums' first pixel is number `low` of a row of the result.
static void run_pass(
    const convolution_job *j, const martlet_convolution_pass *pass, const slab_source *source, int64_t pixels,
    float *sums, int64_t stride, slab_ahead *ahead, int64_t image, int64_t low) {
    const martlet_convolution *c = j->c;
    const int64_t width = j->isa->width, line = c->result[1] * c->result[2];
    int32_t vectors;
    for (int64_t at = 0; at < pixels; at += vectors * width) {
        vectors = (int32_t)minimum(j->isa->conv_vectors, divide_up(pixels - at, width));
        int64_t from = at;
        if (source->is_direct) {
            // What lies behind a plane that is read in place may be no memory: the last vectors then repeat some pixels.
            vectors = (int32_t)minimum(vectors, pixels / width);
            from = minimum(at, pixels - vectors * width);
        }
        const int64_t first = low + from / c->pitch[0] * line + minimum(from % c->pitch[0], line);
        run_tile(
            j, pass, source->base + from, source->offsets, vectors, sums + from, stride, ahead, image, first, vectors * width);
    }
}

// The pixels of one row of sums to their places in the result.
static void compact_row(
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

// The same where several images lie below one another, and their results `image_pitch` apart.
static void place_pairs(
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

// The pairs of a slab of some images: a tile's pixels go through all four sums while these are in the nearest caches. Returns the
// multiply-adds.
static int64_t run_pairs(
    const convolution_job *j, const float *base, const int32_t *offsets, int64_t images, int64_t rows, float *sums,
    float *target, int64_t pitch, int64_t image_pitch, slab_ahead *ahead, int64_t image, int64_t low) {
    const martlet_convolution *c = j->c;
    const int64_t width = j->isa->width, between = c->rows * c->sumPitch;
    const int64_t pixels = pass_span(c, &c->passes[0], (images - 1) * c->tall + rows);
    int32_t vectors;
    for (int64_t at = 0; at < pixels; at += vectors * width) {
        vectors = (int32_t)minimum(j->isa->conv_vectors, divide_up(pixels - at, width));
        const int64_t pairs = minimum(vectors * width, pixels - at);
        for (int64_t p = 0; p < MARTLET_PAIR_SUMS; p++) {
            run_tile(
                j, &c->passes[p], base + at, offsets, vectors, sums + p * between, c->sumPitch, ahead,
                p == MARTLET_PAIR_SUMS - 1 ? image : -1, low + 2 * at, 2 * pairs);
        }
        for (int64_t r = 0; r < c->rows; r++) {
            place_pairs(c, j->isa, sums + r * c->sumPitch, between, at, pairs, target + r * pitch, image_pitch);
        }
    }
    int64_t products = 0;
    for (int64_t b = 0; b < c->blockCount; b++) products += c->blocks[b].rows * c->blocks[b].stepCount;
    return products * images * rows * c->passes[0].counts[1] * c->passes[0].counts[2];
}

static void run_slab(void *argument, int64_t index, int32_t worker) {
    const convolution_job *j = argument;
    const martlet_convolution *c = j->c;
    int64_t image, end, first, last;
    group_range(c, index / c->slabCount, &image, &end);
    slab_range(c, index % c->slabCount, &first, &last);
    const int64_t images = end - image;
    char *work = j->context->work + worker * j->context->workBytes;
    float *copy = (float *)(void *)work, *sums = copy + source_floats(c);
    float *compact = sums + sum_floats(c);
    char *rest = (char *)(compact + compact_floats(c));
    // The shortest pass decides whether planes can be read in place.
    int64_t least = INT64_MAX, executed = 0;
    for (int64_t p = 0; p < c->passCount; p++) {
        least = minimum(least, pass_span(c, &c->passes[p], pass_rows(&c->passes[p], first, last)));
    }
    const slab_source source = martlet_convolution_source(j, image, images, first, last, least, copy);
    const int64_t line = c->result[1] * c->result[2];
    const int64_t low = first * c->resultStep[0] * line;
    const int64_t high = minimum(last * c->resultStep[0], c->result[0]) * line;
    // Where rows of the result are put together: in work space for the epilogue, or where they belong.
    float *target = compact;
    int64_t pitch = c->compactPitch, image_pitch = c->rows * c->compactPitch, sum_pitch = c->sumPitch;
    if (c->storesResult) {
        const martlet_operand *output = &c->outputs[0];
        pitch = output->strides[1];
        image_pitch = output->strides[0];
        target = (float *)(void *)j->context->values[output->source] + output->offset + image * output->strides[0] + low;
    }
    // Tiles that touch no pixel but their own write there at once.
    if (c->storesResult && c->isCompact && source.is_direct) {
        sums = target;
        sum_pitch = pitch;
    }
    const int64_t fetched = c->innerRank == 1 && c->together == 1 ? image : -1;
    // Small images, several together, are near enough.
    const int64_t next = source.is_direct || c->together > 1 ? c->images * c->slabCount : index + 1;
    slab_ahead ahead = martlet_convolution_ahead(
        j, next / c->slabCount, next % c->slabCount, divide_up(least, j->isa->conv_vectors * j->isa->width) * c->blockCount);
    // The sums of pairs are run together.
    const int64_t passes = is_paired(c) ? 0 : c->passCount;
    if (is_paired(c)) {
        executed = run_pairs(
            j, source.base, source.offsets, images, last - first, sums, target, pitch, image_pitch, &ahead, fetched, low);
    }
    for (int64_t p = 0; p < passes; p++) {
        const martlet_convolution_pass *pass = &c->passes[p];
        const int64_t rows = pass_rows(pass, first, last);
        if (pass_span(c, pass, rows) == 0) continue;
        const int64_t pixels = pass_span(c, pass, (images - 1) * c->tall + rows);
        run_pass(j, pass, &source, pixels, sums, sum_pitch, &ahead, c->storesResult ? -1 : fetched, low);
        for (int64_t b = pass->firstBlock; b < pass->firstBlock + pass->blockCount; b++) {
            executed += c->blocks[b].rows * c->blocks[b].stepCount * images * rows * pass->counts[1] * pass->counts[2];
        }
        if (sums == target || (c->isCompact && !c->storesResult)) continue;
        for (int64_t i = 0; i < images; i++) {
            for (int64_t r = 0; r < c->rows; r++) {
                compact_row(
                    j, pass, sums + r * sum_pitch + i * c->tall * c->pitch[0], rows, target + i * image_pitch + r * pitch);
            }
        }
    }
    j->counts[8 * worker] += executed;
    for (int64_t i = 0; !c->storesResult && i < images; i++) {
        martlet_convolution_epilogue(
            j, image + i, 0, c->rows / c->sections, low, high, (const char *)(c->isCompact ? sums : compact + i * image_pitch),
            c->isCompact ? c->sumPitch : c->compactPitch, rest);
    }
}

void martlet_convolution_pieces(const convolution_job *j, int64_t count, martlet_task task) {
    const martlet_convolution *c = j->c;
    // Below this many multiply-adds a job is not worth handing over.
    const int64_t pixels = c->extent[0] * c->extent[1] * c->extent[2];
    if (c->images * pixels * c->rows * c->rowLength < 200000) {
        for (int64_t i = 0; i < count; i++) task((void *)(uintptr_t)j, i, 0);
    } else {
        martlet_pool_run(j->context->pool, count, task, (void *)(uintptr_t)j);
    }
}

void martlet_convolution_run(const martlet_convolution *c, const martlet_context *context, int64_t *counts) {
    if (c->rows == 0 || (c->images == 0 && !c->isWeightGradient)) return;
    const convolution_job j = {c, context, martlet_isa_table(c->isa), counts};
    if (c->isDouble) {
        martlet_convolution_double_run(&j);
    } else if (c->isWeightGradient) {
        martlet_convolution_gradient_run(&j);
    } else {
        martlet_convolution_pieces(&j, c->blockCount, pack_block);
        martlet_convolution_pieces(&j, group_count(c) * c->slabCount, run_slab);
    }
}
