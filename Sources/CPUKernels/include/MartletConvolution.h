// Convolutions whose masks are structure: live taps and channels are listed, and nothing else is visited.
//
// Axes are three, the first ones first. A result position is m * result_step + phase of its pass; at a tap it reads source
// position (m + shift) * source_step + phase of the tap.
#pragma once

#include "MartletElementwise.h"

enum { MARTLET_CONVOLUTION_AXES = 3 };

typedef struct {
    int64_t shift[MARTLET_CONVOLUTION_AXES];
    int64_t phase[MARTLET_CONVOLUTION_AXES];
    /// Where the tap lies in the weight.
    int64_t weight;
    /// Its place in the kernel.
    int64_t index;
} martlet_tap;

/// One plane of the source at one tap, and which rows of a block (or columns, for a weight gradient) it reaches.
typedef struct {
    int32_t plane;
    int32_t tap;
    uint64_t live;
} martlet_convolution_step;

/// A plane seen from pairs of neighbouring pixels: x[2 q + least + first] + sign x[2 q + least + second] at pair q of a line, for
/// the least shift of all taps, `first` and `second` below MARTLET_PAIR_REACH, and a sign of 1, -1 or 0.
typedef struct {
    int32_t first, second, sign;
} martlet_pair_form;

/// Pixels that a pair may reach over.
enum { MARTLET_PAIR_REACH = 10 };

/// What a step reads and is weighted with where pairs share products: the form of its plane, and the sum of `factors` times the
/// weights at `taps`.
typedef struct {
    int32_t form;
    int32_t taps[3];
    float factors[3];
} martlet_pair_step;

/// The sums that a pair of results is made of, m0 + m1 + m2 and m1 - m2 - m3: one pass for each.
enum { MARTLET_PAIR_SUMS = 4 };

/// Some channels of the result that are computed together, and what they read.
typedef struct {
    int32_t first, rows;
    /// In the table of steps.
    int64_t firstStep, stepCount;
    /// Where the weights of the first row lie in the weight, and (chosen by the plan) among the packed weights.
    int64_t weight, packed;
} martlet_convolution_block;

/// Result positions of one phase.
typedef struct {
    int64_t phase[MARTLET_CONVOLUTION_AXES];
    int64_t counts[MARTLET_CONVOLUTION_AXES];
    int64_t firstBlock, blockCount;
} martlet_convolution_pass;

typedef struct {
    martlet_isa isa;
    int32_t isWeightGradient, isDouble;
    /// Axes that the convolution has; those behind are of extent one.
    int32_t rank;
    /// The rows of the result are so many runs of equal length, whose elements the epilogue takes together.
    int32_t sections;
    int64_t images, planes, rows, groups;
    int64_t source[MARTLET_CONVOLUTION_AXES], result[MARTLET_CONVOLUTION_AXES];
    int64_t sourceStep[MARTLET_CONVOLUTION_AXES], resultStep[MARTLET_CONVOLUTION_AXES];
    int64_t leastShift[MARTLET_CONVOLUTION_AXES], greatestShift[MARTLET_CONVOLUTION_AXES];
    int64_t tapCount, passCount, blockCount, stepCount;
    const martlet_tap *_Nullable taps;
    const martlet_convolution_pass *_Nullable passes;
    martlet_convolution_block *_Nullable blocks;
    const martlet_convolution_step *_Nullable steps;
    /// Where pairs of pixels along the last axis share products (otherwise no forms): the forms of a plane, and for each step
    /// what it reads. Passes are sums of pairs then, and count pairs along that axis.
    const martlet_pair_form *_Nullable forms;
    const martlet_pair_step *_Nullable pairSteps;
    int64_t formCount;
    /// Where the source has two axes, its lines lie behind one another and have two pixels for each pair of the result, all forms of a
    /// plane are made as those of one line: for every vector of pairs and every pixel that a form reaches, ones where that pixel lies in
    /// the pair's line. The plan fills them in, or forgets them where there are no such lines.
    int32_t *_Nullable lineMasks;
    /// Over [image, plane, three axes].
    martlet_operand planesIn;
    /// The gradient of the result, over [image, row, three axes]; only for a weight gradient.
    martlet_operand rowsIn;
    /// The value of the weight, its offset, and how far its rows and planes lie apart; planes count modulo `planeModulus`
    /// there. Not for a weight gradient.
    martlet_operand weight;
    int64_t weightRow, weightPlane, planeModulus;
    /// Places of a row of the weight: planes of a group times taps of the kernel.
    int64_t rowLength, kernelTaps;
    const martlet_program *_Nullable epilogue;
    /// Over [image, row, spatial axes], or over [row, rest] for a weight gradient, where neighbouring axes that every
    /// operand walks as one are joined; the first, one for each section, stand for the result and are not used.
    const martlet_operand *_Nullable inputs;
    const martlet_operand *_Nullable outputs;
    /// The axes behind the rows in that iteration.
    int32_t innerRank;
    int64_t innerExtents[MARTLET_MAXIMUM_RANK];

    /// Chosen by `martlet_convolution_plan`. A source is read where it lies, or copied with zeros around it: `pitch` are the
    /// distances of neighbouring positions in a copied plane, `head` the zeros before it. Lines of pairs have no zeros beside
    /// them. A slab is some positions of the first axis; its window is what it reads of that axis.
    int64_t pitch[MARTLET_CONVOLUTION_AXES], extent[MARTLET_CONVOLUTION_AXES];
    int64_t head, phasePitch, planePitch, phases, slab, slabCount, window;
    int32_t isDirect, isCompact, usesDots, storesResult;
    /// For each step where a pixel finds it, in a copied plane and where the source lies.
    int32_t *_Nullable copied, *_Nullable direct;
    int64_t sumPitch, compactPitch;
    /// A weight gradient's partial sums: how many there are, and floats of each.
    int64_t parts, partFloats;
    /// Small images are walked several together, `tall` positions of the first axis from one to the next where they lie in one plane.
    int64_t together, tall;
    int64_t sharedBytes, workBytes;
} martlet_convolution;

/// Channels that a block may have, at most: of a result, or of a weight gradient.
int32_t martlet_convolution_block_rows(martlet_isa isa, int32_t is_weight_gradient);

/// Chooses the blocking; `copied` and `direct` have room for every step. Blocks depend on the number of threads, results do
/// not.
void martlet_convolution_plan(martlet_convolution *_Nonnull convolution, int32_t threads);

/// Multiply-adds that were executed, padding not counted, are added to `counts[8 * worker]`.
void martlet_convolution_run(
    const martlet_convolution *_Nonnull convolution, const martlet_context *_Nonnull context, int64_t *_Nonnull counts);
