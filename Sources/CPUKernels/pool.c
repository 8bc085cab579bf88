// A pool whose workers spin for a while before they park, because waking a thread takes 30 to 50 us and most groups of a
// training step are shorter than that.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "CPUKernels.h"

// How long a worker looks for work before it sleeps.
static const int64_t spin_nanoseconds = 300000;
// The lower half of a ticket while its job is being written: no index can be claimed.
static const uint64_t closed = 0xffffffff;
// How long the caller waits for the last pieces before it lets others run.
static const int32_t spins_before_yield = 4000;

// A job's generation in the upper 32 bits, the next index to claim of one worker's share in the lower. A claim is a compare
// and swap of both, so that a worker that comes late cannot take a piece of the next job for one of the last.
typedef struct {
    _Alignas(64) _Atomic(uint64_t) ticket;
} share;

struct martlet_pool {
    // The last job that was posted.
    _Alignas(64) _Atomic(uint32_t) generation;
    _Alignas(64) _Atomic(int64_t) finished;
    _Alignas(64) _Atomic(int64_t) count;
    _Atomic(martlet_task) task;
    _Atomic(void *) context;
    _Alignas(64) _Atomic(int32_t) sleepers;
    _Atomic(bool) stopping;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int32_t threads;
    int32_t started;
    pthread_t *handles;
    // One for each thread; a job of fewer pieces uses only the first ones.
    share *shares;
};

typedef struct {
    martlet_pool *pool;
    int32_t worker;
} worker_start;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int32_t shares_of(const martlet_pool *pool, int64_t count) {
    return count < pool->threads ? (int32_t)count : pool->threads;
}

// Runs pieces of a job until none is left: first this worker's share, then what is left of the others'.
static void work(martlet_pool *pool, uint32_t generation, int32_t worker) {
    // Read before the claim. A poster closes the tickets before it writes these, so a claim that succeeds proves that they
    // were the claimed job's.
    const int64_t count = atomic_load_explicit(&pool->count, memory_order_acquire);
    const martlet_task task = atomic_load_explicit(&pool->task, memory_order_acquire);
    void *const context = atomic_load_explicit(&pool->context, memory_order_acquire);
    const int32_t shares = shares_of(pool, count);
    for (int32_t k = 0; k < shares; k++) {
        const int32_t owner = (worker + k) % shares;
        const int64_t end = martlet_share_start(count, shares, owner + 1);
        _Atomic(uint64_t) *const place = &pool->shares[owner].ticket;
        uint64_t ticket = atomic_load_explicit(place, memory_order_acquire);
        while ((uint32_t)(ticket >> 32) == generation && (int64_t)(uint32_t)ticket < end) {
            if (atomic_compare_exchange_weak_explicit(
                    place, &ticket, ticket + 1, memory_order_acq_rel, memory_order_acquire)) {
                task(context, (int64_t)(uint32_t)ticket, worker);
                atomic_fetch_add_explicit(&pool->finished, 1, memory_order_release);
                ticket = atomic_load_explicit(place, memory_order_acquire);
            }
        }
    }
}

static void *worker_main(void *argument) {
    const worker_start start = *(worker_start *)argument;
    free(argument);
    martlet_pool *const pool = start.pool;
    martlet_flush_subnormals();
    while (!atomic_load_explicit(&pool->stopping, memory_order_acquire)) {
        const uint32_t seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        work(pool, seen, start.worker);
        const int64_t deadline = now() + spin_nanoseconds;
        bool found = false;
        while (!found) {
            for (int32_t spin = 0; spin < 64 && !found; spin++) {
                relax();
                found = atomic_load_explicit(&pool->generation, memory_order_acquire) != seen;
            }
            if (now() > deadline || atomic_load_explicit(&pool->stopping, memory_order_relaxed)) break;
        }
        if (found) continue;
        pthread_mutex_lock(&pool->lock);
        atomic_fetch_add(&pool->sleepers, 1);
        // The poster writes the generation and then reads `sleepers`; we wrote `sleepers` and now read the generation. One of
        // the two sees the other.
        while (atomic_load(&pool->generation) == seen && !atomic_load(&pool->stopping)) {
            pthread_cond_wait(&pool->wake, &pool->lock);
        }
        atomic_fetch_sub(&pool->sleepers, 1);
        pthread_mutex_unlock(&pool->lock);
    }
    return NULL;
}

martlet_pool *martlet_pool_create(int32_t threads) {
    if (threads < 1) threads = 1;
    martlet_pool *pool = NULL;
    if (posix_memalign((void **)&pool, 64, sizeof(martlet_pool)) != 0) return NULL;
    atomic_init(&pool->generation, 0);
    atomic_init(&pool->finished, 0);
    atomic_init(&pool->count, 0);
    atomic_init(&pool->task, NULL);
    atomic_init(&pool->context, NULL);
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->stopping, false);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->threads = threads;
    pool->started = 0;
    pool->handles = calloc((size_t)threads, sizeof(pthread_t));
    pool->shares = NULL;
    bool ok = pool->handles != NULL && posix_memalign((void **)&pool->shares, 64, (size_t)threads * sizeof(share)) == 0;
    for (int32_t i = 0; ok && i < threads; i++) atomic_init(&pool->shares[i].ticket, closed);
    for (int32_t worker = 1; ok && worker < threads; worker++) {
        worker_start *start = malloc(sizeof *start);
        ok = start != NULL;
        if (!ok) break;
        *start = (worker_start){pool, worker};
        if (pthread_create(&pool->handles[pool->started], NULL, worker_main, start) != 0) {
            free(start);
            ok = false;
        } else {
            pool->started++;
        }
    }
    if (ok) return pool;
    martlet_pool_destroy(pool);
    return NULL;
}

void martlet_pool_destroy(martlet_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stopping, true);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t i = 0; i < pool->started; i++) pthread_join(pool->handles[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->handles);
    free(pool->shares);
    free(pool);
}

int32_t martlet_pool_threads(const martlet_pool *pool) { return pool->threads; }

void martlet_pool_run(martlet_pool *pool, int64_t count, martlet_task task, void *context) {
    if (pool->threads == 1 || count <= 1) {
        for (int64_t i = 0; i < count; i++) task(context, i, 0);
        return;
    }
    const uint32_t generation = atomic_load_explicit(&pool->generation, memory_order_relaxed) + 1;
    const int32_t shares = shares_of(pool, count);
    for (int32_t i = 0; i < shares; i++) {
        atomic_store_explicit(&pool->shares[i].ticket, (uint64_t)generation << 32 | closed, memory_order_relaxed);
    }
    atomic_store_explicit(&pool->finished, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->count, count, memory_order_release);
    atomic_store_explicit(&pool->task, task, memory_order_release);
    atomic_store_explicit(&pool->context, context, memory_order_release);
    for (int32_t i = 0; i < shares; i++) {
        const uint64_t first = (uint64_t)martlet_share_start(count, shares, i);
        atomic_store_explicit(&pool->shares[i].ticket, (uint64_t)generation << 32 | first, memory_order_release);
    }
    atomic_store(&pool->generation, generation);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
    work(pool, generation, 0);
    for (int32_t spins = 0; atomic_load_explicit(&pool->finished, memory_order_acquire) != count; spins++) {
        if (spins < spins_before_yield) {
            relax();
        } else {
            sched_yield();
        }
    }
}

uint64_t martlet_flush_subnormals(void) {
#if defined(__x86_64__)
    const uint32_t saved = __builtin_ia32_stmxcsr();
    // Flush to zero and denormals are zero.
    __builtin_ia32_ldmxcsr(saved | 0x8040);
    return saved;
#elif defined(__aarch64__)
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" ::"r"(saved | (uint64_t)1 << 24));
    return saved;
#else
    return 0;
#endif
}

void martlet_restore_arithmetic(uint64_t saved) {
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr((uint32_t)saved);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(saved));
#else
    (void)saved;
#endif
}
