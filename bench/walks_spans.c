/*
 * walks_spans.c - rows of bench_walks about many spans of small blocks.
 *
 *     span of 64 KiB    [live][free][live][free] ...      `count` of them
 *
 * In the rows "beside" one thread makes the call that looks at everything, and the longest call of
 * another one that only needs memory is what counts:
 *
 *     main     ====== mallinfo2 ======   ====== mallinfo2 ======
 *     beside   malloc free malloc ...... free malloc free malloc
 */
#include "walks.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

enum {
    SPAN_BYTES = 64 << 10,
    STATS_BLOCK = 32,
    PAGE_BLOCK = 4000, /* 16 in a span */
    LARGE_BLOCK = 32000,
    RUN_BYTES = 100000,
    LOOKS = 5,
    LOOK_MICROSECONDS = 10000,
    LIGHT_MILLISECONDS = 1000,
    TINY_BLOCK = 8,
    TINY_PER_SPAN = SPAN_BYTES / TINY_BLOCK,
};

/* Fill `count` spans, and free every other block. */
static void half_fill(const struct walk *walk, uint32_t size) {
    uint64_t blocks = walk->count * (SPAN_BYTES / size);
    void **table = walk_table(blocks);
    for (uint64_t i = 0; i < blocks; i++) table[i] = walk_malloc(size, true);
    for (uint64_t i = 0; i < blocks; i += 2) free(table[i]);
}

/* ------------------------------------------------------------------ beside ------------------- */

struct beside {
    struct walk walk;
    uint32_t fill; /* its heap has `count` half free spans of blocks of this size; 0: it has none */
    atomic_bool begun, over;
};

static void *use_runs(void *arg) {
    struct beside *beside = arg;
    struct walk *walk = &beside->walk;
    if (beside->fill != 0) half_fill(walk, beside->fill);
    while (!atomic_load_explicit(&beside->over, memory_order_relaxed)) {
        walk_begin(walk);
        void *block = walk_malloc(RUN_BYTES, false);
        walk_end_waiting(walk);
        walk_begin(walk);
        free(block);
        walk_end_waiting(walk);
        atomic_store_explicit(&beside->begun, true, memory_order_relaxed);
    }
    return NULL;
}

static void run_beside(struct walk *walk, uint32_t fill, void (*look)(void)) {
    struct beside beside = {.walk = {.clock = walk->clock, .count = walk->count}, .fill = fill};
    struct bench_threads threads;
    bench_start_threads(&threads, 1, use_runs, &beside, sizeof(beside));
    while (!atomic_load(&beside.begun)) usleep(1000);
    for (int i = 0; i < LOOKS && walk_goes_on(walk); i++) {
        look();
        usleep(LOOK_MICROSECONDS);
    }
    atomic_store(&beside.over, true);
    bench_join_threads(&threads);
    walk_merge(walk, &beside.walk);
}

static void look_at_stats(void) {
    struct mallinfo2 info = mallinfo2();
    bench_escape(&info);
}

static void trim(void) {
    (void)malloc_trim(0);
}

void walk_stats_beside(struct walk *walk) {
    half_fill(walk, STATS_BLOCK);
    run_beside(walk, 0, look_at_stats);
}

/* The memory is the other thread's own: it may be asked to give it back by itself. */
void walk_trim_beside(struct walk *walk) {
    run_beside(walk, PAGE_BLOCK, trim);
}

/* ------------------------------------------------------------------ one thread --------------- */

struct parcel {
    void **blocks;
    uint64_t count;
};

static void *free_all(void *arg) {
    const struct parcel *parcel = arg;
    for (uint64_t i = 0; i < parcel->count; i++) free(parcel->blocks[i]);
    return NULL;
}

void walk_remote_refill(struct walk *walk) {
    struct parcel parcel = {.count = walk->count * (SPAN_BYTES / LARGE_BLOCK)};
    parcel.blocks = walk_table(parcel.count);
    for (uint64_t i = 0; i < parcel.count; i++) parcel.blocks[i] = walk_malloc(LARGE_BLOCK, true);
    bench_run_threads(1, free_all, &parcel, sizeof(parcel));
    for (uint64_t i = 0; i < parcel.count && walk_goes_on(walk); i++) {
        walk_begin(walk);
        (void)walk_malloc(LARGE_BLOCK, false);
        walk_end(walk);
    }
}

void walk_sweep(struct walk *walk) {
    half_fill(walk, PAGE_BLOCK);
    for (int i = 0; i < LIGHT_MILLISECONDS && walk_goes_on(walk); i++) {
        usleep(1000);
        size_t size = i % 2 == 0 ? 100 : RUN_BYTES;
        walk_pair(walk, size);
    }
}

void walk_stale_list(struct walk *walk) {
    uint64_t blocks = 4 * TINY_PER_SPAN, first = TINY_PER_SPAN;
    void **table = walk_table(blocks);
    for (uint64_t i = 0; i < blocks; i++) table[i] = walk_malloc(TINY_BLOCK, true);
    while (((uintptr_t)table[first] ^ (uintptr_t)table[first - 1]) < SPAN_BYTES &&
           first < 2 * TINY_PER_SPAN)
        first++; /* of a span */
    uint64_t count = walk->count < TINY_PER_SPAN - 1 ? walk->count : TINY_PER_SPAN - 1;
    for (uint64_t i = 1; i <= count; i++) free(table[first + i]);
    walk_free_stale(walk, table[first], table[first + count / 2], TINY_BLOCK);
}
