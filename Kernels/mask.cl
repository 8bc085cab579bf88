// The mask of a product, by macros that the host defines before this text:
//   MASK   0 none, 1 degrees (a staircase once sorted), 2 any matrix
//   ROLE   0 forward (m rows, n out, k in), 1 input gradient (m rows, n in, k out), 2 weight gradient (m out, n in, k rows)
//
// Degrees: sorted output o reads the sorted inputs below `extents[o]`; sorted input i is read by the outputs from
// `starts[i]` on. Both tables are non-decreasing. A matrix: bit i of row o of `bits`, and for each tile of columns either
// the live intervals of k (roles 0 and 1) or whether the tile lives at all (role 2).

#if MASK == 1
#define MASK_PARAMETERS , __global const int* extents, __global const int* starts
#define MASK_ARGUMENTS , extents, starts
#define LIVE(o, i) ((i) < extents[o])
#elif MASK == 2
#define MASK_PARAMETERS \
    , __global const uint* bits, const int wordsPerRow, __global const int* tileStarts, __global const int* intervals
#define MASK_ARGUMENTS , bits, wordsPerRow, tileStarts, intervals
#define LIVE(o, i) ((bits[(o) * wordsPerRow + ((i) >> 5)] >> ((i) & 31)) & 1)
#else
#define MASK_PARAMETERS
#define MASK_ARGUMENTS
#define LIVE(o, i) 1
#endif

// Whether weight (k, n) of operand b is live; a weight gradient's operands are not masked, only its result.
#if MASK == 0 || ROLE == 2
#define LIVE_AT(k, n) 1
#elif ROLE == 0
#define LIVE_AT(k, n) LIVE(n, k)
#else
#define LIVE_AT(k, n) LIVE(k, n)
#endif

// The intervals of k that a tile of columns from n0 to n0 + width needs: how many, and the bounds of each.
#if MASK == 2 && ROLE != 2
#define FIRST_INTERVAL(tile) tileStarts[tile]
#define LAST_INTERVAL(tile) tileStarts[(tile) + 1]
#define INTERVAL_BEGIN(i, n0, width) intervals[2 * (i)]
#define INTERVAL_END(i, n0, width) intervals[2 * (i) + 1]
#else
#define FIRST_INTERVAL(tile) 0
#define LAST_INTERVAL(tile) 1
#if MASK == 1 && ROLE == 0
#define INTERVAL_BEGIN(i, n0, width) 0
#define INTERVAL_END(i, n0, width) extents[min((n0) + (width), N) - 1]
#elif MASK == 1 && ROLE == 1
#define INTERVAL_BEGIN(i, n0, width) starts[n0]
#define INTERVAL_END(i, n0, width) K
#else
#define INTERVAL_BEGIN(i, n0, width) 0
#define INTERVAL_END(i, n0, width) K
#endif
#endif

// Whether any element of the weight gradient's tile lives.
#if MASK == 1 && ROLE == 2
#define TILE_LIVES(mTile, nTile, m0, height, n0) (extents[min((m0) + (height), M) - 1] > (n0))
#elif MASK == 2 && ROLE == 2
#define TILE_LIVES(mTile, nTile, m0, height, n0) (tileStarts[(mTile) * (int)NTILES + (nTile)] != 0)
#else
#define TILE_LIVES(mTile, nTile, m0, height, n0) 1
#endif

// Where the k-th, n-th and m-th position of the sorted problem lie.
#ifdef K_ORDER
#define AT_K(k) kOrder[k]
#define K_ORDER_PARAMETER , __global const int* kOrder
#define K_ORDER_ARGUMENT , kOrder
#else
#define AT_K(k) (k)
#define K_ORDER_PARAMETER
#define K_ORDER_ARGUMENT
#endif
#ifdef N_ORDER
#define AT_N(n) nOrder[n]
#define N_ORDER_PARAMETER , __global const int* nOrder
#define N_ORDER_ARGUMENT , nOrder
#else
#define AT_N(n) (n)
#define N_ORDER_PARAMETER
#define N_ORDER_ARGUMENT
#endif
#ifdef M_ORDER
#define AT_M(m) mOrder[m]
#define M_ORDER_PARAMETER , __global const int* mOrder
#define M_ORDER_ARGUMENT , mOrder
#else
#define AT_M(m) (m)
#define M_ORDER_PARAMETER
#define M_ORDER_ARGUMENT
#endif

#ifdef COUNT_TILES
#define COUNTER_PARAMETER , __global int* executed
#define COUNTER_ARGUMENT , executed
#else
#define COUNTER_PARAMETER
#define COUNTER_ARGUMENT
#endif
