// Sorts degrees that are known only when the program runs, and finds the staircase.
//
// inputOrder[k], outputOrder[k]: the k-th in order of degree. extents[o]: how many sorted inputs sorted output o reads.
// starts[i]: the first sorted output that reads sorted input i. inputPlace[i], outputPlace[o]: where in the order i and o are.

// GPU: one work-item for each input and output counts its place in the order (stable), and how far its side of the
// staircase goes. Nothing is shared between work-items, so the result does not depend on how they run.
__kernel __attribute__((reqd_work_group_size(64, 1, 1)))
void martlet_degrees_gpu(
    __global const int* input, __global const int* output, const int inputs, const int outputs, const int strict,
    __global int* inputOrder, __global int* outputOrder, __global int* extents, __global int* starts) {
    for (int id = get_global_id(0); id < inputs + outputs; id += get_global_size(0)) {
        const int isInput = id < inputs;
        const int self = isInput ? id : id - inputs;
        const int own = isInput ? inputs : outputs;
        const int other = isInput ? outputs : inputs;
        __global const int* mine = isInput ? input : output;
        __global const int* theirs = isInput ? output : input;
        const int degree = mine[self];
        // An output reads the inputs whose degree is at most its own (below, if strict); an input is not read by the
        // outputs whose degree is below its own (at most, if strict).
        const int inclusive = isInput ? strict : !strict;
        int rank = 0, reach = 0;
        for (int j = 0; j < own; j++) rank += mine[j] < degree || (mine[j] == degree && j < self);
        for (int j = 0; j < other; j++) reach += theirs[j] < degree || (inclusive && theirs[j] == degree);
        if (isInput) {
            inputOrder[rank] = self;
            starts[rank] = reach;
        } else {
            outputOrder[rank] = self;
            extents[rank] = reach;
        }
    }
}

// A stable radix sort of positions by degree: four passes of eight bits between `order` and `spare`.
static inline void martlet_sort_degrees(
    __global const int* degrees, const int count, __global int* order, __global int* spare) {
    for (int i = 0; i < count; i++) order[i] = i;
    for (int shift = 0; shift < 32; shift += 8) {
        __global const int* from = shift & 8 ? spare : order;
        __global int* to = shift & 8 ? order : spare;
        int places[256];
        for (int d = 0; d < 256; d++) places[d] = 0;
        // Flipping the sign bit puts negative degrees first.
        for (int i = 0; i < count; i++) places[(((uint)degrees[i] ^ 0x80000000u) >> shift) & 255u]++;
        int place = 0;
        for (int d = 0; d < 256; d++) {
            const int size = places[d];
            places[d] = place;
            place += size;
        }
        for (int i = 0; i < count; i++) to[places[(((uint)degrees[from[i]] ^ 0x80000000u) >> shift) & 255u]++] = from[i];
    }
}

// Processor: one work-item sorts both sides and walks them side by side. `inputPlace` and `outputPlace` are the sorts' spare room
// before they are filled.
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void martlet_degrees_cpu(
    __global const int* input, __global const int* output, const int inputs, const int outputs, const int strict,
    __global int* inputOrder, __global int* outputOrder, __global int* extents, __global int* starts,
    __global int* inputPlace, __global int* outputPlace) {
    martlet_sort_degrees(input, inputs, inputOrder, inputPlace);
    martlet_sort_degrees(output, outputs, outputOrder, outputPlace);
    for (int i = 0; i < inputs; i++) inputPlace[inputOrder[i]] = i;
    for (int o = 0; o < outputs; o++) outputPlace[outputOrder[o]] = o;
    int live = 0;
    for (int o = 0; o < outputs; o++) {
        const int degree = output[outputOrder[o]];
        // The inputs that this output is the first to read start here.
        for (; live < inputs && (strict ? input[inputOrder[live]] < degree : input[inputOrder[live]] <= degree); live++) starts[live] = o;
        extents[o] = live;
    }
    for (; live < inputs; live++) starts[live] = outputs;
}
