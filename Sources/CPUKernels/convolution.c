// Convolutions and their input gradients, slab by slab: weights are packed in the order in which tiles walk them, planes copied
// (convolution_source.c), tiles summed, and the sums put in their places and through the epilogue (convolution_finish.c).
//
// The planes that a slab reads are copied once with zeros around them, so that each
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

// The weights of one of a block's steps where pairs of pixels share products: sums of up to three taps' weights.
static void pack_pair(
    const martlet_convolution *c, const martlet_pair_step *pair, const float *from, int32_t rows, float *target) {
    const int64_t row = c->weightRow;
    const float *x = from + c->taps[pair->taps[0]].weight, *y = from + c->taps[pair->taps[1]].weight;
    const float *z = from + c->taps[pair->taps[2]].weight;
    const float f = pair->factors[0], g = pair->factors[1], h = pair->factors[2];
    if (g == 0) {
        for (int32_t r = 0; r < rows; r++) target[r] = f * x[r * row];
    } else if (h == 0) {
        for (int32_t r = 0; r < rows; r++) target[r] = f * x[r * row] + g * y[r * row];
    } else {
        for (int32_t r = 0; r < rows; r++) target[r] = f * x[r * row] + g * y[r * row] + h * z[r * row];
    }
}

// The weights of a block, in the order in which tiles walk them.
static void pack_block(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const convolution_job *j = argument;
    const martlet_convolution *c = j->c;
    const martlet_convolution_block *b = &c->blocks[index];
    const float *weight =
        (const float *)(void *)j->context->values[c->weight.source] + c->weight.offset + b->weight;
    float *target = (float *)(void *)j->context->shared + b->packed;
    for (int64_t k = 0; k < b->stepCount; k++, target += b->rows) {
        const martlet_convolution_step *s = &c->steps[b->firstStep + k];
        const float *from = weight + s->plane % c->planeModulus * c->weightPlane;
        if (is_paired(c)) {
            pack_pair(c, &c->pairSteps[b->firstStep + k], from, b->rows, target);
        } else {
            const float *x = from + c->taps[s->tap].weight;
            for (int32_t r = 0; r < b->rows; r++) target[r] = x[r * c->weightRow];
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

// A slab of some images, while it is computed.
typedef struct {
    const convolution_job *j;
    // The images [image, image + images), positions [first, last) of the first axis, and pixels [low, high) of a row of the result.
    int64_t image, images, first, last, low, high;
    slab_source source;
    // The fewest pixels that a pass has.
    int64_t least;
    // Sums, and where rows of the result are put together: in work space for the epilogue, or where they belong. They are the same
    // memory where tiles touch no pixel but their own.
    float *sums, *target;
    int64_t sum_pitch, target_pitch, image_pitch;
    char *work;
    // The planes of this worker's next slab; and the image whose pixels the epilogue will want, or -1.
    slab_ahead ahead;
    int64_t wanted_image;
    int64_t executed;
} slab_job;

// All blocks of a pass over one tile's pixels. Sums of a row lie `stride` behind those of the row before. With `image` at least 0,
// the epilogue will ask for `count` pixels of that image's result from number `first` on.
static void run_tile(
    slab_job *x, const martlet_convolution_pass *pass, const float *pixels, int32_t vectors, float *sums, int64_t stride,
    int64_t image, int64_t first, int64_t count) {
    const convolution_job *j = x->j;
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
            martlet_convolution_fetch(&x->ahead);
            j->isa->convolution_sums(
                block->rows, vectors, steps,
                (const float *)(void *)j->context->shared + block->packed + start * block->rows, pixels,
                x->source.offsets + block->firstStep + start, sums + block->first * stride, stride, start > 0,
                b == pass->firstBlock);
        }
    }
}

// A pass over the pixels of the slab.
static void run_pass(slab_job *x, const martlet_convolution_pass *pass, int64_t pixels) {
    const martlet_convolution *c = x->j->c;
    const int64_t width = x->j->isa->width, line = c->result[1] * c->result[2];
    int32_t vectors;
    for (int64_t at = 0; at < pixels; at += vectors * width) {
        vectors = (int32_t)minimum(x->j->isa->conv_vectors, divide_up(pixels - at, width));
        int64_t from = at;
        if (x->source.is_direct) {
            // What lies behind a plane that is read in place may be no memory: the last vectors then repeat some pixels.
            vectors = (int32_t)minimum(vectors, pixels / width);
            from = minimum(at, pixels - vectors * width);
        }
        const int64_t first = x->low + from / c->pitch[0] * line + minimum(from % c->pitch[0], line);
        run_tile(
            x, pass, x->source.base + from, vectors, x->sums + from, x->sum_pitch, c->storesResult ? -1 : x->wanted_image,
            first, vectors * width);
    }
}

// The sums of a pass to their places in the result.
static void compact(const slab_job *x, const martlet_convolution_pass *pass, int64_t rows) {
    const martlet_convolution *c = x->j->c;
    for (int64_t i = 0; i < x->images; i++) {
        for (int64_t r = 0; r < c->rows; r++) {
            martlet_convolution_compact_row(
                x->j, pass, x->sums + r * x->sum_pitch + i * c->tall * c->pitch[0], rows,
                x->target + i * x->image_pitch + r * x->target_pitch);
        }
    }
}

// Every pass over the slab.
static void run_passes(slab_job *x) {
    const martlet_convolution *c = x->j->c;
    for (int64_t p = 0; p < c->passCount; p++) {
        const martlet_convolution_pass *pass = &c->passes[p];
        const int64_t rows = pass_rows(pass, x->first, x->last);
        if (pass_span(c, pass, rows) == 0) continue;
        run_pass(x, pass, pass_span(c, pass, (x->images - 1) * c->tall + rows));
        for (int64_t b = pass->firstBlock; b < pass->firstBlock + pass->blockCount; b++) {
            x->executed +=
                c->blocks[b].rows * c->blocks[b].stepCount * x->images * rows * pass->counts[1] * pass->counts[2];
        }
        if (x->sums != x->target && (!c->isCompact || c->storesResult)) compact(x, pass, rows);
    }
}

// The pairs of the slab: a tile's pixels go through all four sums while these are in the nearest caches.
static void run_pairs(slab_job *x) {
    const convolution_job *j = x->j;
    const martlet_convolution *c = j->c;
    const int64_t width = j->isa->width, between = c->rows * c->sumPitch, rows = x->last - x->first;
    const int64_t pixels = pass_span(c, &c->passes[0], (x->images - 1) * c->tall + rows);
    int32_t vectors;
    for (int64_t at = 0; at < pixels; at += vectors * width) {
        vectors = (int32_t)minimum(j->isa->conv_vectors, divide_up(pixels - at, width));
        const int64_t pairs = minimum(vectors * width, pixels - at);
        for (int64_t p = 0; p < MARTLET_PAIR_SUMS; p++) {
            run_tile(
                x, &c->passes[p], x->source.base + at, vectors, x->sums + p * between, c->sumPitch,
                p == MARTLET_PAIR_SUMS - 1 ? x->wanted_image : -1, x->low + 2 * at, 2 * pairs);
        }
        for (int64_t r = 0; r < c->rows; r++) {
            martlet_convolution_place_pairs(
                c, j->isa, x->sums + r * c->sumPitch, between, at, pairs, x->target + r * x->target_pitch, x->image_pitch);
        }
    }
    int64_t products = 0;
    for (int64_t b = 0; b < c->blockCount; b++) products += c->blocks[b].rows * c->blocks[b].stepCount;
    x->executed += products * x->images * rows * c->passes[0].counts[1] * c->passes[0].counts[2];
}

// What the slab covers, and its planes.
static void begin(slab_job *x, int64_t index, float *copy) {
    const martlet_convolution *c = x->j->c;
    int64_t end;
    group_range(c, index / c->slabCount, &x->image, &end);
    slab_range(c, index % c->slabCount, &x->first, &x->last);
    x->images = end - x->image;
    const int64_t line = c->result[1] * c->result[2];
    x->low = x->first * c->resultStep[0] * line;
    x->high = minimum(x->last * c->resultStep[0], c->result[0]) * line;
    // The shortest pass decides whether planes can be read in place.
    x->least = INT64_MAX;
    for (int64_t p = 0; p < c->passCount; p++) {
        x->least = minimum(x->least, pass_span(c, &c->passes[p], pass_rows(&c->passes[p], x->first, x->last)));
    }
    x->source = martlet_convolution_source(x->j, x->image, x->images, x->first, x->last, x->least, copy);
}

// Where sums and results lie; `memory` is the worker's behind the copied planes.
static void lay_out(slab_job *x, float *memory) {
    const martlet_convolution *c = x->j->c;
    x->sums = memory;
    x->sum_pitch = c->sumPitch;
    x->target = x->sums + sum_floats(c);
    x->target_pitch = c->compactPitch;
    x->image_pitch = c->rows * c->compactPitch;
    x->work = (char *)(x->target + compact_floats(c));
    if (!c->storesResult) return;
    const martlet_operand *output = &c->outputs[0];
    x->target_pitch = output->strides[1];
    x->image_pitch = output->strides[0];
    x->target = (float *)(void *)x->j->context->values[output->source] + output->offset + x->image * output->strides[0] +
                x->low;
    // Tiles that touch no pixel but their own write there at once.
    if (c->isCompact && x->source.is_direct) {
        x->sums = x->target;
        x->sum_pitch = x->target_pitch;
    }
}

// What tiles ask for on the way.
static void look_ahead(slab_job *x, int64_t index) {
    const martlet_convolution *c = x->j->c;
    x->wanted_image = c->innerRank == 1 && c->together == 1 ? x->image : -1;
    // Small images, several together, are near enough.
    const int64_t next = x->source.is_direct || c->together > 1 ? c->images * c->slabCount : index + 1;
    const int64_t tiles = divide_up(x->least, x->j->isa->conv_vectors * x->j->isa->width);
    x->ahead = martlet_convolution_ahead(x->j, next / c->slabCount, next % c->slabCount, tiles * c->blockCount);
}

static void finish(const slab_job *x) {
    const martlet_convolution *c = x->j->c;
    if (c->storesResult) return;
    for (int64_t i = 0; i < x->images; i++) {
        const float *result = c->isCompact ? x->sums : x->target + i * x->image_pitch;
        martlet_convolution_epilogue(
            x->j, x->image + i, 0, c->rows / c->sections, x->low, x->high, (const char *)result,
            c->isCompact ? c->sumPitch : c->compactPitch, x->work);
    }
}

static void run_slab(void *argument, int64_t index, int32_t worker) {
    const convolution_job *j = argument;
    float *copy = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    slab_job x = {.j = j};
    begin(&x, index, copy);
    lay_out(&x, copy + source_floats(j->c));
    look_ahead(&x, index);
    // The sums of pairs are run together.
    if (is_paired(j->c)) run_pairs(&x);
    else run_passes(&x);
    j->counts[8 * worker] += x.executed;
    finish(&x);
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
