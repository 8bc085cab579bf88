// Weight gradients. The gradient of the result is transposed, some pixels at a time, so that a vector holds channels; a
// register tile holds a few (plane, tap) rows times a few such vectors and walks the pixels. Where a group has too few
// channels for a vector, pixels fill it and every element is a dot product.
//
// Slabs of all images are dealt to a number of parts that depends on the shapes alone; parts are added up in order. Images of few
// pixels are walked several together, and are many to a part: a tile's sums are loaded and stored, and a part's added, once for each.
#include "convolution.h"

// Pixels whose transposed gradients stay in the first-level cache.
static const int64_t chunk_pixels = 128;
// Pairs of them, whose transposed gradients are kept beside what a sum makes of them.
static const int64_t chunk_pairs = 100;
static const int64_t largest_part_floats = 4 << 20;

static int64_t block_vectors(const convolution_job *j, const martlet_convolution_block *b) {
    return divide_up(b->rows, j->isa->width);
}

// Blocks of one pass: where pairs of pixels share products, each of the four sums has its own steps.
static int64_t pass_blocks(const martlet_convolution *c) {
    return is_paired(c) ? c->blockCount / MARTLET_PAIR_SUMS : c->blockCount;
}

static int64_t longest_chunk(const martlet_convolution *c) { return is_paired(c) ? chunk_pairs : chunk_pixels; }

// Places of the weight that a piece of the end has, and planes that makes.
enum { places_of_a_piece = 256 };
static int64_t planes_of_a_piece(const martlet_convolution *c) { return maximum(1, places_of_a_piece / c->kernelTaps); }

// What that takes, as a vector of rows holds it; and row after row.
static int64_t piece_floats(const martlet_convolution *c) {
    return round_up(planes_of_a_piece(c) * c->kernelTaps * martlet_isa_table(c->isa)->width, 16);
}

void martlet_convolution_gradient_plan(martlet_convolution *c) {
    const martlet_isa_functions *isa = martlet_isa_table(c->isa);
    c->usesDots = !is_paired(c) && rows_per_group(c) * 4 <= isa->width;
    c->partFloats = 0;
    for (int64_t b = 0; b < c->blockCount; b++) {
        martlet_convolution_block *block = &c->blocks[b];
        const int64_t columns = c->usesDots ? block->rows : round_up(block->rows, isa->width);
        block->packed = c->partFloats;
        c->partFloats += round_up(block->stepCount * columns, 16);
    }
    const int64_t area = c->extent[0] * c->extent[1] * c->extent[2], chunk = longest_chunk(c);
    c->together = c->slabCount > 1 || c->usesDots ? 1 : maximum(1, minimum(c->images, chunk / 2 / maximum(1, area)));
    const int64_t units = group_count(c) * c->slabCount;
    const int64_t most = minimum(largest_part_floats / maximum(1, c->partFloats), c->images * area / chunk);
    c->parts = maximum(1, minimum(units, minimum(16, maximum(2, most))));
    c->sharedBytes = c->parts * c->partFloats * 4;
    const int64_t pixels = maximum(chunk + c->extent[c->rank - 1], c->slab * c->pitch[0]) + 16;
    const int64_t columns = c->usesDots ? 1 : isa->gradient_vectors * isa->width;
    const int64_t transposed = c->usesDots ? pixels : (chunk + c->extent[c->rank - 1]) * columns * (is_paired(c) ? 3 : 1);
    const int64_t floats = c->together * source_floats(c) + round_up(transposed, 16);
    const int64_t finish = 2 * piece_floats(c) * 4 + (int64_t)c->epilogue->slotCount * c->epilogue->slotBytes;
    c->workBytes = maximum(floats * 4, finish);
}

typedef struct {
    const convolution_job *j;
    const martlet_convolution_block *block;
    // That of the first image; the others' lie `image_pitch` apart.
    const slab_source *source;
    int64_t images, image_pitch;
    // The gradient of the first image's result at the slab's first position, in the block's first channel.
    const float *gradient;
    // The sums are the whole part's.
    float *scratch, *sums;
    slab_ahead *ahead;
} slab_job;

// The length of pieces of nearly equal length, none longer than `longest`.
static int64_t even_piece(int64_t count, int64_t longest) { return divide_up(count, maximum(1, divide_up(count, longest))); }

// Asks for `count` floats that the next chunk reads.
static void fetch(const float *from, int64_t count) {
    for (int64_t at = 0; at < count; at += 16) __builtin_prefetch(from + at, 0, 2);
}

// Every tile of a block over the pixels, or pairs of them, whose columns are ready.
static void add_tiles(
    const slab_job *s, const martlet_convolution_block *b, int64_t at, martlet_pixels pixels, const float *columns,
    const float *next_gradient, int64_t next_floats) {
    const convolution_job *j = s->j;
    const int32_t vectors = (int32_t)block_vectors(j, b), height = vectors * j->isa->width;
    const int64_t image = j->c->rowsIn.strides[0], channel = j->c->rowsIn.strides[1];
    // What is read next lies behind these lines, or behind these images.
    const int64_t reach = pixels.lines == 1 ? pixels.length : pixels.lines * pixels.pitch;
    const int64_t next = s->images > 1 ? s->images * s->image_pitch : reach;
    const int32_t most = j->isa->gradient_rows(vectors);
    const int64_t tiles = divide_up(b->stepCount, most);
    for (int64_t t = 0; t < tiles; t++) {
        // Tiles of nearly equal height.
        const int64_t first = b->stepCount * t / tiles, last = b->stepCount * (t + 1) / tiles;
        const float *rows[16];
        for (int64_t i = first; i < last; i++) rows[i - first] = s->source->base + at + s->source->offsets[b->firstStep + i];
        martlet_convolution_fetch(s->ahead);
        for (int64_t g = 0; g < s->images; g++) {
            if (s->source->is_direct) {
                for (int64_t i = first; i < last; i++) fetch(rows[i - first] + next + g * s->image_pitch, reach);
            }
            for (int64_t r = b->rows * t / tiles; next_gradient && r < b->rows * (t + 1) / tiles; r++) {
                fetch(next_gradient + r * channel + g * image, next_floats);
            }
        }
        j->isa->convolution_gradient(
            (int32_t)(last - first), vectors, rows, pixels, columns, s->sums + b->packed + first * height);
    }
}

// `lines` x `length` pixels of each image, or pairs of them, the first at position `at` of the slab's planes and `from` in the
// gradient.
static void add_chunk(
    const slab_job *s, int64_t at, const float *from, int64_t lines, int64_t length, int64_t pitch, int64_t line_stride,
    int64_t pixel_stride) {
    const convolution_job *j = s->j;
    const martlet_convolution *c = j->c;
    const martlet_convolution_block *b = s->block;
    const int64_t height = block_vectors(j, b) * j->isa->width;
    const int64_t image = c->rowsIn.strides[0], channel = c->rowsIn.strides[1];
    // A row of pairs whose last has one pixel is filled up with a pixel of zeros.
    const int64_t present = is_paired(c) ? c->result[c->rank - 1] : length;
    const int64_t filled = is_paired(c) ? 2 * length : length;
    const int joined = line_stride == present * pixel_stride && present == filled;
    for (int64_t i = 0; i < s->images; i++) {
        for (int64_t l = 0; l < (joined ? 1 : lines); l++) {
            float *target = s->scratch + (i * lines + l) * filled * height;
            j->isa->pack(
                target, from + i * image + l * line_stride, joined ? lines * present : present, pixel_stride, b->rows,
                channel, (int32_t)height);
            if (filled > present) memset(target + present * height, 0, (size_t)height * sizeof(float));
        }
    }
    martlet_pixels pixels = {s->images, s->image_pitch, lines, length, pitch};
    if (pitch == length) {
        pixels.length *= lines;
        pixels.lines = 1;
    }
    const float *next = from + (s->images > 1 ? s->images * image : lines * line_stride);
    if (!is_paired(c)) {
        add_tiles(s, b, at, pixels, s->scratch, next, lines * line_stride);
        return;
    }
    const int64_t pairs = s->images * lines * length;
    float *columns = s->scratch + 2 * pairs * height;
    for (int32_t sum = 0; sum < MARTLET_PAIR_SUMS; sum++) {
        const martlet_convolution_block *of_sum = b + sum * pass_blocks(c);
        if (of_sum->stepCount == 0) continue;
        j->isa->pair_columns(columns, s->scratch, sum, pairs, height);
        add_tiles(s, of_sum, at, pixels, columns, sum == 0 ? next : NULL, lines * line_stride);
    }
}

static void add_slab(const slab_job *s, int64_t rows) {
    const martlet_convolution *c = s->j->c;
    const int64_t *stride = &c->rowsIn.strides[2];
    const int64_t counts[3] = {rows, c->extent[1], c->extent[2]};
    if (c->rank == 1) {
        const int64_t step = even_piece(rows, chunk_pixels);
        for (int64_t p = 0; p < rows; p += step) {
            add_chunk(
                s, p * c->pitch[0], s->gradient + p * stride[0], 1, minimum(step, rows - p), 0,
                step * stride[0], stride[0]);
        }
        return;
    }
    const int inner = c->rank - 1, outer = inner - 1;
    const int64_t step = even_piece(counts[outer], maximum(1, longest_chunk(c) / counts[inner]));
    for (int64_t z = 0; z < (c->rank == 3 ? rows : 1); z++) {
        for (int64_t y = 0; y < counts[outer]; y += step) {
            const int64_t at = (c->rank == 3 ? z * c->pitch[0] : 0) + y * c->pitch[outer];
            const float *from = s->gradient + (c->rank == 3 ? z * stride[0] : 0) + y * stride[outer];
            add_chunk(
                s, at, from, minimum(step, counts[outer] - y), counts[inner], c->pitch[outer], stride[outer],
                stride[inner]);
        }
    }
}

// The same by dot products: a plane of the gradient, with zeros where its row of pixels has gaps, meets every step.
static void add_slab_by_dots(const slab_job *s, int64_t rows) {
    const convolution_job *j = s->j;
    const martlet_convolution *c = j->c;
    const int64_t *stride = &c->rowsIn.strides[2];
    const int inner = c->rank - 1;
    const int64_t pixels = pass_span(c, &c->passes[0], rows);
    const int64_t counts[3] = {rows, c->extent[1], c->extent[2]};
    for (int32_t r = 0; r < s->block->rows; r++) {
        const float *from = s->gradient + r * c->rowsIn.strides[1];
        memset(s->scratch, 0, (size_t)pixels * sizeof(float));
        for (int64_t m = 0; m < (inner == 0 ? 1 : counts[0]); m++) {
            for (int64_t i = 0; i < (inner == 2 ? counts[1] : 1); i++) {
                j->isa->copy_row(
                    s->scratch + m * c->pitch[0] + i * c->pitch[1], from + m * stride[0] + i * stride[1], stride[inner],
                    counts[inner], counts[inner]);
            }
        }
        j->isa->convolution_dots(
            (int32_t)s->block->stepCount, s->scratch, s->source->base, s->source->offsets + s->block->firstStep, pixels,
            s->sums + s->block->packed + r * s->block->stepCount);
    }
}

// Tiles of a slab, nearly.
static int64_t slab_tiles(const convolution_job *j, int64_t rows) {
    const martlet_convolution *c = j->c;
    int64_t tiles = 0;
    for (int64_t b = 0; b < c->blockCount; b++) {
        tiles += divide_up(c->blocks[b].stepCount, j->isa->gradient_rows((int32_t)block_vectors(j, &c->blocks[b])));
    }
    return maximum(1, tiles * (rows * c->extent[1] * c->extent[2] / longest_chunk(c)));
}

// The slabs of one part, for every block.
static void run_part(void *argument, int64_t part, int32_t worker) {
    const convolution_job *j = argument;
    const martlet_convolution *c = j->c;
    const int64_t units = group_count(c) * c->slabCount;
    float *copy = (float *)(void *)(j->context->work + worker * j->context->workBytes);
    float *scratch = copy + c->together * source_floats(c);
    float *sums = (float *)(void *)j->context->shared + part * c->partFloats;
    memset(sums, 0, (size_t)c->partFloats * sizeof(float));
    int64_t executed = 0;
    const int64_t end = units * (part + 1) / c->parts;
    for (int64_t unit = units * part / c->parts; unit < end; unit++) {
        int64_t image, last_image, first, last;
        group_range(c, unit / c->slabCount, &image, &last_image);
        slab_range(c, unit % c->slabCount, &first, &last);
        const int64_t images = last_image - image, rows = last - first;
        slab_source source = {NULL, NULL, 0};
        for (int64_t i = images - 1; i >= 0; i--) {
            source = martlet_convolution_source(j, image + i, 1, first, last, j->isa->width, copy + i * source_floats(c));
        }
        // Small images, several together, are near enough.
        const int64_t next = c->together == 1 && !source.is_direct && unit + 1 < end ? unit + 1 : c->images * c->slabCount;
        slab_ahead ahead =
            martlet_convolution_ahead(j, next / c->slabCount, next % c->slabCount, slab_tiles(j, rows));
        const int64_t image_pitch = source.is_direct ? c->planesIn.strides[0] : source_floats(c);
        for (int64_t b = 0; b < pass_blocks(c); b++) {
            const martlet_convolution_block *block = &c->blocks[b];
            int64_t steps = 0;
            for (int64_t i = b; i < c->blockCount; i += pass_blocks(c)) steps += c->blocks[i].stepCount;
            if (steps == 0) continue;
            const float *gradient = (const float *)(void *)j->context->values[c->rowsIn.source] + c->rowsIn.offset +
                                    image * c->rowsIn.strides[0] + block->first * c->rowsIn.strides[1] +
                                    first * c->rowsIn.strides[2];
            const slab_job s = {j, block, &source, images, image_pitch, gradient, scratch, sums, &ahead};
            if (c->usesDots) add_slab_by_dots(&s, rows);
            else add_slab(&s, rows);
            executed += images * block->rows * steps * rows * c->extent[1] * c->extent[2];
        }
    }
    j->counts[8 * worker] += executed;
}

enum { floats_of_a_piece = 8192 };

static void add_parts(void *argument, int64_t index, int32_t worker) {
    (void)worker;
    const convolution_job *j = argument;
    const martlet_convolution *c = j->c;
    float *sums = (float *)(void *)j->context->shared;
    const int64_t first = index * floats_of_a_piece, count = minimum(floats_of_a_piece, c->partFloats - first);
    for (int64_t part = 1; part < c->parts; part++) j->isa->add_row(sums + first, sums + part * c->partFloats + first, count);
}

// The first of a block's steps that reads plane `plane` of its group, or a later one; steps are in the order of their planes.
static int64_t first_step(const martlet_convolution *c, const martlet_convolution_block *block, int64_t plane) {
    const int64_t planes = c->planes / c->groups;
    int64_t low = 0, high = block->stepCount;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (c->steps[block->firstStep + middle].plane % planes < plane) low = middle + 1;
        else high = middle;
    }
    return low;
}

// The sums of a block's steps that belong to the planes [from, to), to where a vector of rows (`lanes` of them from `row` on) holds
// them: place after place of the weight.
static void place_sums(
    const convolution_job *j, const martlet_convolution_block *block, int64_t row, int64_t lanes, int64_t from, int64_t to,
    float *wide) {
    const martlet_convolution *c = j->c;
    const int64_t width = j->isa->width, planes = c->planes / c->groups;
    const int64_t next_row = c->usesDots ? block->stepCount : 1, next_step = c->usesDots ? 1 : round_up(block->rows, width);
    const float *sums = (const float *)(void *)j->context->shared + block->packed + row * next_row;
    const int64_t end = first_step(c, block, to);
    for (int64_t i = first_step(c, block, from); i < end; i++) {
        const martlet_convolution_step *s = &c->steps[block->firstStep + i];
        const martlet_pair_step *pair = is_paired(c) ? &c->pairSteps[block->firstStep + i] : NULL;
        float live[maximum_tile_columns];
        for (int64_t r = 0; r < lanes; r++) live[r] = sums[i * next_step + r * next_row];
        for (int64_t r = 0; ~s->live >> row != 0 && r < lanes; r++) live[r] = s->live >> (row + r) & 1 ? live[r] : 0;
        float *places = wide + (s->plane % planes - from) * c->kernelTaps * width;
        for (int k = 0; k < (pair ? 3 : 1) && (!pair || pair->factors[k] != 0); k++) {
            float *place = places + c->taps[pair ? pair->taps[k] : s->tap].index * width;
            const float factor = pair ? pair->factors[k] : 1;
            for (int64_t r = 0; r < lanes; r++) place[r] += factor * live[r];
        }
    }
}

static int64_t pieces_of_rows(const martlet_convolution *c) {
    return divide_up(c->planes / c->groups, planes_of_a_piece(c));
}

// Some planes' places in a vector of rows of one block, through the epilogue.
static void finish_piece(void *argument, int64_t index, int32_t worker) {
    const convolution_job *j = argument;
    const martlet_convolution *c = j->c;
    float *wide = (float *)(void *)(j->context->work + worker * j->context->workBytes), *lines = wide + piece_floats(c);
    const int64_t width = j->isa->width, planes = planes_of_a_piece(c), pieces = pieces_of_rows(c);
    const int64_t from = index % pieces * planes, to = minimum(from + planes, c->planes / c->groups);
    int64_t vector = index / pieces, b = 0;
    for (; vector >= block_vectors(j, &c->blocks[b]); b++) vector -= block_vectors(j, &c->blocks[b]);
    const int64_t row = vector * width, lanes = minimum(width, c->blocks[b].rows - row), count = (to - from) * c->kernelTaps;
    memset(wide, 0, (size_t)(count * width) * sizeof(float));
    for (int64_t i = b; i < c->blockCount; i += pass_blocks(c)) place_sums(j, &c->blocks[i], row, lanes, from, to, wide);
    j->isa->pack(lines, wide, lanes, 1, (int32_t)count, width, (int32_t)count);
    martlet_convolution_epilogue(
        j, 0, c->blocks[b].first + row, lanes, from * c->kernelTaps, to * c->kernelTaps, (const char *)lines, count,
        (char *)(lines + piece_floats(c)));
}

void martlet_convolution_gradient_run(const convolution_job *j) {
    const martlet_convolution *c = j->c;
    martlet_convolution_pieces(j, c->parts, run_part);
    martlet_convolution_pieces(j, divide_up(c->partFloats, floats_of_a_piece), add_parts);
    int64_t vectors = 0;
    for (int64_t b = 0; b < pass_blocks(c); b++) vectors += block_vectors(j, &c->blocks[b]);
    martlet_convolution_pieces(j, vectors * pieces_of_rows(c), finish_piece);
}
