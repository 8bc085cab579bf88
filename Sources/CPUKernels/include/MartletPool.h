// Threads that wait for work.
#pragma once

#include <stdint.h>

#include "MartletTypes.h"

typedef struct martlet_pool martlet_pool;

/// One piece of a job. `worker` is below the pool's thread count; two pieces with one worker never run at the same time.
typedef void (*martlet_task)(void *_Nullable context, int64_t index, int32_t worker);

/// A pool of `threads` threads, the caller included; NULL when no thread could be started.
martlet_pool *_Nullable martlet_pool_create(int32_t threads);
void martlet_pool_destroy(martlet_pool *_Nonnull pool);
int32_t martlet_pool_threads(const martlet_pool *_Nonnull pool);

/// Where share `index` begins when `count` is cut into shares that differ by one at most, the larger ones first; share `index`
/// ends where the next one begins.
static inline int64_t martlet_share_start(int64_t count, int64_t shares, int64_t index) {
    const int64_t low = count / shares, rest = count % shares;
    return index * low + (index < rest ? index : rest);
}

/// Deals what is in some order to the workers, forth and back: the place in that order of a job's piece `index`. Each worker then
/// begins with the first of the order that it has, and where they get shorter evenly each has as much.
static inline int64_t martlet_dealt_in_turn(int64_t count, int32_t threads, int64_t index) {
    int32_t worker = 0;
    while (index >= martlet_share_start(count, threads, worker + 1)) worker++;
    const int64_t round = index - martlet_share_start(count, threads, worker), first = round * threads;
    const int64_t last = first + threads < count ? first + threads : count;
    return round % 2 ? last - 1 - worker : first + worker;
}

/// Runs `task` for every index below `count` and waits. Each worker begins with its own share of the indices, in order, so that
/// what it wrote in one job is likely to be in its cache for the next; then it takes what the others have left. Which worker
/// takes which index is not fixed, so a result may depend on indices only. One job at a time: the caller holds a lock where
/// several threads could ask.
void martlet_pool_run(
    martlet_pool *_Nonnull pool, int64_t count, martlet_task _Nonnull task, void *_Nullable context);

/// Makes this thread take and give zero for subnormal numbers, which slow arithmetic down a hundredfold (the moments of a
/// weight that gets no gradient decay into them). Returns what to restore. The pool's own threads always do so.
uint64_t martlet_flush_subnormals(void);
void martlet_restore_arithmetic(uint64_t saved);
