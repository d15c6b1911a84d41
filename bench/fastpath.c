/*
 * fastpath.c - the calls whose instructions and cache misses bench/counts.py counts.
 *
 *     fastpath pair SIZE COUNT      COUNT times: malloc, free of the same block
 *     fastpath calloc SIZE COUNT    the same with calloc,
 *     fastpath aligned SIZE COUNT     with aligned_alloc(64, SIZE),
 *     fastpath sized SIZE COUNT       with free_sized,
 *     fastpath new SIZE COUNT         with operator new and sized operator delete
 *     fastpath cache SIZE COUNT     COUNT times: an object of a cache of lucid's is taken and freed
 *     fastpath realloc SIZE COUNT   COUNT times: a block is resized between SIZE and SIZE - 1
 *     fastpath alone SIZE COUNT     COUNT times: lu_heap_malloc from a single-threaded heap, free,
 *     fastpath shared SIZE COUNT      from a shared heap,
 *     fastpath own SIZE COUNT         from a single-threaded one, and lu_heap_free
 *     fastpath batch SIZE COUNT     rounds of BATCH mallocs, then BATCH frees, oldest first
 *     fastpath remote SIZE COUNT    the same, but a second thread frees
 *     fastpath random LIVE COUNT    COUNT times: one of LIVE blocks of up to 256 bytes is replaced
 *     fastpath mixed LIVE COUNT     COUNT times: the oldest of LIVE blocks of 16 bytes to 16 KiB is
 *
 * Each loop is a function of its own that is not inlined, so that callgrind's file says which calls
 * came from it and what they cost with everything they called. Every block is written to and
 * checked. Nothing here depends on the machine or its load: numbers are drawn without floating
 * point, and the clock that the allocator sees (clock_gettime below takes the place of libc's)
 * goes by the operations done, so that what it does from time to time it always does at the same
 * places.
 */
#include "common.h"

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 200, LIVE_MOST = 100000, OPERATION_NS = 20, ALIGNMENT = 64 };

static struct bench_block blocks[LIVE_MOST];
static uint32_t size; /* or the number of live blocks */
static uint64_t count;
static sem_t full, empty;
static _Atomic uint64_t operations;

int clock_gettime(clockid_t clock, struct timespec *now) {
    uint64_t ns = atomic_load_explicit(&operations, memory_order_relaxed) * OPERATION_NS;
    (void)clock;
    now->tv_sec = (time_t)(1000 + ns / 1000000000);
    now->tv_nsec = (long)(ns % 1000000000);
    return 0;
}

/* Not that of common.c: this program must not change when the others do. */
void bench_fail(const char *what) {
    fprintf(stderr, "fastpath: %s\n", what);
    abort();
}

static void note_operation(void) {
    uint64_t done = atomic_load_explicit(&operations, memory_order_relaxed);
    atomic_store_explicit(&operations, done + 1, memory_order_relaxed); /* one thread writes */
}

/* A function that not every C library or allocator has. */
static void *find_function(const char *name) {
    void *function = dlsym(RTLD_DEFAULT, name);
    if (function == NULL) {
        fprintf(stderr, "fastpath: there is no %s here\n", name);
        exit(1);
    }
    return function;
}

/* ------------------------------------------------------------------ loops -------------------- */

/* The names of these functions are known to callgrind.py. */

static __attribute__((noinline)) void fastpath_pair(void) {
    for (uint64_t i = 0; i < count; i++) {
        struct bench_block block = bench_mark(malloc(size), size, (uint32_t)i);
        bench_check(&block);
        free(block.at);
        note_operation();
    }
}

static __attribute__((noinline)) void fastpath_calloc(void) {
    for (uint64_t i = 0; i < count; i++) {
        unsigned char *at = calloc(1, size);
        if (at != NULL && (at[0] | at[size / 2] | at[size - 1]) != 0) bench_fail("not zeroed");
        struct bench_block block = bench_mark(at, size, (uint32_t)i);
        bench_check(&block);
        free(block.at);
        note_operation();
    }
}

static __attribute__((noinline)) void fastpath_aligned(void) {
    for (uint64_t i = 0; i < count; i++) {
        void *at = aligned_alloc(ALIGNMENT, size);
        if ((uintptr_t)at % ALIGNMENT != 0) bench_fail("not aligned");
        struct bench_block block = bench_mark(at, size, (uint32_t)i);
        bench_check(&block);
        free(block.at);
        note_operation();
    }
}

static __attribute__((noinline)) void fastpath_sized(void) {
    void (*release)(void *, size_t) = (void (*)(void *, size_t))find_function("free_sized");
    for (uint64_t i = 0; i < count; i++) {
        struct bench_block block = bench_mark(malloc(size), size, (uint32_t)i);
        bench_check(&block);
        release(block.at, size);
        note_operation();
    }
}

static __attribute__((noinline)) void fastpath_new(void) {
    void *(*obtain)(size_t) = (void *(*)(size_t))find_function("_Znwm");
    void (*release)(void *, size_t) = (void (*)(void *, size_t))find_function("_ZdlPvm");
    for (uint64_t i = 0; i < count; i++) {
        struct bench_block block = bench_mark(obtain(size), size, (uint32_t)i);
        bench_check(&block);
        release(block.at, size);
        note_operation();
    }
}

/* lucid's, found by name, as the program runs on other allocators as well. */
enum { SHARED, SINGLE_THREADED };
typedef void *heap_create(unsigned flags);
typedef void *heap_malloc(void *heap, size_t bytes);
typedef void heap_free(void *heap, void *block);

static void *make_heap(unsigned flags) {
    void *heap = ((heap_create *)find_function("lu_heap_create"))(flags);
    if (heap == NULL) bench_fail("no heap");
    return heap;
}

static __attribute__((noinline)) void fastpath_heap(void *heap) {
    heap_malloc *obtain = (heap_malloc *)find_function("lu_heap_malloc");
    for (uint64_t i = 0; i < count; i++) {
        struct bench_block block = bench_mark(obtain(heap, size), size, (uint32_t)i);
        bench_check(&block);
        free(block.at);
        note_operation();
    }
}

static __attribute__((noinline)) void fastpath_own(void) {
    heap_malloc *obtain = (heap_malloc *)find_function("lu_heap_malloc");
    heap_free *release = (heap_free *)find_function("lu_heap_free");
    void *heap = make_heap(SINGLE_THREADED);
    for (uint64_t i = 0; i < count; i++) {
        struct bench_block block = bench_mark(obtain(heap, size), size, (uint32_t)i);
        bench_check(&block);
        release(heap, block.at);
        note_operation();
    }
}

static __attribute__((noinline)) void fastpath_cache(void) {
    typedef void *create_fn(const char *, size_t, size_t, void *, void *, void *);
    create_fn *create = (create_fn *)find_function("lu_cache_create");
    void *(*obtain)(void *) = (void *(*)(void *))find_function("lu_cache_alloc");
    void (*release)(void *, void *) = (void (*)(void *, void *))find_function("lu_cache_free");
    void *cache = create("fastpath", size, 0, NULL, NULL, NULL);
    for (uint64_t i = 0; i < count; i++) {
        struct bench_block block = bench_mark(obtain(cache), size, (uint32_t)i);
        bench_check(&block);
        release(cache, block.at);
        note_operation();
    }
}

static __attribute__((noinline)) void fastpath_realloc(void) {
    struct bench_block block = bench_mark(malloc(size), size, 0);
    for (uint64_t i = 0; i < count; i++) {
        bench_check(&block);
        uint32_t wanted = size - (uint32_t)(i & 1);
        block = bench_mark(realloc(block.at, wanted), wanted, (uint32_t)i);
        note_operation();
    }
    free(block.at);
}

static __attribute__((noinline)) void fastpath_fill(void) {
    for (uint32_t i = 0; i < BATCH; i++) {
        blocks[i] = bench_mark(malloc(size), size, i);
        note_operation();
    }
}

static __attribute__((noinline)) void fastpath_drain(void) {
    for (uint32_t i = 0; i < BATCH; i++) {
        bench_check(&blocks[i]);
        free(blocks[i].at);
    }
}

/* ------------------------------------------------------------------ made of loops ------------ */

static void run_alone(void) {
    fastpath_heap(make_heap(SINGLE_THREADED));
}

static void run_shared(void) {
    fastpath_heap(make_heap(SHARED));
}

static void run_batch(void) {
    for (uint64_t i = 0; i < count; i += BATCH) {
        fastpath_fill();
        fastpath_drain();
    }
}

static void *drain_remotely(void *unused) {
    for (uint64_t i = 0; i < count; i += BATCH) {
        sem_wait(&full);
        fastpath_drain();
        sem_post(&empty);
    }
    return unused;
}

static void run_remote(void) {
    pthread_t thread;
    sem_init(&full, 0, 0);
    sem_init(&empty, 0, 1);
    if (pthread_create(&thread, NULL, drain_remotely, NULL) != 0) bench_fail("no thread");
    for (uint64_t i = 0; i < count; i += BATCH) {
        sem_wait(&empty);
        fastpath_fill();
        sem_post(&full);
    }
    pthread_join(thread, NULL);
}

static void replace(struct bench_block *block, uint32_t new_size, uint64_t tag) {
    bench_check(block);
    free(block->at);
    *block = bench_mark(malloc(new_size), new_size, (uint32_t)tag);
    note_operation();
}

static uint32_t draw_small(uint64_t *random) {
    return (uint32_t)(8 + bench_random_below(random, 249));
}

/* Every doubling holds as many sizes as the one before. */
static uint32_t draw_mixed(uint64_t *random) {
    uint64_t least = 16u << bench_random_below(random, 10);
    return (uint32_t)(least + bench_random_below(random, least));
}

/* `draw` gives the sizes; the victim is a random block or the oldest one. */
static void run_replacement(uint32_t (*draw)(uint64_t *random), bool at_random) {
    uint64_t random = 0x9e3779b97f4a7c15u;
    if (size > LIVE_MOST) bench_fail("too many blocks");
    for (uint32_t i = 0; i < size; i++) {
        uint32_t first = draw(&random);
        blocks[i] = bench_mark(malloc(first), first, i);
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t victim = at_random ? bench_random_below(&random, size) : i % size;
        replace(&blocks[victim], draw(&random), i);
    }
}

static void run_random(void) {
    run_replacement(draw_small, true);
}

static void run_mixed(void) {
    run_replacement(draw_mixed, false);
}

static const struct mode {
    const char *name;
    void (*run)(void);
} modes[] = {
    {"pair", fastpath_pair},   {"calloc", fastpath_calloc}, {"aligned", fastpath_aligned},
    {"sized", fastpath_sized}, {"new", fastpath_new},       {"realloc", fastpath_realloc},
    {"batch", run_batch},      {"remote", run_remote},      {"random", run_random},
    {"mixed", run_mixed},      {"cache", fastpath_cache},   {"alone", run_alone},
    {"shared", run_shared},    {"own", fastpath_own},
};

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 4 && i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(argv[1], modes[i].name) != 0) continue;
        size = (uint32_t)strtoul(argv[2], NULL, 10);
        count = strtoull(argv[3], NULL, 10);
        if (size == 0 || count == 0) bench_fail("SIZE and COUNT must not be 0");
        modes[i].run();
        return 0;
    }
    fputs("usage: fastpath MODE SIZE COUNT\n", stderr);
    return 2;
}
