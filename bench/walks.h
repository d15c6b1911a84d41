/*
 * walks.h - what the rows of bench_walks share.
 *
 * A row is a function that runs in a process of its own, on one number of things. It builds them,
 * then makes calls whose cost must not grow with that number, each between walk_begin and walk_end:
 *
 *     build `count` things, untimed    walk_begin  CALL  walk_end    walk_begin  CALL  walk_end ..
 *
 * Kept are the longest call and the sum: of the thread's own time where the call itself is meant,
 * and where it is meant for how long others stand still, also of the time that it slept. The
 * scheduler's time is in neither (watch.h). A window lasts no longer than WATCH_LOOK before a call:
 * so quick calls follow each other as fast as in a program, where time matters to what they do.
 */
#ifndef BENCH_WALKS_H
#define BENCH_WALKS_H

#include "watch.h"

struct walk {
    uint64_t count;
    struct watch_clock clock;
    struct watch watch;
    uint64_t window, began; /* ticks; 0 before the first window */
    uint64_t deadline;      /* nanoseconds of proc_now, 0 before walk_goes_on */
    /* Of all calls; nanoseconds. */
    uint64_t calls, longest, sum;
    uint64_t rate; /* per second, for rows that are about that; else 0 */
};

void walk_begin(struct walk *walk);
/* Own time counts. */
void walk_end(struct walk *walk);
/* Own time counts, and that in which the call slept. */
void walk_end_waiting(struct walk *walk);
/* Add a call that was measured otherwise. */
void walk_add(struct walk *walk, uint64_t nanoseconds);
/* Add what another thread found. */
void walk_merge(struct walk *into, const struct walk *from);
/* Processor time of this thread, in nanoseconds. */
uint64_t walk_cpu(void);
/* False when there has been time enough for measuring: 1.2 s after the first call of this. */
bool walk_goes_on(struct walk *walk);
/* A function of the allocator's own interface, or NULL. */
void *walk_find(const char *name);
/* malloc that must succeed; the first byte is written to if `touch`. */
void *walk_malloc(size_t size, bool touch);
/* malloc and free of such a block, each a call that is measured. */
void walk_pair(struct walk *walk, size_t size);
/* Again and again free `block`, of `size`, after the first word of `freed`, a block that is free,
 * was copied to it: a program may copy bytes that it never wrote. */
void walk_free_stale(struct walk *walk, void *block, const void *freed, size_t size);
/* An array of the test's own, not the allocator's. */
void **walk_table(uint64_t count);

/* ------------------------------------------------------------------ walks_runs.c ------------- */

void walk_free_young(struct walk *walk);
void walk_large_malloc(struct walk *walk);
void walk_huge_malloc(struct walk *walk);
void walk_huge_free(struct walk *walk);
void walk_heap_destroy(struct walk *walk);
void walk_fork(struct walk *walk);

/* ------------------------------------------------------------------ walks_spans.c ------------ */

void walk_stats_beside(struct walk *walk);
void walk_trim_beside(struct walk *walk);
void walk_remote_refill(struct walk *walk);
void walk_sweep(struct walk *walk);
void walk_stale_list(struct walk *walk);

/* ------------------------------------------------------------------ walks_heaps.c ------------ */

void walk_thread_start(struct walk *walk);
void walk_thread_exit(struct walk *walk);
void walk_pool_tick(struct walk *walk);
void walk_stale_heaps(struct walk *walk);
void walk_cache_create(struct walk *walk);
void walk_cache_destroy(struct walk *walk);
void walk_cache_fork(struct walk *walk);

/* ------------------------------------------------------------------ walks_limit.c ------------ */

/* `count` is what is held, in thousandths of the limit. */
void walk_limit(struct walk *walk);

#endif
