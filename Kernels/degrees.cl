// Sorts degrees that are known only when the program runs, and finds the staircase. One work-item for each input and
// output: its place in the order (stable), and how far its side of the staircase goes. Nothing is shared between
// work-items, so the result does not depend on how they run.
//
// inputOrder[k], outputOrder[k]: the k-th in order of degree. extents[o]: how many sorted inputs sorted output o reads.
// starts[i]: the first sorted output that reads sorted input i.
__kernel void martlet_degrees(
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
        int rank = 0;
        int j = 0;
        int16 ranks = (int16)(0);
        for (; j + 16 <= own; j += 16) {
            const int16 d = vload16(0, mine + j);
            const int16 before = (int16)(j) + martlet_lanes < (int16)(self);
            ranks -= (d < (int16)(degree)) | ((d == (int16)(degree)) & before);
        }
        for (; j < own; j++) rank += mine[j] < degree || (mine[j] == degree && j < self);
        // An output reads the inputs whose degree is at most its own (below, if strict); an input is not read by the
        // outputs whose degree is below its own (at most, if strict).
        const int inclusive = isInput ? strict : !strict;
        int reach = 0;
        int16 reaches = (int16)(0);
        for (j = 0; j + 16 <= other; j += 16) {
            const int16 d = vload16(0, theirs + j);
            reaches -= (d < (int16)(degree)) | ((d == (int16)(degree)) & (int16)(-inclusive));
        }
        for (; j < other; j++) reach += theirs[j] < degree || (inclusive && theirs[j] == degree);
        const int8 r8 = ranks.lo + ranks.hi, e8 = reaches.lo + reaches.hi;
        const int4 r4 = r8.lo + r8.hi, e4 = e8.lo + e8.hi;
        rank += r4.x + r4.y + r4.z + r4.w;
        reach += e4.x + e4.y + e4.z + e4.w;
        if (isInput) {
            inputOrder[rank] = self;
            starts[rank] = reach;
        } else {
            outputOrder[rank] = self;
            extents[rank] = reach;
        }
    }
}
